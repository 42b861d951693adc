package client

import (
	"slices"
	"sync"

	"flannel/protocol"
)

// wants is what the client wants to hear of, whatever the connection: the last word counts, and each connection is told.
type wants struct {
	mu       sync.Mutex
	view     []protocol.ChannelID
	viewSet  bool // there is a view, perhaps an empty one
	presence []protocol.UserID
	views    int // counts changes
	watches  int
}

// told is what one connection was told.
type told struct {
	view     []protocol.ChannelID
	viewSet  bool
	viewSent bool // at least by the address
	views    int
	watches  int
}

func (w *wants) setView(channels []protocol.ChannelID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view, w.viewSet = slices.Clone(channels), true
	w.views++
}

func (w *wants) setPresence(users []protocol.UserID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.presence = slices.Clone(users)
	w.watches++
}

// snapshot is for the address of a connection: it tells the view, but not whose presence is watched.
func (w *wants) snapshot() told {
	w.mu.Lock()
	defer w.mu.Unlock()
	return told{view: w.view, viewSet: w.viewSet, views: w.views}
}

// frames returns what a connection has still to be told.
func (w *wants) frames(t *told) [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var frames [][]byte
	if w.viewSet && (t.views != w.views || !t.viewSent) {
		frames = append(frames, viewFrame(w.view))
	}
	if t.watches != w.watches {
		frames = append(frames, presenceFrame(w.presence))
	}
	t.views, t.watches, t.viewSent = w.views, w.watches, true
	return frames
}

func viewFrame(channels []protocol.ChannelID) []byte {
	return protocol.MustMarshal(struct {
		Type     string               `json:"type"`
		Channels []protocol.ChannelID `json:"channels"`
	}{protocol.FrameView, append([]protocol.ChannelID{}, channels...)})
}

func presenceFrame(users []protocol.UserID) []byte {
	return protocol.MustMarshal(struct {
		Type string            `json:"type"`
		IDs  []protocol.UserID `json:"ids"`
	}{protocol.FramePresenceSub, append([]protocol.UserID{}, users...)})
}
