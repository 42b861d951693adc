package reference

import (
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// Config says what the server is about.
type Config struct {
	IDs         []string // of objects
	ObjectBytes int
	BootBytes   int // what somebody is told who boots
}

// Server is the reference.
type Server struct {
	objects  objects
	boot     []byte
	upgrader websocket.FastHTTPUpgrader
	hub      hub
}

// New makes a server with objects in it.
func New(cfg Config) *Server {
	s := &Server{boot: []byte(`{"type":"boot","filler":"` + strings.Repeat("b", cfg.BootBytes) + `"}`)}
	s.hub.conns = make(map[*client]struct{})
	for _, id := range cfg.IDs {
		body := `{"id":"` + id + `","filler":""}`
		body = body[:len(body)-2] + strings.Repeat("o", max(cfg.ObjectBytes-len(body), 0)) + `"}`
		s.objects.put(id, []byte(body))
	}
	return s
}

// Serve answers until the listener is closed.
func (s *Server) Serve(ln net.Listener) error {
	server := &fasthttp.Server{Handler: s.handle, Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	return server.Serve(ln)
}

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	if string(ctx.Path()) == "/publish" {
		message, err := websocket.NewPreparedMessage(websocket.TextMessage, append([]byte(nil), ctx.PostBody()...))
		if err != nil {
			ctx.SetStatusCode(fasthttp.StatusInternalServerError)
			return
		}
		s.hub.publish(message)
		return
	}
	booting := len(ctx.QueryArgs().Peek("boot")) > 0
	if err := s.upgrader.Upgrade(ctx, func(conn *websocket.Conn) { s.serve(conn, booting) }); err != nil {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
	}
}

// hub is who hears of messages.
type hub struct {
	mu    sync.RWMutex
	conns map[*client]struct{}
}

// client is one connection.
type client struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage // capacity 256, as in the libraries' example; closed by the reader
	mu   sync.Mutex                      // held for writing: answers and messages come from two goroutines
}

func (h *hub) publish(m *websocket.PreparedMessage) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for c := range h.conns {
		c.send <- m // Whoever is slow holds all others back: lost messages would flatter the server.
	}
}

func (s *Server) serve(conn *websocket.Conn, booting bool) {
	c := &client{conn: conn, send: make(chan *websocket.PreparedMessage, 256)}
	first := []string{`{"type":"hello"}`}
	if booting {
		first = append(first, string(s.boot), `{"type":"counts"}`)
	}
	for _, frame := range first {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			return
		}
	}
	s.hub.mu.Lock()
	s.hub.conns[c] = struct{}{}
	s.hub.mu.Unlock()
	var writer sync.WaitGroup
	writer.Go(c.write)
	s.read(c)
	conn.Close() //nolint:errcheck // So that the writer only drains.
	s.hub.mu.Lock()
	delete(s.hub.conns, c)
	s.hub.mu.Unlock()
	close(c.send)
	writer.Wait()
}

// write sends messages. After an error it goes on taking them, until the reader has ended too.
func (c *client) write() {
	for m := range c.send {
		c.mu.Lock()
		c.conn.WritePreparedMessage(m) //nolint:errcheck // The reader sees that the connection has ended.
		c.mu.Unlock()
	}
}

// read answers questions.
func (s *Server) read(c *client) {
	var answer []byte
	for {
		_, body, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		answer = s.answer(answer[:0], body)
		c.mu.Lock()
		err = c.conn.WriteMessage(websocket.TextMessage, answer)
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// answer appends the answer to a question. JSON is searched for what is needed, not decoded: decoding would be most of the
// work here.
func (s *Server) answer(b, question []byte) []byte {
	b = append(append(b, `{"reply_to":`...), protocol.Field(question, "id")...)
	b = append(b, `,"ok":true,"results":[`...)
	n := 0
	protocol.EachField(protocol.Field(protocol.Field(question, "args"), "updated_ids"), func(id, _ []byte) bool {
		if object := s.objects.get(string(id)); object != nil {
			if n++; n > 1 {
				b = append(b, ',')
			}
			b = append(b, object...)
		}
		return true
	})
	return append(b, "]}"...)
}
