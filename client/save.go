package client

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"flannel/protocol"
)

// savedVersion is the first line's version of what Save writes.
const savedVersion = 1

// maxSavedLine bounds a line in bytes: the largest object has a few KB.
const maxSavedLine = 1 << 20

// savedHead is the first line; an object as the server told it is each of the others.
type savedHead struct {
	Version int             `json:"flannel_client"`
	User    protocol.UserID `json:"user"`
	At      cursor          `json:"at"`
}

// Save writes what a later run needs to go on from here: the place after the last event that Next has returned, and the
// objects. That run, given it as Options.Saved, asks only for objects that have changed, and hears every event since once,
// or a Resync if that was too long ago. Lines of JSON, of at most MaxObjectBytes in all; it is as private as what it
// holds.
//
// Call it where the events have been dealt with, such as between two calls of Next.
func (c *Client) Save(w io.Writer) error {
	buf := bufio.NewWriter(w)
	head := savedHead{Version: savedVersion, User: c.Self(), At: c.queue.position()}
	if err := writeLine(buf, protocol.MustMarshal(head)); err != nil {
		return fmt.Errorf("save client: %w", err)
	}
	var line bytes.Buffer
	for _, o := range c.shelf.all() {
		line.Reset()
		json.Compact(&line, o.raw) //nolint:errcheck // It was decoded once.
		if err := writeLine(buf, line.Bytes()); err != nil {
			return fmt.Errorf("save client: %w", err)
		}
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("save client: %w", err)
	}
	return nil
}

func writeLine(w *bufio.Writer, line []byte) error {
	w.Write(line) //nolint:errcheck // A bufio.Writer keeps its error.
	return w.WriteByte('\n')
}

// restore reads what Save wrote. Nothing of it is trusted without asking, so the worst that a damaged or foreign file
// does is to cost some queries.
func (c *Client) restore(r io.Reader) cursor {
	if r == nil {
		return cursor{}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSavedLine)
	var head savedHead
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || head.Version != savedVersion {
		if err := lines.Err(); err != nil || len(lines.Bytes()) > 0 {
			c.opt.Log.Warn("saved client cannot be used; starting from nothing", "err", err)
		}
		return cursor{}
	}
	damaged := 0
	for lines.Scan() {
		o := decodeObject(append([]byte(nil), lines.Bytes()...))
		if o == nil {
			damaged++
			continue
		}
		c.shelf.put(o, false)
	}
	if err := lines.Err(); err != nil || damaged > 0 {
		c.opt.Log.Warn("saved client is damaged; what is left is used", "objects_lost", damaged, "err", err)
	}
	c.savedFor = head.User
	return head.At
}
