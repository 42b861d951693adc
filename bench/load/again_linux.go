package load

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// againWithin bounds the random wait of a connection that was not told when to come back.
const againWithin = int64(2 * time.Second)

// refused is end for a connection that the server does not want now: with Again it comes back after wait, in nanoseconds; 0 if
// the server did not say.
func (l *loop) refused(c *conn, wait int64, why string, args ...any) {
	o := l.opening
	if o == nil || !o.Again || l.closing || c.state >= stateIn {
		l.end(c, why, args...)
		return
	}
	if c.fd >= 0 {
		delete(l.byFD, c.fd)
		unix.Close(c.fd) //nolint:errcheck // It is gone either way.
		c.fd = -1
	}
	if wait == 0 {
		wait = rand.Int64N(againWithin) //nolint:gosec // A load, not a secret.
	}
	c.state, c.rest, c.out, c.again = stateWaiting, nil, nil, now()+wait
	l.report.Counts.Turned++
	o.air--
	at, _ := slices.BinarySearchFunc(o.waiting, c.again, func(w *conn, again int64) int { return cmp.Compare(w.again, again) })
	o.waiting = slices.Insert(o.waiting, at, c)
}

// giveUp ends a connection that has no patience left.
func (l *loop) giveUp(o *opening, c *conn, why string, args ...any) {
	if i := slices.Index(o.waiting, c); i >= 0 {
		o.waiting = slices.Delete(o.waiting, i, i+1)
	}
	l.end(c, why, args...)
}

// retryAfter is what the header of that name says, in nanoseconds; 0 if it says nothing.
func retryAfter(head []byte) int64 {
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("retry-after")) {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(value))); err == nil {
				return int64(n) * int64(time.Second)
			}
		}
	}
	return 0
}

// retryMS is what a close frame says, in nanoseconds; 0 if it says nothing.
func retryMS(payload []byte) int64 {
	var reason struct {
		RetryMS int64 `json:"retry_ms"`
	}
	if len(payload) < 2 || json.Unmarshal(payload[2:], &reason) != nil {
		return 0
	}
	return reason.RetryMS * int64(time.Millisecond)
}
