package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// edit replaces a text that stands exactly once in a file.
type edit struct{ file, old, new string }

// mutation is one deliberate bug.
type mutation struct {
	name  string
	edits []edit
}

// patch returns the files that the bug changes, by their names below root, as they are with it.
func (m *mutation) patch(root string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, e := range m.edits {
		text, seen := files[e.file]
		if !seen {
			var err error
			if text, err = os.ReadFile(filepath.Join(root, e.file)); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			return nil, fmt.Errorf("%s has the text %d times, not once: %q", e.file, n, e.old)
		}
		files[e.file] = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	}
	return files, nil
}

// plant writes the patched files into dir, and the overlay that lays them over the real ones.
func (m *mutation) plant(root, dir string) (overlay string, err error) {
	files, err := m.patch(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, text := range files {
		patched := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(patched, text, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = patched
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, raw, 0o600)
}
