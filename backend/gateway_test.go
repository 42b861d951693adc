package backend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/backend"
	"flannel/protocol"
)

// stream opens a stream and reads its hello.
func (s *server) stream() (*socket, protocol.StreamFrame) {
	s.t.Helper()
	c := dial(s.t, "ws://"+s.UpstreamAddr()+protocol.UpstreamPath+protocol.CallStream, http.Header{"Authorization": {"Bearer " + s.UpstreamKey()}})
	return c, c.frame()
}

// frame returns the next frame of a stream.
func (c *socket) frame() protocol.StreamFrame {
	c.t.Helper()
	var f protocol.StreamFrame
	if err := json.Unmarshal([]byte(c.next()), &f); err != nil {
		c.t.Fatal(err)
	}
	if f.Type == protocol.StreamPing {
		c.tell(protocol.StreamFrame{Type: protocol.StreamPong, ID: f.ID})
	}
	return f
}

func (c *socket) tell(f protocol.StreamFrame) {
	c.t.Helper()
	c.say(string(protocol.MustMarshal(f)))
}

func TestGateway_LoadsSayWhatIsThere(t *testing.T) {
	s := start(t, nil)
	posted := s.must(s.token(ann), "chat.postMessage", "channel", string(private), "text", "hello <@"+string(bob)+">")

	var boot protocol.BootAnswer
	s.upstream(protocol.CallBoot, protocol.BootRequest{Users: []protocol.UserID{bob, former, "U9999", guest}}, &boot)
	if len(boot.Users) != 4 || boot.Users[1].Error != protocol.CodeAccountInactive || boot.Users[2].Error != protocol.CodeUserNotFound {
		t.Fatalf("boot = %+v", boot)
	}
	b := boot.Users[0]
	var in []protocol.ChannelID
	for _, m := range b.Memberships {
		in = append(in, m.Channel)
		if m.Channel == private && (m.MentionCount != 1 || string(m.Latest) != posted.str("ts") || m.LastRead == m.Latest || m.Type != protocol.TypePrivate) {
			t.Errorf("membership = %+v", m)
		}
	}
	if !slices.Equal(in, []protocol.ChannelID{general, private, guests, shared}) || string(b.Prefs) == "" || b.Self.ID != protocol.ObjectID(bob) || boot.Users[3].Role != protocol.RoleGuest {
		t.Errorf("bob = %+v in %v", b, in)
	}

	var objects protocol.ObjectsAnswer
	s.upstream(protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{
		protocol.ObjectID(private), protocol.ObjectID(stranger), "B0001", protocol.EmojiID(workspace, "wave"), "T0002", "C9999", "x",
	}}, &objects)
	if len(objects.Objects) != 5 || len(objects.Missing) != 2 {
		t.Errorf("%d objects, missing %v", len(objects.Objects), objects.Missing)
	}

	var members protocol.MembersAnswer
	s.upstream(protocol.CallMembers, protocol.MembersRequest{Channel: guests, Limit: 3}, &members)
	if !slices.Equal(members.Users, []protocol.UserID{ann, bob, eve}) || members.NextCursor != eve || members.Total != 4 {
		t.Errorf("members = %+v", members)
	}
	s.upstream(protocol.CallMembers, protocol.MembersRequest{Channel: empty, Limit: 3}, &members)
	if members.Users == nil {
		t.Errorf("members of an empty channel = %+v", members)
	}

	var list protocol.ListAnswer
	s.upstream(protocol.CallList, protocol.ListRequest{Workspace: workspace, Kind: protocol.KindChannel, Order: protocol.ByName, Limit: 100}, &list)
	var names []string
	for _, e := range list.Entries {
		names = append(names, fmt.Sprint(e.Name, e.NumMembers))
	}
	if !slices.Equal(names, []string{"empty0", "general4", "guests4", "shared2"}) {
		t.Errorf("channels = %v", names)
	}

	for query, want := range map[string][]protocol.ObjectID{
		"b": {protocol.ObjectID(bob)}, "BO ex": {protocol.ObjectID(bob)}, "bob@example.com": {protocol.ObjectID(bob)}, "ob": nil, "bob eve": nil,
	} {
		var found protocol.ListAnswer
		s.upstream(protocol.CallList, protocol.ListRequest{Workspace: workspace, Kind: protocol.KindUser, Query: query, Limit: 10}, &found)
		var ids []protocol.ObjectID
		for _, e := range found.Entries {
			ids = append(ids, e.ID)
		}
		if !slices.Equal(ids, want) || found.Entries == nil || found.NextCursor != "" {
			t.Errorf("search for %q = %v, want %v", query, ids, want)
		}
	}
	tooLong := protocol.ListRequest{Workspace: workspace, Kind: protocol.KindUser, Query: strings.Repeat("a", protocol.MaxQuery+1), Limit: 10}
	if status, e := s.upstream(protocol.CallList, tooLong, &list); status != 400 || e.Error != protocol.CodeInvalidArgs {
		t.Errorf("a long query: %d, %q", status, e.Error)
	}
}

