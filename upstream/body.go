package upstream

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/valyala/fasthttp"
)

// body is the answer to a forwarded call: what was read ahead of it, and then what comes.
type body struct {
	start []byte
	r     io.Reader // nil if there is no body
	// length is what the header says; -1 chunked, below that: up to the connection's end.
	length, read int

	once sync.Once
	resp *fasthttp.Response
}

// newBody takes over resp.
func newBody(resp *fasthttp.Response) *body {
	return &body{resp: resp, r: resp.BodyStream(), length: resp.Header.ContentLength()}
}

// head reads up to limit bytes and reports whether that is all of it.
func (b *body) head(limit int) (head []byte, whole bool, err error) {
	if b.r == nil {
		return nil, true, nil
	}
	size := min(4<<10, limit+1)
	if b.length >= 0 {
		size = min(b.length, limit) + 1 // One more, to meet the end without growing.
	}
	head = make([]byte, 0, size)
	for len(head) <= limit {
		if len(head) == cap(head) {
			head = append(head, 0)[:len(head)]
		}
		n, err := b.next(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if errors.Is(err, io.EOF) {
			return head, true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return head, false, nil
}

// next reads from the connection. The HTTP client takes a connection's end between two chunks for the body's end; an
// answer that was cut off ends in errCutOff here.
func (b *body) next(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.read += n
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		conn := connOf(b.resp)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF),
			b.length >= 0 && b.read < b.length,
			b.length == -1 && conn != nil && conn.ended.Load():
			b.resp.SetConnectionClose() // Not to be used again.
			return n, errCutOff
		}
		return n, io.EOF
	}
	return n, err
}

var errCutOff = errors.New("the answer was cut off")

// Read implements io.Reader. An answer that was cut off ends in an error that is not io.EOF.
func (b *body) Read(p []byte) (int, error) {
	if len(b.start) > 0 {
		n := copy(p, b.start)
		b.start = b.start[n:]
		return n, nil
	}
	if b.r == nil {
		return 0, io.ErrClosedPipe
	}
	n, err := b.next(p)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("read the backend's answer: %w", err)
	}
	return n, err
}

// Close gives the connection back, or ends it if the answer was not read to its end. It may be called more than once,
// but not while a Read runs.
func (b *body) Close() error {
	b.once.Do(func() {
		_ = b.resp.CloseBodyStream()
		fasthttp.ReleaseResponse(b.resp)
		b.start, b.r = nil, nil
	})
	return nil
}
