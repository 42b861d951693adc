package edge

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// TestSlow_AReaderThatStopsIsClosedAndOthersGoOn: over real sockets, whose buffers hide a slow reader for a while.
func TestSlow_AReaderThatStopsIsClosedAndOthersGoOn(t *testing.T) {
	bothWays(t, func(t *testing.T, way option) {
		w := newWorld(t, way)
		slow := w.rawSocket(w.thinURL("xoxp-ana", ""))
		readFrame(t, slow)
		if err := slow.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		good := w.hello(w.thinURL("xoxp-bo", ""))
		eventually(t, "both are attached", func() bool { return w.hub.len() == 2 })

		const n, size = 8000, 4 << 10 // 32 MB: more than the kernel takes for one reader
		body := strings.Repeat("x", size)
		counted := make(chan int, 1)
		go func() {
			seen := 0
			for f := range good.frames {
				if strings.Contains(f, `"text":"m`) {
					if seen++; seen == n {
						break
					}
				}
			}
			counted <- seen
		}()
		for i := range n {
			w.hub.publish(&protocol.Event{Topic: "C1", Type: "message", Class: protocol.ClassMessage, Payload: fmt.Appendf(nil, `{"type":"message","text":"m%d","x":%q}`, i, body)})
			if i%16 == 0 {
				runtime.Gosched()
				eventually(t, "the good reader keeps up", func() bool { return waiting(w, "U2") < 100<<10 })
			}
		}

		if seen := <-counted; seen != n {
			t.Errorf("the good reader got %d of %d", seen, n)
		}
		eventually(t, "the slow one is gone", func() bool { return w.edge.Sessions() == 1 && w.hub.len() == 1 })
		if w.metric("flannel_slow_clients_total") != 1 || w.metric("flannel_connections_closed_total", "slow", "server") != 1 {
			t.Error("it is not counted")
		}
	})
}

// waiting returns the bytes that wait for a user's sessions.
func waiting(w *world, user protocol.UserID) (n int) {
	for _, s := range w.edge.sessions.all() {
		if s.User() == user {
			s.mu.Lock()
			n += s.out.size()
			s.mu.Unlock()
		}
	}
	return n
}

// TestSlow_IsToldToResync: a reader that was slow and goes on reading learns what happened.
func TestSlow_IsToldToResync(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.OutboxFrames = 10 })
		conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
		synctest.Wait()
		for i := range 30 {
			w.hub.publish(messageEvent(i))
		}
		var got []string
		for {
			op, body := readFrame(t, conn)
			if op == 8 {
				got = append(got, fmt.Sprint(int(body[0])<<8|int(body[1])))
			}
			if op != 1 {
				break
			}
			got = append(got, string(body))
		}
		last := got[len(got)-2:]
		if last[0] != `{"type":"resync","reason":"slow","refetch":["all"]}` || last[1] != "4400" {
			t.Errorf("the last frames are %s", last)
		}
		if len(got) > 12 {
			t.Errorf("%d frames came", len(got))
		}
		conn.Close()
		synctest.Wait()
	})
}

func TestSlow_EphemeralEventsGiveWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.OutboxFrames = 10 })
		conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
		synctest.Wait()
		for i := range 100 {
			w.hub.publish(&protocol.Event{Topic: "C1", Type: "user_typing", Class: protocol.ClassEphemeral, Payload: fmt.Appendf(nil, `{"type":"user_typing","n":%d}`, i)})
		}
		for i := range 5 {
			w.hub.publish(messageEvent(i))
		}
		if w.edge.Sessions() != 1 || w.metric("flannel_slow_clients_total") != 0 {
			t.Fatal("the session was closed for typing")
		}
		if _, body := readFrame(t, conn); !strings.Contains(string(body), "hello") {
			t.Errorf("the first frame is %s", body)
		}
		var got []string
		for {
			_, body := readFrame(t, conn)
			got = append(got, string(body))
			if strings.Contains(string(body), `"m4"`) {
				break
			}
		}
		// The writer holds what it had taken before; the newest typing and all messages wait.
		if want := `{"type":"user_typing","n":99}`; !strings.Contains(fmt.Sprint(got), want) || len(got) > 12 {
			t.Errorf("got %s", got)
		}
		conn.Close()
		synctest.Wait()
	})
}

