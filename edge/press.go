package edge

import (
	"runtime"
	"sync"

	"github.com/klauspost/compress/flate"
)

// press compresses frames for the clients that have agreed on it. Each message stands for itself: no window is kept between
// two, so what an event is to all is compressed once, and an idle session has nothing of it.
type press struct {
	level     int
	threshold int    // in bytes: shorter messages go as they are
	places    places // for what is compressed for one session
	metrics   *metrics
	// presses are lent; those of a client with a window of its own have that, by its bits.
	presses [maxWindow + 1]sync.Pool
}

// compressor is lent for one message.
type compressor struct {
	flate *flate.Writer
	out   []byte
}

// Write implements io.Writer.
func (c *compressor) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	return len(p), nil
}

func newPress(cfg *Config, m *metrics) *press {
	p := &press{level: cfg.CompressionLevel, threshold: cfg.CompressionThreshold, metrics: m}
	p.places.limit.Store(int64(cfg.CompressionParallel))
	if cfg.CompressionParallel == 0 {
		p.places.limit.Store(int64(max(1, runtime.GOMAXPROCS(0)/2)))
	}
	for bits := range p.presses {
		p.presses[bits].New = func() any {
			c := new(compressor)
			// Neither fails: the level was checked, and so were the bits.
			if bits == maxWindow {
				c.flate, _ = flate.NewWriter(c, p.level)
			} else {
				c.flate, _ = flate.NewWriterWindow(c, 1<<bits)
			}
			return c
		}
	}
	return p
}

// pack appends the compressed frame of a text message to dst. It does not, and returns dst, for a message that does not get
// shorter. window is that of the client's inflater, in bits.
func (p *press) pack(dst, payload []byte, window uint8) (frame []byte, packed bool) {
	if len(payload) <= 1<<window { // Nothing in it is further away from anything.
		window = maxWindow
	}
	pool := &p.presses[window]
	c := pool.Get().(*compressor)
	defer pool.Put(c)
	c.out = c.out[:0]
	c.flate.Reset(c)
	// c takes whatever it is given.
	c.flate.Write(payload) //nolint:errcheck // See above.
	c.flate.Flush()        //nolint:errcheck // See above.
	body := c.out[:len(c.out)-len("\x00\x00\xff\xff")]
	if len(body) >= len(payload) {
		return dst, false
	}
	p.metrics.compressedOut.count(len(payload), len(body))
	return append(appendHeader(dst, compressed|opText, len(body)), body...), true
}

// compressed is RSV1, in the first byte of a message's first frame.
const compressed = 0x40

// shrink compresses the frame of a message that stands at the end of buf, from start on, if the client has agreed on it, it
// is long enough, and there is a place: it is not worth waiting for.
func (p *press) shrink(buf []byte, start int, window uint8) []byte {
	payload := payloadOf(buf[start:])
	if window == 0 || len(payload) < p.threshold {
		return buf
	}
	if !p.places.take() {
		p.metrics.pressBusy.Inc()
		return buf
	}
	defer p.places.giveBack()
	opcode := buf[start] & 0xf
	if frame, packed := p.pack(buf[:start], payload, window); packed { // It has read all of payload before it writes.
		frame[start] = 0x80 | compressed | opcode
		return frame
	}
	return buf
}

// payloadOf returns the payload of one of our frames.
func payloadOf(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}
