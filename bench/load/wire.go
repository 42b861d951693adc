package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// Opcodes of RFC 6455.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
	// packed is added to the opcode of a message that is compressed (RFC 7692).
	packed = 0x40
)

// maxFrame bounds what a server may say at once: a full boot of the largest workspace is below it.
const maxFrame = 256 << 20

// nextFrame reads the first frame in b, without copying. op has packed added if it is compressed. size is 0 if it is not whole yet, and below 0 if it is no frame
// that a server may send.
func nextFrame(b []byte) (op byte, payload []byte, size int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	n, head := uint64(b[1]), 2
	switch {
	case n >= 0x80: // Masked: only clients mask.
		return 0, nil, -1
	case n == 126:
		if len(b) < 4 {
			return 0, nil, 0
		}
		n, head = uint64(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127:
		if len(b) < 10 {
			return 0, nil, 0
		}
		n, head = binary.BigEndian.Uint64(b[2:]), 10
	}
	switch {
	case n > maxFrame:
		return 0, nil, -1
	case uint64(len(b)-head) < n:
		return 0, nil, 0
	}
	size = head + int(n)
	return b[0] & (packed | 0xf), b[head:size], size
}

// appendFrame appends a client's frame: masked, as the protocol wants it.
func appendFrame(dst []byte, op byte, mask uint32, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n <= 0xffff:
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], mask)
	dst = append(dst, key[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	body := dst[at:]
	wide := uint64(mask)<<32 | uint64(mask)
	for len(body) >= 8 {
		binary.BigEndian.PutUint64(body, binary.BigEndian.Uint64(body)^wide)
		body = body[8:]
	}
	for i := range body {
		body[i] ^= key[i&3]
	}
	return dst
}

// stampMark begins a stamp. It is long enough not to stand in anything that people say.
const stampMark = "flannel-bench "

const (
	stampNumber = 10 // digits of a message's number
	stampTime   = 19 // digits of its time in nanoseconds
	// StampLen is the length of a stamp.
	StampLen = len(stampMark) + stampNumber + 1 + stampTime
)

// Stamp is what a message's text begins with so that its deliveries can be counted and timed: its number, from 1, and
// when it should have been sent.
func Stamp(n int64, at time.Time) string {
	return fmt.Sprintf("%s%0*d %0*d", stampMark, stampNumber, n, stampTime, at.UnixNano())
}

// readStamp finds a stamp in a frame. hint is where the last one stood: messages of a run look alike.
func readStamp(frame []byte, hint *int) (n, at int64, ok bool) {
	i := *hint
	if i+StampLen > len(frame) || string(frame[i:i+len(stampMark)]) != stampMark {
		if i = bytes.Index(frame, []byte(stampMark)); i < 0 || i+StampLen > len(frame) {
			return 0, 0, false
		}
		*hint = i
	}
	i += len(stampMark)
	return digits(frame[i : i+stampNumber]), digits(frame[i+stampNumber+1 : i+stampNumber+1+stampTime]), true
}

func digits(b []byte) (n int64) {
	for _, c := range b {
		n = n*10 + int64(c-'0')
	}
	return n
}