func TestGateway_ForwardIsVerbatim(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.RateLimits = true })
	key, tok := "Bearer "+s.UpstreamKey(), s.token(ann)

	// A large answer is streamed, with the address first.
	resp, body := s.upstreamRaw(http.MethodPost, "forward/rtm.start", key, nil, protocol.HeaderToken, tok, "X-Forwarded-Host", "chat.example.com", "X-Forwarded-Proto", "https")
	if resp.StatusCode != 200 || resp.ContentLength >= 0 || !strings.HasPrefix(string(body), `{"ok":true,"url":"wss://chat.example.com/websocket/`) {
		t.Errorf("rtm.start: status %d, length %d, %.100s", resp.StatusCode, resp.ContentLength, body)
	}
	// GET with a query works as well, and names a position.
	resp, body = s.upstreamRaw(http.MethodGet, "forward/users.info?user=U0002", key, nil, protocol.HeaderToken, tok)
	if resp.StatusCode != 200 || resp.Header.Get(protocol.HeaderPosition) == "" && !strings.Contains(string(body), `"bob"`) {
		t.Errorf("users.info: status %d, %s", resp.StatusCode, body)
	}
	// The token in a client's own body is used if the edge found none elsewhere.
	_, body = s.upstreamRaw(http.MethodPost, "forward/auth.test", key, []byte("token="+tok), "Content-Type", "application/x-www-form-urlencoded")
	if !strings.Contains(string(body), `"user_id":"U0001"`) {
		t.Errorf("auth.test: %s", body)
	}
	// Rate limits pass with their retry time.
	for i := range 1000 {
		resp, body = s.upstreamRaw(http.MethodPost, "forward/users.setPresence", key, []byte("presence=auto"), protocol.HeaderToken, tok, "Content-Type", "application/x-www-form-urlencoded")
		if resp.StatusCode == http.StatusTooManyRequests {
			break
		}
		if i == 999 {
			t.Fatal("no rate limit")
		}
	}
	if resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), `"ratelimited"`) {
		t.Errorf("429 with %v: %s", resp.Header, body)
	}
	// A body over the server's limit is refused as the contract says, before it is sent.
	conn, err := net.Dial("tcp", s.UpstreamAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %sforward/chat.postMessage HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 5000000\r\n\r\n", protocol.UpstreamPath, key)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") || !strings.Contains(string(answer), `"request_too_large"`) {
		t.Errorf("5 MB: %v, %s", err, answer)
	}
	if got := s.metric("flannel_backend_upstream_calls_total", "forward", "4xx"); got != 1 {
		t.Errorf("calls metric = %v", got)
	}
}

