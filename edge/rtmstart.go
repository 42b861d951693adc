package edge

import (
	"bufio"
	"bytes"
	"context"
	"io"

	"flannel/protocol"
)

// startPrefix is how the backend begins rtm.start, so that the address can be replaced without reading the rest, which
// is the whole workspace.
var startPrefix = []byte(`{"ok":true,"url":"`)

// rtmStart forwards rtm.start and puts an address of this edge in place of the backend's.
func (e *Edge) rtmStart(c context.Context, call *protocol.Call, id *protocol.Identity, args protocol.Args) (*protocol.Reply, error) {
	reply, err := e.forward(c, "http", call, id.User)
	if err != nil || reply.Status != 200 {
		return reply, err
	}
	var src io.Reader = bytes.NewReader(reply.Body)
	var closer io.Closer = io.NopCloser(nil)
	if reply.Stream != nil {
		src, closer = reply.Stream, reply.Stream
	}
	// 4 KB: the address is within the first few hundred bytes.
	r := bufio.NewReaderSize(src, 4<<10)
	head, _ := r.Peek(4 << 10) // A short answer is looked at all the same.
	if bytes.HasPrefix(head, startPrefix) {
		end := bytes.IndexByte(head[len(startPrefix):], '"')
		if end >= 0 {
			args[argToken] = call.Token
			args[argMethod] = call.Method
			url, err := e.URL(*id, args, call.Host, false)
			if err != nil {
				closer.Close() //nolint:errcheck // The answer is given up.
				return nil, err
			}
			begin := protocol.AppendString(startPrefix[:len(startPrefix)-1:len(startPrefix)-1], url)
			begin = begin[:len(begin)-1] // its closing quote is in the answer
			if _, err := r.Discard(len(startPrefix) + end); err != nil {
				closer.Close() //nolint:errcheck // As above.
				return nil, err
			}
			reply.Body, reply.Stream = nil, rewritten{io.MultiReader(bytes.NewReader(begin), r), closer}
			return reply, nil
		}
	}
	reply.Body, reply.Stream = nil, rewritten{r, closer}
	return reply, nil
}

// rewritten is a stream with another beginning.
type rewritten struct {
	io.Reader
	io.Closer
}
