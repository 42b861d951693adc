package sim_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// client is a program of one user: a socket, and calls beside it. What it does runs in goroutines of its own; the world
// waits for them.
type client struct {
	w    *world
	name string
	user protocol.UserID
	thin bool

	mu   sync.Mutex
	view *view
	node *edgeNode // where it is, or goes next
	conn *websocket.Conn
	// resume is the last token that the server named; lost: the client forgot it, and begins anew.
	resume  string
	opening bool
	asked   int
	// ticketed, if a script has set it, is called between the ticket and the socket.
	ticketed func()
	// waiting are queries on the socket, by id.
	waiting map[int]func(raw []byte)
}

func newClient(w *world, name string, user protocol.UserID, thin bool, n *edgeNode) *client {
	return &client{w: w, name: name, user: user, thin: thin, node: n, view: newView(w, name, user, thin), waiting: make(map[int]func([]byte))}
}

// onTheWay is how long a frame may have been on its way, with all stalls.
const onTheWay = 6 * time.Second

// patience is how long a client waits for an answer.
const patience = 40 * time.Second

// post sends one HTTP request to the client's node, over a connection of its own.
func (c *client) post(n *edgeNode, path, contentType string, body []byte, token string) (status int, stale bool, at protocol.Position, answer []byte, err error) {
	h := fasthttp.HostClient{
		Addr: "edge:80", MaxConns: 1, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
		DialTimeout: func(string, time.Duration) (net.Conn, error) { return n.dial(context.Background(), c.name) },
		RetryIfErr:  func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://edge" + path)
	req.Header.SetMethod("POST")
	req.Header.SetContentType(contentType)
	req.Header.Set("Authorization", "Bearer "+token)
	req.SetConnectionClose()
	req.SetBodyRaw(body)
	if err := h.DoTimeout(req, resp, patience); err != nil {
		return 0, false, 0, nil, err
	}
	p, _ := strconv.ParseUint(string(resp.Header.Peek(protocol.HeaderPosition)), 10, 64)
	return resp.StatusCode(), len(resp.Header.Peek(protocol.HeaderStale)) > 0, protocol.Position(p), append([]byte(nil), resp.Body()...), nil
}

// call calls a Web API method.
func (c *client) call(n *edgeNode, token, method string, args url.Values) (stale bool, at protocol.Position, raw []byte, ok bool) {
	_, stale, at, raw, err := c.post(n, "/api/"+method, "application/x-www-form-urlencoded", []byte(args.Encode()), token)
	if err != nil {
		c.w.count("call lost")
		return false, 0, nil, false
	}
	c.w.answered(raw)
	return stale, at, raw, true
}

// write does a forwarded call. The client's own later reads know of it.
func (c *client) write(method string, args url.Values) {
	n, token, v := c.where()
	_, at, raw, ok := c.call(n, token, method, args)
	if !ok || string(protocol.Field(raw, "ok")) != "true" {
		return
	}
	v.mu.Lock()
	v.wrote[n] = max(v.wrote[n], at)
	v.mu.Unlock()
}

// where is the client's node, token and view of this moment.
func (c *client) where() (*edgeNode, string, *view) {
	c.w.back.mu.Lock()
	token := c.w.back.accounts[c.user].token
	c.w.back.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node, token, c.view
}

// connect opens the socket, unless it is open.
func (c *client) connect() {
	c.mu.Lock()
	if c.conn != nil || c.opening {
		c.mu.Unlock()
		return
	}
	c.opening = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.opening = false
		c.mu.Unlock()
	}()
	n, token, v := c.where()
	boot := v.reading(n, token, "boot")
	boot.silent = true
	address, resumed := "", ""
	if c.thin {
		c.mu.Lock()
		resumed = c.resume
		c.mu.Unlock()
		address = "ws://edge/?token=" + token + c.viewParam() + "&flannel=3&lazy_channels=1&batch_presence_aware=1&no_query_on_subscribe=1&boot=1"
		if resumed != "" {
			address += "&resume=" + url.QueryEscape(resumed)
		}
	} else {
		_, _, raw, ok := c.call(n, token, "rtm.connect", nil)
		if !ok || text(raw, "url") == "" {
			return
		}
		address = strings.ReplaceAll(text(raw, "url"), `\/`, "/")
		if c.ticketed != nil {
			c.ticketed()
		}
	}
	dialer := websocket.Dialer{
		NetDialContext:   func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dial(ctx, c.name) },
		HandshakeTimeout: patience,
	}
	conn, resp, err := dialer.Dial(address, nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		c.w.count("socket refused")
		return
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	c.w.spawn(func() { c.read(conn, v, n, resumed, boot) })
}

// read hands the socket's frames to the view until the socket ends.
func (c *client) read(conn *websocket.Conn, v *view, n *edgeNode, resumed string, boot *reading) {
	defer func() {
		_ = conn.Close()
		v.closed()
		c.mu.Lock()
		if c.conn == conn {
			c.conn = nil
			c.waiting = make(map[int]func([]byte))
		}
		c.mu.Unlock()
	}()
	greeted := false
	for {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			if code, ok := closeCode(err); ok {
				c.w.count("closed " + protocol.CloseCode(code).String())
				if code == int(protocol.CloseResync) || code == int(protocol.CloseSlow) {
					c.w.note("%s was told to resync", c.name)
				}
			}
			return
		}
		c.w.trace(c.name, raw)
		if !greeted {
			if text(raw, "type") != protocol.FrameHello {
				c.w.count("not greeted " + string(protocol.Field(raw, "type")))
				continue
			}
			var h protocol.Hello
			if err := json.Unmarshal(raw, &h); err != nil {
				v.fail("hello %s: %v", raw, err)
			}
			greeted = true
			c.token(v, h.ResumeToken)
			v.hello(n, &h, resumed)
			continue
		}
		c.frame(raw, v, n, boot)
	}
}

