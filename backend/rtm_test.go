package backend_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/backend"
	"flannel/protocol"
)

func TestRTM_HelloPingAndAck(t *testing.T) {
	s := start(t, nil)
	c, other := s.rtm(ann), s.rtm(bob)

	c.say(`{"id":1,"type":"ping","timestamp":123.5,"note":"x"}`)
	if f := c.next(); f != `{"note":"x","reply_to":1,"timestamp":123.5,"type":"pong"}` {
		t.Errorf("pong = %s", f)
	}
	c.say(`{"type":"ping"}`)
	if f := c.next(); f != `{"type":"pong"}` {
		t.Errorf("pong without id = %s", f)
	}

	c.say(`{"id":2,"type":"message","channel":"` + string(general) + `","text":"hello <&> there"}`)
	ack := c.until(`"reply_to":2`)
	var a struct {
		OK   bool
		TS   protocol.TS
		Text string
		Type *string
	}
	if err := json.Unmarshal([]byte(ack), &a); err != nil || !a.OK || !a.TS.Valid() || a.Text == "" || a.Type != nil {
		t.Errorf("ack = %s", ack)
	}
	got := other.until(`"type":"message"`)
	if !strings.Contains(got, string(a.TS)) || strings.HasSuffix(got, "\n") || strings.HasSuffix(ack, "\n") {
		t.Errorf("the other one heard %q", got)
	}
	// The same client_msg_id is acknowledged with the same message.
	for id := 3; id < 5; id++ {
		c.say(`{"id":3,"type":"message","channel":"` + string(general) + `","text":"once","client_msg_id":"11111111-2222-3333-4444-555555555555"}`)
	}
	first, second := c.until(`"reply_to":3`), c.until(`"reply_to":3`)
	if first != second {
		t.Errorf("acks %s and %s", first, second)
	}
}

func TestRTM_Refusals(t *testing.T) {
	s := start(t, nil)
	c := s.rtm(eve)
	long := strings.Repeat("x", protocol.MaxText+1)
	for _, tt := range []struct{ say, want string }{
		{`{"id":1,"type":"message","channel":"C0001"}`, `{"ok":false,"reply_to":1,"error":{"code":2,"msg":"message text is missing"}}`},
		{`{"id":2,"type":"message","channel":"` + string(private) + `","text":"x"}`, `{"ok":false,"reply_to":2,"error":{"code":5,"msg":"channel_not_found"}}`},
		{`{"id":3,"type":"message","channel":"C0001","text":"` + long + `"}`, `{"ok":false,"reply_to":3,"error":{"code":5,"msg":"msg_too_long"}}`},
		{`{"id":4,"type":"message","channel":7,"text":"x"}`, `{"ok":false,"reply_to":4,"error":{"code":3,"msg":"the message's fields have the wrong types"}}`},
		{`{"type":"message","channel":"C0001"}`, `{"type":"error","error":{"code":2,"msg":"message text is missing"}}`},
		{`{"id":5,"type":"dance"}`, `{"type":"error","reply_to":5,"error":{"code":4,"msg":"unknown type \"dance\""}}`},
		{`{"id":6}`, `{"type":"error","reply_to":6,"error":{"code":3,"msg":"the frame has no \"type\""}}`},
		{`nonsense`, `{"type":"error","error":{"code":3,"msg":"the frame is not JSON"}}`},
		{`[1]`, `{"type":"error","error":{"code":3,"msg":"a frame is a JSON object with a string \"type\""}}`},
		{`{"type":"presence_sub","ids":"U1"}`, `{"type":"error","error":{"code":3,"msg":"ids is not a list of users"}}`},
	} {
		c.say(tt.say)
		if f := c.next(); f != tt.want {
			t.Errorf("%.60s: got %s", tt.say, f)
		}
	}
	c.say(`{"id":9,"type":"ping"}`)
	c.until(`"reply_to":9`)
}