func TestGateway_BadStreamFrames(t *testing.T) {
	s := start(t, nil)
	many := make([]protocol.TopicState, protocol.MaxStreamTopics+1)
	for i := range many {
		many[i].Topic = "C1"
	}
	for name, tt := range map[string]struct {
		kind int
		raw  string
		code protocol.CloseCode
	}{
		"not JSON":     {websocket.TextMessage, `nonsense`, protocol.CloseProtocol},
		"wrong types":  {websocket.TextMessage, `{"type":7}`, protocol.CloseProtocol},
		"binary":       {websocket.BinaryMessage, `{}`, protocol.CloseUnsupported},
		"bad topic":    {websocket.TextMessage, `{"type":"subscribe","topics":[{"topic":"../x"}]}`, protocol.CloseProtocol},
		"no topic":     {websocket.TextMessage, `{"type":"subscribe","topics":[{}]}`, protocol.CloseProtocol},
		"1001 topics":  {websocket.TextMessage, string(protocol.MustMarshal(protocol.StreamFrame{Type: "subscribe", Topics: many})), protocol.CloseProtocol},
		"5 MB":         {websocket.TextMessage, strings.Repeat(" ", 5<<20), protocol.CloseTooBig},
		"negative seq": {websocket.TextMessage, `{"type":"subscribe","topics":[{"topic":"C1","seq":-1}]}`, protocol.CloseProtocol},
	} {
		c, _ := s.stream()
		if err := c.WriteMessage(tt.kind, []byte(tt.raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if code, _ := c.closed(); code != int(tt.code) {
			t.Errorf("%s: closed with %d, want %d", name, code, tt.code)
		}
	}
	// Browsers stay outside even with the key.
	_, resp, err := websocket.DefaultDialer.Dial("ws://"+s.UpstreamAddr()+protocol.UpstreamPath+protocol.CallStream,
		http.Header{"Authorization": {"Bearer " + s.UpstreamKey()}, "Origin": {"http://" + s.UpstreamAddr()}})
	if err == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a browser got %v", resp)
	}
}

func TestGateway_SilentEdgeIsClosed(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.Gateway.Heartbeat = 50 * time.Millisecond })
	c, hello := s.stream()
	if hello.HeartbeatMS != 50 {
		t.Errorf("heartbeat_ms = %d", hello.HeartbeatMS)
	}
	code, frames := c.closed()
	if code != int(protocol.ClosePingTimeout) || len(frames) < 2 || !strings.Contains(frames[0], `"ping"`) {
		t.Errorf("closed with %d after %v", code, frames)
	}
}

func TestGateway_SlowEdgeIsCutAndWritersGoOn(t *testing.T) {
	s := start(t, func(c *backend.Config) {
		c.Gateway.QueueEvents, c.Gateway.QueueBytes = 100_000, 2<<20
		c.Gateway.WriteTimeout = patience // however slowly the writers fill the queue
	})
	dialer := &websocket.Dialer{NetDial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4096)
		}
		return c, err
	}}
	conn, _, err := dialer.Dial("ws://"+s.UpstreamAddr()+protocol.UpstreamPath+protocol.CallStream, http.Header{"Authorization": {"Bearer " + s.UpstreamKey()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	slow := &socket{Conn: conn, t: t}
	slow.frame()
	slow.tell(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{{Topic: protocol.Topic(general)}}})
	fast, _ := s.stream()
	zero := protocol.Seq(0)
	fast.tell(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{{Topic: protocol.Topic(general), Seq: &zero}}})
	text := strings.Repeat("long ", 7000)
	const n = 250
	go func() {
		for range n {
			s.api(s.token(eve), "chat.postMessage", "channel", string(general), "text", text)
		}
	}()

	var last protocol.Seq
	for last < n {
		f := fast.frame()
		for _, ev := range f.Events {
			if ev.Seq != last+1 {
				t.Fatalf("seq %d after %d", ev.Seq, last)
			}
			last = ev.Seq
		}
		if f.Type == protocol.StreamReset {
			t.Fatal("reset")
		}
	}
	s.eventually(func() bool { return s.metric("flannel_backend_upstream_streams_closed_total", "slow") == 1 })
}

// Streams come and go while many write; each resumes by seq and sees every event of its topics once, in order, and the
// watermark never lies.
func TestGateway_StreamsRaceWriters(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.Hub.Events = 50 }) // most replay comes from the store
	const writers, perWriter = 4, 60
	topics := []protocol.Topic{protocol.Topic(general), protocol.Topic(private), protocol.Topic(guests)}
	var writing sync.WaitGroup
	var mu sync.Mutex
	acked := make(map[protocol.Topic]int)
	for w := range writers {
		writing.Go(func() {
			for i := range perWriter {
				topic := topics[(w+i)%len(topics)]
				if s.api(s.token([]protocol.UserID{ann, bob}[w%2]), "chat.postMessage", "channel", string(topic), "text", fmt.Sprint(w, i)).ok() {
					mu.Lock()
					acked[topic]++
					mu.Unlock()
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { writing.Wait(); close(finished) }()
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			known := make(map[protocol.Topic]protocol.Seq)
			seen := make(map[protocol.Topic]int)
			for {
				over := false
				select {
				case <-finished:
					over = true
				default:
				}
				c, hello := s.stream()
				var states []protocol.TopicState
				for _, topic := range topics {
					seq := known[topic]
					states = append(states, protocol.TopicState{Topic: topic, Seq: &seq})
				}
				c.tell(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: states})
				subscribed := 0
				for {
					f := c.frame()
					if f.Type == protocol.StreamReset {
						t.Errorf("reset of %v", f.Topics)
					}
					if f.Type == protocol.StreamSubscribed {
						subscribed += len(f.Topics)
					}
					for _, ev := range f.Events {
						if ev.Seq != known[ev.Topic]+1 {
							t.Errorf("%s: seq %d after %d", ev.Topic, ev.Seq, known[ev.Topic])
							return
						}
						known[ev.Topic] = ev.Seq
						if strings.Contains(string(ev.Payload), `"ts"`) {
							seen[ev.Topic]++
						}
					}
					if f.Type == protocol.StreamWatermark && subscribed == len(topics) && f.Position >= hello.Position {
						break
					}
				}
				c.Close()
				if over {
					for _, topic := range topics {
						if seen[topic] != acked[topic] {
							t.Errorf("%s: saw %d of %d messages", topic, seen[topic], acked[topic])
						}
					}
					return
				}
			}
		})
	}
	reading.Wait()
}