func closeCode(err error) (int, bool) {
	ce, ok := err.(*websocket.CloseError) //nolint:errorlint // It is never wrapped.
	if !ok {
		return 0, false
	}
	return ce.Code, true
}

func (c *client) token(v *view, token string) {
	if token == "" {
		return
	}
	if _, err := protocol.ParseResumeToken(token); err != nil {
		v.fail("resume token %q: %v", token, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resume = token
}

func (c *client) frame(raw []byte, v *view, n *edgeNode, boot *reading) {
	if v.frame(raw) {
		return
	}
	switch text(raw, "type") {
	case protocol.FramePong:
		c.token(v, text(raw, "resume_token"))
	case protocol.FrameBoot, protocol.FrameCounts:
		c.booted(boot, raw)
	case protocol.FrameObjects:
		_, token, _ := c.where()
		r := v.reading(n, token, "objects before an event")
		r.silent, r.held = true, nil
		r.heard, r.began = 0, c.w.back.positionAt(time.Now().Add(-onTheWay))
		for _, kind := range []string{"users", "channels", "bots"} {
			list := shownIn(protocol.Field(raw, kind))
			r.objects(list)
			v.mu.Lock()
			for _, s := range list {
				v.given = append(v.given, s.ID)
			}
			v.mu.Unlock()
		}
	case protocol.FrameBadge:
		c.badge(raw, v)
	case protocol.FrameUserTyping:
		c.typing(raw, v)
	}
	if id, err := strconv.Atoi(string(protocol.Field(raw, "reply_to"))); err == nil {
		c.mu.Lock()
		done := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		if done != nil {
			done(raw)
		}
	}
}

// viewParam is the client's view as its address names it.
func (c *client) viewParam() string {
	if c.view.screen == nil {
		return ""
	}
	list := "&view="
	for _, ch := range c.view.screen {
		list += string(ch) + ","
	}
	return list
}

// badge is not sent to those who are not in the channel.
func (c *client) badge(raw []byte, v *view) {
	var f protocol.BadgeFrame
	if err := json.Unmarshal(raw, &f); err != nil {
		v.fail("badge %s: %v", raw, err)
	}
	b := c.w.back
	from := b.positionAt(time.Now().Add(-onTheWay))
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ever(from, b.position, func(p protocol.Position) bool { return b.memberLocked(v.user, f.Channel, p) }) {
		v.fail("LEAK: a badge of %s, and was not in it from %d to %d", f.Channel, from, b.position)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.badges[f.Channel] = f
}

// typing is not told to those who are not in the channel.
func (c *client) typing(raw []byte, v *view) {
	ch := protocol.ChannelID(text(raw, "channel"))
	v.mu.Lock()
	v.given = nil // They were for this.
	v.mu.Unlock()
	b := c.w.back
	heard := b.positionAt(time.Now().Add(-onTheWay))
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ever(heard, b.position, func(p protocol.Position) bool { return b.memberLocked(v.user, ch, p) }) {
		v.fail("LEAK: heard of typing in %s, and was not in it from %d to %d", ch, heard, b.position)
	}
}

// booted checks what the boot frames say, and lets the client believe it.
func (c *client) booted(r *reading, raw []byte) {
	var told []protocol.ChannelID
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		r.fail("boot %s: %v", raw, err)
		return
	}
	for _, list := range []json.RawMessage{a.Channels, a.IMs, a.MPIMs} {
		for _, s := range idsIn(list) {
			told = append(told, protocol.ChannelID(s))
		}
	}
	r.own(told)
	r.objects(shownIn(a.Channels))
	if text(raw, "type") != protocol.FrameCounts {
		return // A boot leaves out nothing that counts do not.
	}
	r.v.mu.Lock()
	defer r.v.mu.Unlock()
	if r.v.channels == nil && r.v.again == 0 {
		r.v.channels = make(map[protocol.ChannelID]bool)
		for _, ch := range told {
			r.v.channels[ch] = true
		}
	}
}

func idsIn(raw json.RawMessage) (ids []string) {
	var list []struct {
		ID string `json:"id"`
	}
	if raw != nil && json.Unmarshal(raw, &list) == nil {
		for _, e := range list {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// send puts a frame on the socket, if there is one.
func (c *client) send(frame fields) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return false
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	return c.conn.WriteMessage(websocket.TextMessage, protocol.MustMarshal(frame)) == nil
}

// drop loses the socket: politely, or as a dead network does.
func (c *client) drop(rnd *rand.Rand) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return
	}
	if rnd.IntN(2) == 0 {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
	}
	if e, ok := conn.NetConn().(*end); ok {
		e.pipe.cut()
	}
	_ = conn.Close()
}

// connected reports whether a socket is open.
func (c *client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// move lets the client go to another node; with forget it begins anew there.
func (c *client) move(n *edgeNode, forget bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node = n
	if forget || !c.thin {
		c.resume = ""
	}
}