func TestRTM_SlowDown(t *testing.T) {
	s := start(t, nil)
	c := s.rtm(ann)
	for range 35 {
		c.say(`{"id":1,"type":"message","channel":"C0001","text":"x"}`)
	}
	acks := 0
	for f := c.until(`"reply_to":1`); ; f = c.until(`"reply_to":1`) {
		if f == `{"ok":false,"reply_to":1,"error":{"code":-1,"msg":"slow down, too many messages..."}}` {
			break
		}
		acks++
	}
	if acks < 30 || acks > 34 {
		t.Errorf("%d messages were taken before the nack, want the burst of 30", acks)
	}
}

func TestRTM_BadFramesCloseWithTheRightCode(t *testing.T) {
	s := start(t, nil)
	for _, tt := range []struct {
		name string
		send func(c *socket) error
		code int
	}{
		{"binary", func(c *socket) error { return c.WriteMessage(websocket.BinaryMessage, []byte(`{}`)) }, 1003},
		{"bad UTF-8", func(c *socket) error { return c.WriteMessage(websocket.TextMessage, []byte("{\"type\":\"\xff\"}")) }, 1007},
		{"17 KB", func(c *socket) error { return c.WriteMessage(websocket.TextMessage, make([]byte, 17<<10)) }, 1009},
		{"1 MB", func(c *socket) error { return c.WriteMessage(websocket.TextMessage, make([]byte, 1<<20)) }, 1009},
		{"unmasked", func(c *socket) error {
			_, err := c.NetConn().Write([]byte("\x81\x02{}"))
			return err
		}, 1002},
		{"reserved bit", func(c *socket) error {
			_, err := c.NetConn().Write([]byte("\xc1\x80\x00\x00\x00\x00"))
			return err
		}, 1002},
	} {
		c := s.rtm(ann)
		if err := tt.send(c); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if code, _ := c.closed(); code != tt.code {
			t.Errorf("%s: closed with %d, want %d", tt.name, code, tt.code)
		}
	}
	// A frame of exactly 16 KB is read.
	c := s.rtm(ann)
	frame := `{"id":1,"type":"ping","x":"` + strings.Repeat("y", protocol.MaxFrame-len(`{"id":1,"type":"ping","x":""}`)) + `"}`
	c.say(frame)
	c.until(`"reply_to":1`)
}

func TestRTM_TicketsAreForOneSocket(t *testing.T) {
	s := start(t, nil)
	address := s.must(s.token(ann), "rtm.connect").str("url")
	if !strings.HasPrefix(address, "ws://"+s.Addr()+"/websocket/") {
		t.Fatalf("url = %s", address)
	}
	// A program that throws the query away, and one that adds a slash, get in.
	dial(t, address+"/?x=y", http.Header{"Origin": {"https://api.slack.com"}}).until("hello")

	for _, used := range []string{address, "ws://" + s.Addr() + "/websocket/"} {
		code, frames := dial(t, used, nil).closed()
		if code != int(protocol.CloseBadTicket) || len(frames) != 1 || frames[0] != `{"type":"error","error":{"code":1,"msg":"Socket URL has expired"}}` {
			t.Errorf("%s: closed with %d after %v", used, code, frames)
		}
	}
}

func TestRTM_Origins(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.RTM.Origins = []string{"https://chat.example.com"} })
	for origin, ok := range map[string]bool{
		"": true, "https://api.slack.com": true, "https://app.slack.com": true, "http://wss-primary.slack.com": true,
		"https://chat.example.com": true, "http://" + s.Addr(): true, "https://evil.example.com": false, "null": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		address := s.must(s.token(ann), "rtm.connect").str("url")
		conn, resp, err := websocket.DefaultDialer.Dial(address, header)
		if conn != nil {
			conn.Close()
		}
		if (err == nil) != ok || !ok && resp.StatusCode != http.StatusForbidden {
			t.Errorf("origin %q: %v", origin, err)
		}
		if !ok {
			// The ticket is still good.
			dial(t, address, nil).until("hello")
		}
	}
}

