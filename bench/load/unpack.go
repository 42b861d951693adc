package load

import (
	"bytes"
	"hash/maphash"
	"io"
	"strings"

	"github.com/klauspost/compress/flate"
)

const (
	// unpackMost is how much of a compressed message is inflated: what a boot begins with, and where a stamp stands.
	unpackMost = 1 << 10
	// maxUnpacked is how many messages are remembered: far more than there are in the air.
	maxUnpacked = 1024
)

// unpacker inflates the beginnings of compressed messages. A message to thousands of connections that is the same, byte for byte,
// is inflated once: what is measured is the server, and a client would be on a machine of its own. The zero value is ready to
// use.
type unpacker struct {
	seed   maphash.Seed
	known  map[uint64][]byte // by what they are compressed to
	oldest []uint64          // a ring of known's keys
	next   int
	reader io.ReadCloser
}

// unpack returns the beginning of a message; nil if it is not compressed as it should be.
func (u *unpacker) unpack(payload []byte) []byte {
	if u.known == nil {
		u.seed, u.known, u.reader = maphash.MakeSeed(), make(map[uint64][]byte), flate.NewReader(nil)
	}
	key := maphash.Bytes(u.seed, payload)
	if body, ok := u.known[key]; ok {
		return body
	}
	// The sender has left the last four bytes out (RFC 7692, section 7.2.1); the rest is an empty last block.
	whole := io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	u.reader.(flate.Resetter).Reset(whole, nil) //nolint:errcheck // It never fails.
	body := make([]byte, unpackMost)
	n, err := io.ReadFull(u.reader, body)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil
	}
	body = body[:n]
	if len(u.oldest) < maxUnpacked {
		u.oldest = append(u.oldest, key)
	} else {
		delete(u.known, u.oldest[u.next])
		u.oldest[u.next] = key
		u.next = (u.next + 1) % maxUnpacked
	}
	u.known[key] = body
	return body
}
