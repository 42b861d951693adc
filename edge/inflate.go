package edge

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// maxOverhead is how much longer than its limit a message may be that is compressed: what is no good for compressing is a few
// bytes longer then.
const maxOverhead = 64

// tail ends each compressed message: the four bytes that the sender left out (RFC 7692, section 7.2.2), and an empty last
// block, at which the reader is at its end.
const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// inflated is a client's compressed message as it was. It is lent: see inflaters.
type inflated struct {
	body   []byte // the message
	reader io.ReadCloser
	source source
}

// inflaters are lent while a message is handled. One has a window of 32 KB, so nobody keeps one.
var inflaters = sync.Pool{New: func() any {
	in := new(inflated)
	in.reader = flate.NewReader(&in.source)
	return in
}}

// maxInflated keeps the buffers of unusually large messages out of the pool.
const maxInflated = 64 << 10

// inflate undoes the compression of a message. Its body may have limit bytes; no more than that is ever inflated. What is
// returned is to be given back.
func inflate(payload []byte, limit int) (*inflated, error) {
	in := inflaters.Get().(*inflated)
	in.source = source{payload, []byte(tail)}
	if err := in.reader.(flate.Resetter).Reset(&in.source, nil); err != nil {
		return nil, errBadFrame
	}
	in.body = in.body[:0]
	for {
		if len(in.body) == cap(in.body) {
			in.body = append(in.body, 0)[:len(in.body)]
		}
		room := in.body[len(in.body):min(cap(in.body), limit+1)]
		n, err := in.reader.Read(room)
		in.body = in.body[:len(in.body)+n]
		switch {
		case len(in.body) > limit:
			in.giveBack()
			return nil, errTooBig
		case errors.Is(err, io.EOF):
			return in, nil
		case err != nil:
			in.giveBack()
			return nil, errBadFrame
		}
	}
}

func (in *inflated) giveBack() {
	in.source = source{}
	if cap(in.body) <= maxInflated {
		inflaters.Put(in)
	}
}

// source reads one part after the other. It has ReadByte, so that flate puts no buffer in front of it.
type source struct{ now, then []byte }

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if !s.more() {
		return 0, io.EOF
	}
	n := copy(p, s.now)
	s.now = s.now[n:]
	return n, nil
}

// ReadByte implements io.ByteReader.
func (s *source) ReadByte() (byte, error) {
	if !s.more() {
		return 0, io.EOF
	}
	b := s.now[0]
	s.now = s.now[1:]
	return b, nil
}

func (s *source) more() bool {
	if len(s.now) == 0 {
		s.now, s.then = s.then, nil
	}
	return len(s.now) > 0
}