func TestRTM_TypingAndPresence(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.OfflineDelay = 100 * time.Millisecond })
	a, b := s.rtm(ann), s.rtm(bob, "batch_presence_aware", "1")

	a.say(`{"id":1,"type":"typing","channel":"C0001"}`)
	if f := b.next(); f != `{"type":"user_typing","channel":"C0001","user":"U0001"}` {
		t.Errorf("bob heard %s", f)
	}
	a.say(`{"type":"user_typing","channel":"C0002","thread_ts":"1700000000.000100"}`)
	if f := b.next(); f != `{"type":"user_typing","channel":"C0002","user":"U0001","thread_ts":"1700000000.000100"}` {
		t.Errorf("bob heard %s", f)
	}

	a.say(`{"type":"presence_sub","ids":["U0002","U0003","U9999"]}`)
	if f := a.next(); f != `{"type":"presence_change","presence":"active","user":"U0002"}` {
		t.Errorf("ann heard %s", f)
	}
	if f := a.next(); f != `{"type":"presence_change","presence":"away","user":"U0003"}` {
		t.Errorf("ann heard %s", f)
	}
	a.say(`{"type":"presence_sub","ids":["U0003","U0005"]}`)
	if f := a.next(); f != `{"type":"presence_change","presence":"away","user":"U0005"}` {
		t.Errorf("only the new id is answered; ann heard %s", f)
	}
	b.say(`{"type":"presence_query","ids":["U0001","U0002","U0003","U0005"]}`)
	if f := b.next(); f != `{"type":"presence_change","presence":"active","users":["U0001","U0002"]}` {
		t.Errorf("bob heard %s", f)
	}
	if f := b.next(); f != `{"type":"presence_change","presence":"away","users":["U0003","U0005"]}` {
		t.Errorf("bob heard %s", f)
	}

	e := s.rtm(eve)
	if f := a.next(); f != `{"type":"presence_change","presence":"active","user":"U0003"}` {
		t.Errorf("ann heard %s", f)
	}
	s.must(s.token(eve), "users.setPresence", "presence", "away")
	if f := a.next(); f != `{"type":"presence_change","presence":"away","user":"U0003"}` {
		t.Errorf("ann heard %s", f)
	}
	s.must(s.token(eve), "users.setPresence", "presence", "auto")
	a.until(`"active","user":"U0003"`)
	e.Close()
	if f := a.next(); f != `{"type":"presence_change","presence":"away","user":"U0003"}` {
		t.Errorf("ann heard %s", f)
	}

	// The guest shares no channel with the bot and learns nothing of it.
	g := s.rtm(guest)
	g.say(`{"type":"presence_sub","ids":["U0005","U0001"]}`)
	if f := g.next(); f != `{"type":"presence_change","presence":"active","user":"U0001"}` {
		t.Errorf("the guest heard %s", f)
	}
}

func TestRTM_MembershipDecidesWhoHears(t *testing.T) {
	s := start(t, nil)
	e, g := s.rtm(eve), s.rtm(guest)

	// Joining: the channel and everything in it from then on.
	s.must(s.token(bob), "chat.postMessage", "channel", string(private), "text", "before")
	s.must(s.token(bob), "conversations.invite", "channel", string(private), "users", string(eve))
	s.must(s.token(bob), "chat.postMessage", "channel", string(private), "text", "inside")
	if f := e.until(`"type":"group_joined"`); strings.Contains(f, "before") {
		t.Errorf("eve heard %s", f)
	}
	if f := e.until(`"text":"inside"`); !strings.Contains(f, `"channel":"C0002"`) {
		t.Errorf("eve heard %s", f)
	}

	// Leaving: nothing after it. Back again: what was said between is not for her.
	s.must(s.token(bob), "conversations.kick", "channel", string(private), "user", string(eve))
	s.must(s.token(bob), "chat.postMessage", "channel", string(private), "text", "secret")
	s.must(s.token(bob), "conversations.invite", "channel", string(private), "users", string(eve))
	s.must(s.token(bob), "chat.postMessage", "channel", string(private), "text", "welcome back")
	for f := e.next(); !strings.Contains(f, "welcome back"); f = e.next() {
		if strings.Contains(f, "secret") {
			t.Errorf("eve heard %s", f)
		}
	}

	// The guest hears of people in their channels, and of nothing else in the workspace.
	s.must(s.token(ann), "conversations.create", "name", "brand-new")
	s.must(s.token(botUser), "users.profile.set", "name", "title", "value", "robot")
	s.must(s.token(bob), "users.profile.set", "name", "title", "value", "boss")
	if f := g.until(`"type":`); !strings.Contains(f, `"user_change"`) || !strings.Contains(f, "boss") {
		t.Errorf("the guest heard %s", f)
	}
	if f := e.until("brand-new"); !strings.Contains(f, "channel_created") {
		t.Errorf("eve heard %s", f)
	}
}

