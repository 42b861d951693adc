package slackexport

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Limits on what an archive may hold.
const (
	// maxFile bounds one file after decompression. The largest seen are users.json of 150,000 people (300 MB is twice
	// that) and day files of very busy channels.
	maxFile = 300 << 20
	// maxTotal bounds all files together after decompression: a zip bomb stops here.
	maxTotal = 64 << 30
	// maxRatio is the compression ratio above which a large file is taken for a bomb: JSON of chats reaches 30.
	maxRatio = 200
)

// errTooLarge means that a file is over its limit.
var errTooLarge = errors.New("file is too large")

// archive is an opened export. It is used by one goroutine.
type archive struct {
	fsys  fs.FS
	close func() error
	left  int64 // bytes that may still be read
	skip  func(name string, err error)
	sizes map[string]*zip.File // zip only
}

// openArchive opens a zip or a folder. Entries that leave the archive are reported to skip.
func openArchive(name string, skip func(name string, err error)) (*archive, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	a := &archive{left: maxTotal, skip: skip, close: func() error { return nil }}
	if info.IsDir() {
		root, err := os.OpenRoot(name) // does not follow links out of the folder
		if err != nil {
			return nil, err
		}
		a.fsys, a.close = root.FS(), root.Close
	} else {
		z, err := zip.OpenReader(name)
		if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
			return nil, fmt.Errorf("open %q as a zip archive: %w", name, err)
		}
		a.fsys, a.close = z, z.Close
		a.sizes = make(map[string]*zip.File, len(z.File))
		for _, f := range z.File {
			a.sizes[strings.TrimSuffix(f.Name, "/")] = f
			if clean := strings.TrimSuffix(f.Name, "/"); !fs.ValidPath(clean) {
				skip(f.Name, errors.New("its path leaves the archive"))
			}
		}
	}
	return a, a.enter()
}

// enter steps into the only folder of archives that were zipped with one.
func (a *archive) enter() error {
	if _, err := fs.Stat(a.fsys, "users.json"); err == nil {
		return nil
	}
	if _, err := fs.Stat(a.fsys, "channels.json"); err == nil {
		return nil
	}
	entries, err := fs.ReadDir(a.fsys, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if _, err := fs.Stat(a.fsys, path.Join(e.Name(), "channels.json")); err == nil {
			sub, err := fs.Sub(a.fsys, e.Name())
			if err != nil {
				return err
			}
			a.fsys = sub
			sizes := make(map[string]*zip.File, len(a.sizes))
			for name, f := range a.sizes {
				if rest, ok := strings.CutPrefix(name, e.Name()+"/"); ok {
					sizes[rest] = f
				}
			}
			a.sizes = sizes
			return nil
		}
	}
	return errors.New("this is no Slack export: there is neither users.json nor channels.json in it")
}

// read returns the elements of a file that holds a JSON array. A file that is missing gives nil; one that is damaged is
// reported and gives nil.
func (a *archive) read(name string) []json.RawMessage {
	body, err := a.bytes(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var elements []json.RawMessage
	if err == nil {
		err = json.Unmarshal(body, &elements)
	}
	if err != nil {
		a.skip(name, err)
		return nil
	}
	return elements
}

func (a *archive) bytes(name string) ([]byte, error) {
	if f := a.sizes[name]; f != nil && f.UncompressedSize64 > 1<<20 && f.UncompressedSize64 > maxRatio*max(f.CompressedSize64, 1) {
		return nil, fmt.Errorf("%w: %d bytes out of %d compressed", errTooLarge, f.UncompressedSize64, f.CompressedSize64)
	}
	f, err := a.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // Only read.
	limit := min(maxFile, a.left)
	body, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: the limit is %d bytes", errTooLarge, limit)
	}
	a.left -= int64(len(body))
	return body, nil
}

// days lists the day files of a conversation's folder in order.
func (a *archive) days(folder string) []string {
	if folder == "" || !fs.ValidPath(folder) {
		return nil
	}
	entries, err := fs.ReadDir(a.fsys, folder)
	if err != nil {
		return nil // no messages in this conversation
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".json") && e.Name() != "canvas_in_the_conversation.json" {
			names = append(names, path.Join(folder, e.Name()))
		}
	}
	slices.Sort(names)
	return names
}