func TestSlow_ASlowDownloadIsCutOffAndASteadyOneIsNot(t *testing.T) {
	for name, pace := range map[string]time.Duration{"steady": 20 * time.Second, "stopped": 40 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var closed atomic.Bool
				w := newWorld(t, func(_ *Config, w *world) {
					w.writer.forward = func(context.Context, *protocol.Call) (*protocol.Reply, error) {
						return &protocol.Reply{Status: 200, Stream: &drip{left: 100, closed: &closed}}, nil
					}
				})
				conn, err := w.mem.Dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprint(conn, "GET /api/conversations.history HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				total, buf := 0, make([]byte, 64<<10)
				for {
					time.Sleep(pace)
					n, err := conn.Read(buf)
					total += n
					if err != nil {
						break
					}
				}
				if whole := total > 100*1000; whole != (name == "steady") {
					t.Errorf("%d bytes came", total)
				}
				synctest.Wait()
				if !closed.Load() {
					t.Error("the stream is not closed")
				}
			})
		})
	}
}

// drip is a long answer in parts.
type drip struct {
	left   int
	closed *atomic.Bool
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	d.left--
	return copy(p, strings.Repeat("x", 1000)), nil
}

func (d *drip) Close() error {
	d.closed.Store(true)
	return nil
}

func TestAdmission_FullNodesRefuseWithATime(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.MaxSessions = 2 })
	one, _ := w.hello(w.thinURL("xoxp-ana", "")), w.hello(w.thinURL("xoxp-ana", ""))
	eventually(t, "two are in", func() bool { return w.edge.Sessions() == 2 })
	ticket := w.ticketURL("xoxp-bo")

	_, resp, err := w.dialer().Dial(ticket, nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("a program gets %v, %v", resp, err)
	}
	browser := w.dial(ticket, "Origin", "https://app.slack.com")
	if code, reason := browser.closed(); code != int(protocol.CloseOverloaded) || reason.RetryMS < 1000 || reason.RetryMS > 11_000 {
		t.Errorf("a browser is closed with %d %+v", code, reason)
	}
	if n := w.metric("flannel_admission_rejected_total", "full", "sessions"); n != 2 {
		t.Errorf("%v are counted", n)
	}

	one.conn.Close()
	eventually(t, "there is room", func() bool { return w.edge.Sessions() == 1 })
	w.hello(ticket) // the refusals did not use it up
}

func TestAdmission_HandshakesAreBounded(t *testing.T) {
	gate := make(chan struct{})
	w := newWorld(t, func(c *Config, w *world) {
		c.MaxHandshakes = 3
		w.hub.during = func(*Session) error { <-gate; return nil }
	})
	var peers []*peer
	for range 3 {
		peers = append(peers, w.dial(w.thinURL("xoxp-ana", "")))
	}
	eventually(t, "there are three handshakes", func() bool { return w.metric("flannel_handshakes_inflight") == 3 })
	if _, resp, err := w.dialer().Dial(w.thinURL("xoxp-ana", ""), nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the fourth gets %v, %v", resp, err)
	}

	close(gate)

	eventually(t, "the places are free", func() bool { return w.edge.admission.handshakes.taken() == 0 })
	for _, p := range append(peers, w.hello(w.thinURL("xoxp-ana", ""))) {
		p.send(`{"type":"ping"}`)
		p.until("pong")
	}
}

// TestAdmission_LosesNoPlaces: clients that go away at every point of a handshake, many at a time.
func TestAdmission_LosesNoPlaces(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.MaxHandshakes = 16; c.MaxSessions = 32 })
	for i := range 300 {
		conn, err := net.Dial("tcp", w.edge.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetLinger(0) // a reset, not a goodbye
		request := "GET /?token=xoxp-ana&flannel=3 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
		conn.Write([]byte(request[:len(request)-i%3]))
		if i%2 == 0 {
			pause()
		}
		conn.Close()
	}
	eventually(t, "all are gone", func() bool { return w.edge.Sessions() == 0 && w.edge.admission.handshakes.taken() == 0 })
	w.hello(w.thinURL("xoxp-ana", ""))
}

func TestEcho_OverTheSameStack(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.DebugEcho = true })
	conn, _, err := w.dialer().Dial("ws://"+w.edge.Addr()+"/debug/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
		if err := conn.WriteMessage(kind, []byte("héllo")); err != nil {
			t.Fatal(err)
		}
		if k, body, err := conn.ReadMessage(); err != nil || k != kind || string(body) != "héllo" {
			t.Errorf("got %d %q %v", k, body, err)
		}
	}
	go conn.WriteMessage(websocket.TextMessage, []byte{0xff})
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1007) {
		t.Errorf("bad UTF-8 gets %v", err)
	}
	again, _, err := w.dialer().Dial("ws://"+w.edge.Addr()+"/debug/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	w.stop() // does not wait for an echo that nobody ends
}