func TestRTM_StrangersInSharedChannelsAreSeen(t *testing.T) {
	s := start(t, nil)
	b, e := s.rtm(bob), s.rtm(eve)
	s.must(s.token(stranger), "users.profile.set", "name", "title", "value", "from afar")
	s.must(s.token(ann), "users.profile.set", "name", "title", "value", "next")
	if f := b.until("user_change"); !strings.Contains(f, "from afar") {
		t.Errorf("bob, who shares a channel, heard %s", f)
	}
	if f := e.until("user_change"); !strings.Contains(f, "next") {
		t.Errorf("eve, who does not, heard %s", f)
	}
}

func TestRTM_EventsBetweenConnectAndSocketAreTold(t *testing.T) {
	s := start(t, nil)
	address := s.must(s.token(eve), "rtm.connect").str("url")
	s.must(s.token(bob), "chat.postMessage", "channel", string(general), "text", "in between")
	s.must(s.token(bob), "chat.postMessage", "channel", string(private), "text", "not for eve")
	s.must(s.token(bob), "conversations.invite", "channel", string(private), "users", string(eve))
	s.must(s.token(bob), "chat.postMessage", "channel", string(private), "text", "for eve")

	c := dial(t, address, nil)
	if f := c.next(); !strings.Contains(f, "hello") {
		t.Fatalf("first frame is %s", f)
	}
	c.until("in between")
	for f := c.next(); !strings.Contains(f, `"for eve"`); f = c.next() {
		if strings.Contains(f, "not for eve") {
			t.Errorf("eve heard %s", f)
		}
	}
}

func TestRTM_RevokedTokenEndsTheSocket(t *testing.T) {
	s := start(t, nil)
	tok := s.token(eve)
	mine := dial(t, s.must(tok, "rtm.connect").str("url"), nil)
	mine.until("hello")
	other := s.rtm(eve) // with another token
	s.must(tok, "auth.revoke")
	if code, _ := mine.closed(); code != int(protocol.CloseTokenRevoked) {
		t.Errorf("closed with %d", code)
	}
	other.say(`{"id":1,"type":"ping"}`)
	other.until(`"reply_to":1`)
}

func TestRTM_SlowReaderIsClosedAndOthersGoOn(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.RTM.QueueItems, c.RTM.QueueBytes = 1000, 1<<20 })
	address := s.must(s.token(ann), "rtm.connect").str("url")
	// A small receive buffer, so that little is lost in the kernel.
	dialer := &websocket.Dialer{NetDial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4096)
		}
		return c, err
	}}
	conn, _, err := dialer.Dial(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := s.rtm(bob)
	text := strings.Repeat("long ", 7000)
	go func() {
		for range 200 {
			s.api(s.token(eve), "chat.postMessage", "channel", string(general), "text", text)
		}
		s.api(s.token(eve), "chat.postMessage", "channel", string(general), "text", "the end")
	}()
	b.until(`"text":"the end"`)
	if got := s.metric("flannel_backend_hub_slow_subscribers_total"); got != 1 {
		t.Errorf("%v subscribers were cut off, want one", got)
	}
	// Its session is over within a moment, although it has not read.
	s.eventually(func() bool { return s.metric("flannel_backend_rtm_closed_total", "slow") == 1 })
}

func TestRTM_GoodbyeAtStop(t *testing.T) {
	s := start(t, nil)
	c := s.rtm(ann)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Stop(ctx) // The cleanup looks at the error.
	}()
	code, frames := c.closed()
	if code != int(protocol.CloseDraining) || len(frames) != 1 || frames[0] != `{"type":"goodbye"}` {
		t.Errorf("closed with %d after %v", code, frames)
	}
}
