package edge

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"flannel/protocol"
)

// Opcodes of websocket frames (RFC 6455, section 5.2).
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xA
)

// Why a client's bytes are not read on.
var (
	errTooBig    = errors.New("the message is larger than the limit")
	errBadFrame  = errors.New("the frame is against RFC 6455")
	errSaidClose = errors.New("the client sent a close frame")
)

// closeCodeOf returns the code that tells a client why its bytes are not read on; 0 if that is not its fault.
func closeCodeOf(err error) protocol.CloseCode {
	switch {
	case errors.Is(err, errTooBig):
		return protocol.CloseTooBig
	case errors.Is(err, errBadFrame):
		return protocol.CloseProtocol
	}
	return 0
}

// maxHeader is the size of the largest header of a client's frame: two bytes, a length of eight, a mask of four.
const maxHeader = 14

// intake takes a client's messages out of the bytes that were read, wherever those begin and end. It keeps nothing between
// two messages. The zero value, but for limit, is ready to use; it is not safe for concurrent use.
type intake struct {
	limit   int    // of a message in bytes
	kind    byte   // opcode of the message whose first frames are in parts; 0 if there is none
	deflate bool   // messages may be compressed
	packed  bool   // the message in parts, or the one that next has returned, is
	parts   []byte // what has come of that message
}

// next takes the first frame from data, which it unmasks in place. n is its size; 0: it is not whole, and needs more bytes
// in all. op is 0 for a frame that does not end its message. payload is good until the next call.
func (in *intake) next(data []byte) (op byte, payload []byte, n, needs int, err error) {
	if len(data) < 2 {
		return 0, nil, 0, maxHeader, nil
	}
	op, final := data[0]&0xf, data[0]&0x80 != 0
	size, head := uint64(data[1]&0x7f), 2
	switch {
	case data[0]&0x70 != 0 && !in.mayPack(data[0]), data[1]&0x80 == 0: // an extension that was not agreed on; not masked
		return 0, nil, 0, 0, errBadFrame
	case op >= opClose && (op > opPong || !final || size > 125):
		return 0, nil, 0, 0, errBadFrame
	case op > opBinary && op < opClose, op == opContinue && in.kind == 0, (op == opText || op == opBinary) && in.kind != 0:
		return 0, nil, 0, 0, errBadFrame
	case size == 126:
		if head = 4; len(data) >= head {
			size = uint64(binary.BigEndian.Uint16(data[2:]))
		}
	case size == 127:
		if head = 10; len(data) >= head {
			size = binary.BigEndian.Uint64(data[2:])
		}
	}
	if len(data) < head {
		return 0, nil, 0, maxHeader, nil
	}
	if op == opText || op == opBinary {
		in.packed = data[0]&compressed != 0
	}
	limit := in.limit
	if in.packed {
		limit += maxOverhead
	}
	if op < opClose && size > uint64(limit-len(in.parts)) {
		return 0, nil, 0, 0, errTooBig
	}
	if n = head + 4 + int(size); len(data) < n {
		return 0, nil, 0, n, nil
	}
	payload = data[head+4 : n]
	unmask(payload, [4]byte(data[head:head+4]))
	if op >= opClose {
		return op, payload, n, 0, nil
	}
	if op != opContinue {
		in.kind = op
	}
	if !final || op == opContinue {
		in.parts = append(in.parts, payload...)
	}
	if !final {
		return 0, nil, n, 0, nil
	}
	if op == opContinue {
		payload = in.parts
	}
	op, in.kind, in.parts = in.kind, 0, nil
	return op, payload, n, 0, nil
}

// mayPack reports whether a frame with this first byte may have the bits of extensions that it has: that of compression, in the
// first frame of a message (RFC 7692, section 6).
func (in *intake) mayPack(first byte) bool {
	op := first & 0xf
	return in.deflate && first&0x70 == compressed && (op == opText || op == opBinary)
}

// unmask undoes a client's masking (RFC 6455, section 5.3), eight bytes at a time.
func unmask(payload []byte, mask [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(mask[:]))
	word |= word << 32
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^word)
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
}

// closeNone stands for a close frame without a code (RFC 6455, section 7.4.1). It may not be sent.
const closeNone protocol.CloseCode = 1005

// sendable returns the code that answers a close frame with code.
func sendable(code protocol.CloseCode) protocol.CloseCode {
	if code == closeNone {
		return protocol.CloseNormal
	}
	return code
}

// closeIn reads the code in the payload of a close frame.
func closeIn(payload []byte) (protocol.CloseCode, error) {
	if len(payload) == 0 {
		return closeNone, nil
	}
	if len(payload) == 1 || !utf8.Valid(payload[2:]) {
		return 0, errBadFrame
	}
	code := binary.BigEndian.Uint16(payload)
	// Registered ones that may be sent, and those that are free to use (section 7.4).
	if code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999 {
		return protocol.CloseCode(code), nil
	}
	return 0, errBadFrame
}
