package upstream

import (
	"sync"

	"flannel/protocol"
)

const (
	// maxArrived and maxArrivedBytes bound what is read ahead of the loop, as frames and as bytes on the wire; one frame of any
	// size is always taken. When there is no room the reader stops reading, and the backend feels it. It is as much as one
	// busy channel says while a message goes to thousands of sessions: those that wait go to each of them in one go.
	maxArrived      = 256
	maxArrivedBytes = 4 << 20
)

// inbox is what has been read from the stream and not been looked at yet: one goroutine puts frames in, another takes them.
type inbox struct {
	// ready tells the loop that there is something. Capacity 1; never closed.
	ready chan struct{}
	// room tells the reader that frames were taken. Capacity 1; never closed.
	room chan struct{}

	mu     sync.Mutex
	frames []protocol.StreamFrame
	bytes  int
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put adds a frame of a size, when there is room. It reports false if ended is closed first.
func (in *inbox) put(f *protocol.StreamFrame, size int, ended <-chan struct{}) bool {
	for !in.offer(f, size) {
		select {
		case <-in.room:
		case <-ended:
			return false
		}
	}
	select {
	case in.ready <- struct{}{}:
	default: // The loop has been told, and has not looked yet.
	}
	return true
}

func (in *inbox) offer(f *protocol.StreamFrame, size int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if n := len(in.frames); n > 0 && (n >= maxArrived || in.bytes+size > maxArrivedBytes) {
		return false
	}
	in.frames = append(in.frames, *f)
	in.bytes += size
	return true
}

// take returns what is there, in order; the slice before, which is empty now, is used again.
func (in *inbox) take(before []protocol.StreamFrame) []protocol.StreamFrame {
	clear(before) // Not to keep events alive.
	in.mu.Lock()
	frames := in.frames
	in.frames, in.bytes = before[:0], 0
	in.mu.Unlock()
	select {
	case in.room <- struct{}{}:
	default: // The reader has been told, or does not wait.
	}
	return frames
}
