package synth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// Backend answers for a World.
type Backend struct {
	// Static after New.
	world   World
	key     string
	members [][]int32
	ln      net.Listener
	server  *fasthttp.Server
	arrived chan struct{} // closed when the first stream is open

	calls      atomic.Int64 // loads and forwarded calls
	arriveOnce sync.Once

	// mu guards what follows. It is held while frames are queued, so that all streams hear the same order.
	mu       sync.Mutex
	position protocol.Position
	topics   map[protocol.Topic]topicState // those that had events
	streams  map[*stream]struct{}
}

// topicState is how far a topic is.
type topicState struct {
	seq      protocol.Seq
	position protocol.Position
}

// New makes the world and listens on a free port of loopback.
func New(w World) (*Backend, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Backend{
		world: w, key: "bench-" + rand.Text(), members: w.members(), ln: ln, arrived: make(chan struct{}),
		position: 1, topics: make(map[protocol.Topic]topicState), streams: make(map[*stream]struct{}),
	}
	b.server = &fasthttp.Server{
		Handler: b.serve, MaxRequestBodySize: 8 << 20, NoDefaultServerHeader: true, ReadBufferSize: 16 << 10,
		Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // Clients that go away are no news.
	}
	return b, nil
}

// URL is the base URL of the contract, Key the service key.
func (b *Backend) URL() string { return "http://" + b.ln.Addr().String() }

// Key is the service key.
func (b *Backend) Key() string { return b.key }

// Calls is how many loads and forwarded calls there were.
func (b *Backend) Calls() int64 { return b.calls.Load() }

// Serve answers until Close.
func (b *Backend) Serve() error { return b.server.Serve(b.ln) }

// Close ends everything.
func (b *Backend) Close() error {
	b.mu.Lock()
	for s := range b.streams {
		s.end()
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := b.server.ShutdownWithContext(ctx)
	b.ln.Close() //nolint:errcheck // It may never have been served.
	return err
}

// WaitEdge waits until an edge has opened its stream.
func (b *Backend) WaitEdge(ctx context.Context) error {
	select {
	case <-b.arrived:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the edge's stream: %w", ctx.Err())
	}
}

func (b *Backend) serve(ctx *fasthttp.RequestCtx) {
	if string(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) != "Bearer "+b.key {
		refuse(ctx, fasthttp.StatusUnauthorized, protocol.CodeNotAuthed)
		return
	}
	name, ok := strings.CutPrefix(string(ctx.Path()), protocol.UpstreamPath)
	if !ok {
		refuse(ctx, fasthttp.StatusNotFound, protocol.CodeUnknownMethod)
		return
	}
	if name == protocol.CallStream {
		b.serveStream(ctx)
		return
	}
	b.calls.Add(1)
	if method, ok := strings.CutPrefix(name, protocol.CallForward+"/"); ok {
		ctx.SetBody(protocol.ErrorBody(protocol.Errorf(protocol.CodeUnknownMethod, "nobody is behind this backend to answer %s", method)))
		return
	}
	answer, err := b.load(name, ctx.PostBody())
	switch {
	case err != nil:
		refuse(ctx, fasthttp.StatusBadRequest, protocol.CodeInvalidJSON)
	case answer == nil:
		refuse(ctx, fasthttp.StatusNotFound, protocol.CodeUnknownMethod)
	default:
		ctx.SetContentType("application/json")
		ctx.SetBody(protocol.MustMarshal(answer))
	}
}

func refuse(ctx *fasthttp.RequestCtx, status int, code protocol.Code) {
	ctx.SetStatusCode(status)
	ctx.SetBody(protocol.MustMarshal(protocol.ErrorAnswer{Error: code}))
}

// load answers a load; nil if there is none of that name, or nothing of what it is about.
func (b *Backend) load(name string, body []byte) (any, error) {
	// Nothing changes but the last message of channel 0.
	b.mu.Lock()
	position, said := b.position, b.topics[protocol.Topic(Channel(0))].seq
	b.mu.Unlock()
	switch name {
	case protocol.CallIdentify:
		var req protocol.IdentifyRequest
		err := json.Unmarshal(body, &req)
		answer := protocol.IdentifyAnswer{Position: position, Identities: make([]protocol.Identity, len(req.Tokens))}
		for i, token := range req.Tokens {
			answer.Identities[i] = b.world.identity(token)
		}
		return answer, err
	case protocol.CallBoot:
		var req protocol.BootRequest
		err := json.Unmarshal(body, &req)
		answer := protocol.BootAnswer{Position: position, Users: make([]protocol.UserBoot, len(req.Users))}
		for i, id := range req.Users {
			answer.Users[i] = b.world.boot(id, said)
		}
		return answer, err
	case protocol.CallObjects:
		var req protocol.ObjectsRequest
		err := json.Unmarshal(body, &req)
		answer := protocol.ObjectsAnswer{Position: position, Objects: make([]protocol.Object, 0, len(req.IDs))}
		seen := make(map[protocol.ObjectID]bool, len(req.IDs))
		for _, id := range req.IDs {
			if seen[id] {
				continue
			}
			seen[id] = true
			if o, ok := b.world.object(id); ok {
				answer.Objects = append(answer.Objects, o)
			} else {
				answer.Missing = append(answer.Missing, id)
			}
		}
		return answer, err
	case protocol.CallMembers:
		return b.page(body, position)
	case protocol.CallList:
		var req protocol.ListRequest
		err := json.Unmarshal(body, &req)
		answer := protocol.ListAnswer{Position: position}
		answer.Entries, answer.NextCursor = b.world.list(&req)
		return answer, err
	case protocol.CallReplay:
		return b.replay(body, position)
	default:
		return nil, nil //nolint:nilnil // See above.
	}
}

func (b *Backend) page(body []byte, position protocol.Position) (any, error) {
	var req protocol.MembersRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	n, ok := number(req.Channel, 'C', b.world.Channels)
	if !ok {
		return nil, nil //nolint:nilnil // There is no such channel.
	}
	all := b.members[n]
	answer := protocol.MembersAnswer{Position: position, Total: len(all), Users: []protocol.UserID{}}
	for _, u := range all {
		id := User(int(u))
		if id <= req.Cursor {
			continue
		}
		if len(answer.Users) == req.Limit {
			answer.NextCursor = answer.Users[len(answer.Users)-1]
			break
		}
		answer.Users = append(answer.Users, id)
	}
	return answer, nil
}

// replay knows no events: a topic that had some is gone.
func (b *Backend) replay(body []byte, position protocol.Position) (any, error) {
	var req protocol.ReplayRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, err
	}
	answer := protocol.ReplayAnswer{Position: position, Events: []*protocol.Event{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range req.Topics {
		if had, ok := b.topics[t.Topic]; ok && t.Position != nil && had.position > *t.Position {
			answer.Gone = append(answer.Gone, t.Topic)
		}
	}
	return answer, nil
}
