package backend_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"flannel/backend"
	"flannel/backend/token"
	"flannel/protocol"
)

// childData names the environment variable that makes this test binary a backend on that data folder.
const childData = "FLANNEL_TEST_CHILD_DATA"

func TestMain(m *testing.M) {
	if data := os.Getenv(childData); data != "" {
		if err := child(data); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	// fasthttp's own two never end: one sweeps a pool of workers, one keeps the date.
	err := goleak.Find(goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// child is a backend until it is killed. It says where it listens.
func child(data string) error {
	b, err := backend.New(backend.Options{Config: config(data), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	fmt.Println(b.Addr(), b.UpstreamAddr(), b.UpstreamKey())
	return b.Run(context.Background())
}

// spawn starts a child and returns it with what it said.
func spawn(t *testing.T, data string) (kill func(), web, upstream, key string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childData+"="+data)
	cmd.Stderr = testWriter{t}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill() // SIGKILL; it may be dead.
		cmd.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said nothing: %v", err)
	}
	if _, err := fmt.Sscan(line, &web, &upstream, &key); err != nil {
		t.Fatalf("the child said %q", line)
	}
	return kill, web, upstream, key
}

// storm is what the writers tried and what they know.
type storm struct {
	mu    sync.Mutex
	acked map[string]protocol.TS // by client_msg_id
	tried []string               // client_msg_ids that were never acknowledged
	acks  atomic.Int64
}

// deliveries is what one stream after the other delivered of a topic.
type deliveries struct {
	mu     sync.Mutex
	seq    protocol.Seq
	ids    []string // client_msg_ids in order
	faults []string
}

// A write storm is killed with SIGKILL, more than once. Afterwards every acknowledged message is there once, in order,
// what was sent again with its client_msg_id is there once, and a stream that resumed by seq after each kill delivered
// every message once.
func TestCrash_AcknowledgedIsDurableOnceAndInOrder(t *testing.T) {
	data := t.TempDir()
	furnish(t, data)
	signer, err := token.OpenKey(data)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make(map[protocol.UserID]string)
	for _, u := range []protocol.UserID{ann, bob, eve} {
		if tokens[u], err = signer.Issue(token.Claims{User: u, Workspace: workspace, Role: protocol.RoleMember}); err != nil {
			t.Fatal(err)
		}
	}
	const writers, kills, acksPerRound = 6, 3, 150
	st := &storm{acked: make(map[string]protocol.TS)}
	heard := &deliveries{}
	next := make([]int, writers) // each writer's next number
	for round := range kills {
		kill, web, upstream, key := spawn(t, data)
		var running sync.WaitGroup
		target := st.acks.Load() + acksPerRound
		enough := make(chan struct{})
		running.Go(func() { listen(upstream, key, heard, 0) })
		for w := range writers {
			running.Go(func() {
				user := []protocol.UserID{ann, bob, eve}[w%3]
				for {
					id := fmt.Sprintf("w%d-%06d", w, next[w])
					ts, ok := postOnce(web, tokens[user], id)
					st.mu.Lock()
					if ok {
						st.acked[id] = ts
					} else {
						st.tried = append(st.tried, id)
					}
					st.mu.Unlock()
					next[w]++
					if !ok {
						return // The backend is dead.
					}
					if st.acks.Add(1) == target {
						close(enough)
					}
				}
			})
		}
		<-enough
		kill() // in the middle: the writers have not stopped
		running.Wait()
		t.Logf("round %d: %d acknowledged, %d in the air", round, st.acks.Load(), len(st.tried))
	}

	_, web, upstream, key := spawn(t, data)
	// What is there before anybody sends again: all that was acknowledged, once, in order.
	present := history(t, web, tokens[ann])
	check := func(present []protocol.Message, what string) {
		count := make(map[string]int)
		for i, m := range present {
			count[m.ClientMsgID]++
			if i > 0 && m.TS <= present[i-1].TS {
				t.Errorf("%s: ts %s after %s", what, m.TS, present[i-1].TS)
			}
		}
		for id, n := range count {
			if n != 1 {
				t.Errorf("%s: %s is there %d times", what, id, n)
			}
		}
		for id, ts := range st.acked {
			i := slices.IndexFunc(present, func(m protocol.Message) bool { return m.ClientMsgID == id })
			if i < 0 || present[i].TS != ts {
				t.Errorf("%s: %s was acknowledged as %s and is not there", what, id, ts)
			}
		}
		last := make(map[byte]string)
		for _, m := range present {
			// Numbers in the air when the process died are sent again later, out of their writer's order.
			if m.ClientMsgID != "" && !slices.Contains(st.tried, m.ClientMsgID) {
				if w := m.ClientMsgID[1]; m.ClientMsgID <= last[w] {
					t.Errorf("%s: %s after %s", what, m.ClientMsgID, last[w])
				} else {
					last[w] = m.ClientMsgID
				}
			}
		}
	}
	check(present, "after the last kill")
	// What was in the air is sent again: each is there once, whether it had got through or not.
	again := make(map[string]protocol.TS)
	for _, id := range st.tried {
		user := []protocol.UserID{ann, bob, eve}[int(id[1]-'0')%3]
		ts, ok := postOnce(web, tokens[user], id)
		if !ok {
			t.Fatalf("sending %s again was refused", id)
		}
		again[id] = ts
	}
	present = history(t, web, tokens[ann])
	check(present, "after sending again")
	maps.Copy(st.acked, again)
	check(present, "with what was sent again")
	if len(present) != len(st.acked) {
		t.Errorf("%d messages are there, %d were acknowledged", len(present), len(st.acked))
	}

	// One more stream, from where the last one died, up to the end: together they delivered every message once, in order.
	listen(upstream, key, heard, len(present))
	for _, f := range heard.faults {
		t.Error(f)
	}
	var want []string
	for _, m := range present {
		want = append(want, m.ClientMsgID)
	}
	if !slices.Equal(heard.ids, want) {
		t.Errorf("the streams delivered %d messages, the history has %d; they differ at %d", len(heard.ids), len(want), firstDifference(heard.ids, want))
	}
	t.Logf("%d messages, %d of them acknowledged before a kill, %d were in the air", len(present), st.acks.Load(), len(st.tried))
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// postOnce posts a message. ok is false if it was not acknowledged.
func postOnce(web, tok, id string) (ts protocol.TS, ok bool) {
	form := url.Values{"token": {tok}, "channel": {string(general)}, "text": {id}, "client_msg_id": {id}}
	resp, err := http.PostForm("http://"+web+"/api/chat.postMessage", form)
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	var a struct {
		OK bool        `json:"ok"`
		TS protocol.TS `json:"ts"`
	}
	err = json.NewDecoder(resp.Body).Decode(&a)
	return a.TS, err == nil && a.OK
}

// history reads all messages of the channel that have a client_msg_id, oldest first.
func history(t *testing.T, web, tok string) []protocol.Message {
	t.Helper()
	var all []protocol.Message
	cursor := ""
	for {
		form := url.Values{"token": {tok}, "channel": {string(general)}, "limit": {"200"}, "cursor": {cursor}}
		resp, err := http.PostForm("http://"+web+"/api/conversations.history", form)
		if err != nil {
			t.Fatal(err)
		}
		var a struct {
			OK       bool               `json:"ok"`
			Error    string             `json:"error"`
			Messages []protocol.Message `json:"messages"`
			Metadata struct {
				Next string `json:"next_cursor"`
			} `json:"response_metadata"`
		}
		err = json.NewDecoder(resp.Body).Decode(&a)
		resp.Body.Close()
		if err != nil || !a.OK {
			t.Fatalf("history: %v, %q", err, a.Error)
		}
		all = append(all, a.Messages...)
		if cursor = a.Metadata.Next; cursor == "" {
			break
		}
	}
	slices.Reverse(all)
	return slices.DeleteFunc(all, func(m protocol.Message) bool { return m.ClientMsgID == "" })
}

// listen follows the channel from the last seq that was heard until the backend dies, or until total messages were heard
// if that is not 0.
func listen(upstream, key string, heard *deliveries, total int) {
	heard.mu.Lock()
	defer heard.mu.Unlock()
	fault := func(format string, args ...any) { heard.faults = append(heard.faults, fmt.Sprintf(format, args...)) }
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+upstream+protocol.UpstreamPath+protocol.CallStream, http.Header{"Authorization": {"Bearer " + key}})
	if err != nil {
		fault("open stream: %v", err)
		return
	}
	defer conn.Close()
	from := heard.seq
	subscribe := protocol.MustMarshal(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{{Topic: protocol.Topic(general), Seq: &from}}})
	if err := conn.WriteMessage(websocket.TextMessage, subscribe); err != nil {
		return
	}
	for total == 0 || len(heard.ids) < total {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, raw, err := conn.ReadMessage()
		if err != nil {
			if total > 0 {
				fault("the last stream ended after %d of %d messages: %v", len(heard.ids), total, err)
			}
			return
		}
		var f protocol.StreamFrame
		if err := json.Unmarshal(raw, &f); err != nil {
			fault("frame: %v", err)
			return
		}
		if f.Type == protocol.StreamReset {
			fault("reset at %v", f.Topics)
		}
		for _, ev := range f.Events {
			if ev.Seq != heard.seq+1 {
				fault("seq %d after %d", ev.Seq, heard.seq)
			}
			heard.seq = ev.Seq
			var m protocol.Message
			if err := json.Unmarshal(ev.Payload, &m); err != nil {
				fault("payload: %v", err)
			}
			if m.ClientMsgID != "" {
				heard.ids = append(heard.ids, m.ClientMsgID)
			}
		}
		if f.Type == protocol.StreamPing {
			_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"pong"}`))
		}
	}
}