// A client's connection that was opened for nothing holds nobody up.
func TestBackend_StopDoesNotWaitForSilentConnections(t *testing.T) {
	s := start(t, nil)
	for _, addr := range []string{s.Addr(), s.UpstreamAddr()} {
		for _, word := range []string{"", "POST /api/auth.test HT"} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, word); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.must(s.token(ann), "auth.test") // Accepted after them.
	began := time.Now()
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second { // They may be silent for 30.
		t.Errorf("stopping took %s", took)
	}
}

func TestGateway_StopEndsStreams(t *testing.T) {
	s := start(t, nil)
	c, _ := s.stream()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Stop(ctx) // The cleanup looks at the error.
	}()
	if code, _ := c.closed(); code != int(protocol.CloseGoingAway) {
		t.Errorf("closed with %d", code)
	}
}

func TestGateway_AtLeastWaitsForACommit(t *testing.T) {
	s := start(t, nil)
	var now protocol.ObjectsAnswer
	s.upstream(protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{"U0001"}}, &now)
	done := make(chan protocol.ObjectsAnswer, 1)
	go func() {
		var later protocol.ObjectsAnswer
		s.upstream(protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{"U0001"}, AtLeast: now.Position + 1}, &later)
		done <- later
	}()
	s.must(s.token(ann), "chat.postMessage", "channel", string(general), "text", "x")
	if later := <-done; later.Position < now.Position+1 {
		t.Errorf("answered as of %d, wanted %d", later.Position, now.Position+1)
	}
	began := time.Now()
	status, e := s.upstream(protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{"U0001"}, AtLeast: now.Position + 1000}, nil)
	if took := time.Since(began); status != http.StatusServiceUnavailable || e.Error != protocol.CodeBehind || e.RetryAfter != 1 || took < 900*time.Millisecond || took > 3*time.Second {
		t.Errorf("status %d, %+v after %s", status, e, took)
	}
}

// An edge hears of a revoked token with the commit that kills it, so that it can close the token's sessions.
func TestGateway_RevocationReachesTheStream(t *testing.T) {
	s := start(t, nil)
	c, _ := s.stream()
	c.tell(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{{Topic: protocol.Topic(bob)}}})
	for c.frame().Type != protocol.StreamSubscribed {
	}
	tok := s.token(bob)
	var ids protocol.IdentifyAnswer
	s.upstream(protocol.CallIdentify, protocol.IdentifyRequest{Tokens: []string{tok}}, &ids)
	began := time.Now()
	s.must(tok, "auth.revoke")

	for {
		f := c.frame()
		if len(f.Events) == 0 {
			if f.Type == protocol.StreamWatermark && f.Position > ids.Position {
				t.Fatal("the watermark came before the revocation")
			}
			continue
		}
		ev := f.Events[0]
		if len(ev.Effects) != 1 || ev.Effects[0].Op != protocol.OpRevoked || ev.Effects[0].Token != ids.Identities[0].Token || len(ev.Payload) > 0 ||
			ev.Class != protocol.ClassControl || ev.Position <= ids.Position {
			t.Fatalf("event %s", protocol.MustMarshal(ev))
		}
		break
	}
	t.Logf("after %s", time.Since(began))
	s.upstream(protocol.CallIdentify, protocol.IdentifyRequest{Tokens: []string{tok}}, &ids)
	if ids.Identities[0].Error != protocol.CodeTokenRevoked {
		t.Errorf("the token is %+v", ids.Identities[0])
	}
}
