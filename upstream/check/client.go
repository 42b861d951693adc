package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// maxAnswer bounds what the suite reads of an answer: its own are small, but boots of 500 are not.
const maxAnswer = 64 << 20

// request sends one request and reads the whole answer.
func (s *suite) request(ctx context.Context, method, path, key string, body []byte, header http.Header) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.target.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.base+protocol.UpstreamPath+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(req.Header, header)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // It was only read.
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp, answer, err
}

// load posts a load and decodes the answer.
func (s *suite) load(ctx context.Context, call string, in, out any) error {
	resp, body, err := s.request(ctx, http.MethodPost, call, s.target.Key, protocol.MustMarshal(in), http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered status %d: %.200s", call, resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s answered what cannot be decoded: %w", call, err)
	}
	return nil
}

// refused posts a load that must be refused with one of the statuses and an ErrorAnswer, and returns that.
func (s *suite) refused(ctx context.Context, call, key string, body []byte, statuses ...int) (protocol.ErrorAnswer, error) {
	var e protocol.ErrorAnswer
	resp, answer, err := s.request(ctx, http.MethodPost, call, key, body, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return e, err
	}
	if !slices.Contains(statuses, resp.StatusCode) {
		return e, fmt.Errorf("answered status %d (%.100s), want %s", resp.StatusCode, answer, oneOf(statuses))
	}
	if err := json.Unmarshal(answer, &e); err != nil || e.Error == "" {
		return e, fmt.Errorf("status %d came with %.100q, want {\"error\":…}", resp.StatusCode, answer)
	}
	return e, nil
}

func oneOf(statuses []int) string {
	var names []string
	for _, n := range statuses {
		names = append(names, strconv.Itoa(n))
	}
	return strings.Join(names, " or ")
}

// answer is the answer of a forwarded call.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	position protocol.Position
	fields   struct {
		OK      bool            `json:"ok"`
		Error   string          `json:"error"`
		TS      protocol.TS     `json:"ts"`
		Channel json.RawMessage `json:"channel"`
		Message struct {
			Text string `json:"text"`
		} `json:"message"`
	}
}

// forward sends a client's call with a form and the token. header adds to it; an idempotency key, for one.
func (s *suite) forward(ctx context.Context, method string, form url.Values, header http.Header) (*answer, error) {
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, protocol.HeaderToken: {s.target.Token}}
	for name, values := range header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	return s.forwardRaw(ctx, method, []byte(form.Encode()), h)
}

func (s *suite) forwardRaw(ctx context.Context, method string, body []byte, header http.Header) (*answer, error) {
	resp, raw, err := s.request(ctx, http.MethodPost, protocol.CallForward+"/"+method, s.target.Key, body, header)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, body: raw}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests {
		return nil, fmt.Errorf("forward of %s answered status %d: %.200s; the client's answer has 200, or 429 with Retry-After", method, resp.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, &a.fields); err != nil {
		return nil, fmt.Errorf("forward of %s answered what is not the dialect's JSON: %w", method, err)
	}
	if text := resp.Header.Get(protocol.HeaderPosition); text != "" {
		p, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("forward of %s: %s is %q, not a number", method, protocol.HeaderPosition, text)
		}
		a.position = protocol.Position(p)
		s.saw(a.position)
	}
	return a, nil
}

// must is forward for calls that have to succeed and produce a position.
func (s *suite) must(ctx context.Context, method string, form url.Values) (*answer, error) {
	a, err := s.forward(ctx, method, form, nil)
	switch {
	case err != nil:
		return nil, err
	case !a.fields.OK:
		return nil, fmt.Errorf("forward of %s was answered with error %q", method, a.fields.Error)
	case a.position == 0:
		return nil, fmt.Errorf("forward of %s has no %s", method, protocol.HeaderPosition)
	}
	return a, nil
}

// post posts a message that nobody posted before to the suite's channel.
func (s *suite) post(ctx context.Context) (*answer, string, error) {
	s.posted++
	text := fmt.Sprintf("flannel check %s %d", s.nonce, s.posted)
	a, err := s.must(ctx, "chat.postMessage", url.Values{"channel": {string(s.channel)}, "text": {text}})
	return a, text, err
}

// stream is an open stream.
type stream struct {
	s     *suite
	conn  *websocket.Conn
	hello protocol.StreamFrame
}

// open opens a stream and reads its hello.
func (s *suite) open(ctx context.Context) (*stream, error) {
	conn, resp, err := s.dial(ctx, s.target.Key)
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("open stream: status %d", resp.StatusCode)
		}
		return nil, fmt.Errorf("open stream: %w", err)
	}
	st := &stream{s: s, conn: conn}
	if st.hello, err = st.next(); err != nil {
		st.close()
		return nil, fmt.Errorf("wait for hello: %w", err)
	}
	return st, nil
}

func (s *suite) dial(ctx context.Context, key string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{}
	if key != "" {
		header.Set("Authorization", "Bearer "+key)
	}
	ctx, cancel := context.WithTimeout(ctx, s.target.Patience)
	defer cancel()
	dialer := websocket.Dialer{HandshakeTimeout: s.target.Patience}
	conn, resp, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(s.base, "http")+protocol.UpstreamPath+protocol.CallStream, header)
	if resp != nil && resp.Body != nil {
		resp.Body.Close() //nolint:errcheck // The handshake's body is in memory.
	}
	return conn, resp, err
}

func (st *stream) close() { st.conn.Close() } //nolint:errcheck // Nothing is lost.

func (st *stream) say(f protocol.StreamFrame) error {
	_ = st.conn.SetWriteDeadline(time.Now().Add(st.s.target.Patience))
	return st.conn.WriteMessage(websocket.TextMessage, protocol.MustMarshal(f))
}

// next returns the next frame.
func (st *stream) next() (protocol.StreamFrame, error) {
	var f protocol.StreamFrame
	_ = st.conn.SetReadDeadline(time.Now().Add(st.s.target.Patience))
	kind, raw, err := st.conn.ReadMessage()
	if err != nil {
		return f, err
	}
	if kind != websocket.TextMessage {
		return f, errors.New("a frame is binary; frames are text")
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("a frame cannot be decoded: %w", err)
	}
	st.s.saw(f.Position)
	return f, nil
}

// until reads frames until done says so, and answers pings meanwhile.
func (st *stream) until(what string, done func(f *protocol.StreamFrame) (bool, error)) error {
	deadline := time.Now().Add(st.s.target.Patience)
	for {
		f, err := st.next()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if f.Type == protocol.StreamPing {
			if err := st.say(protocol.StreamFrame{Type: protocol.StreamPong, ID: f.ID}); err != nil {
				return err
			}
		}
		if ok, err := done(&f); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: it did not come within %s", what, st.s.target.Patience)
		}
	}
}

// subscribe follows one topic and returns where the backend says that it starts. Events that come before the answer are
// an error.
func (st *stream) subscribe(want protocol.TopicState) (state protocol.TopicState, reset bool, err error) {
	if err := st.say(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{want}}); err != nil {
		return state, false, err
	}
	err = st.until("subscribed", func(f *protocol.StreamFrame) (bool, error) {
		for _, ev := range f.Events {
			if ev.Topic == want.Topic {
				return false, fmt.Errorf("an event of %s came before \"subscribed\"", want.Topic)
			}
		}
		if f.Type != protocol.StreamSubscribed && f.Type != protocol.StreamReset {
			return false, nil
		}
		for _, t := range f.Topics {
			if t.Topic == want.Topic {
				state, reset = t, f.Type == protocol.StreamReset
				if t.Seq == nil || t.Position == nil {
					return false, fmt.Errorf("%q of %s lacks seq or position", f.Type, t.Topic)
				}
				return true, nil
			}
		}
		return false, nil
	})
	return state, reset, err
}

// events reads events of a topic until there are n new ones above seq, and checks that they come in order without a
// hole. A repeat is allowed.
func (st *stream) events(topic protocol.Topic, seq protocol.Seq, n int) ([]*protocol.Event, error) {
	var got []*protocol.Event
	if n == 0 {
		return got, nil
	}
	err := st.until(fmt.Sprintf("%d events of %s above seq %d", n, topic, seq), func(f *protocol.StreamFrame) (bool, error) {
		for _, ev := range f.Events {
			if ev.Topic != topic || ev.Class == protocol.ClassEphemeral || ev.Seq <= seq {
				continue
			}
			if ev.Seq != seq+1 {
				return false, fmt.Errorf("seq %d of %s came after %d: %d events are missing", ev.Seq, topic, seq, ev.Seq-seq-1)
			}
			seq = ev.Seq
			got = append(got, ev)
		}
		return len(got) >= n, nil
	})
	if err != nil {
		return got, fmt.Errorf("got %d: %w", len(got), err)
	}
	return got, nil
}

// reached waits for a watermark at or above a position.
func (st *stream) reached(p protocol.Position) error {
	return st.until(fmt.Sprintf("watermark %d", p), func(f *protocol.StreamFrame) (bool, error) {
		return f.Type == protocol.StreamWatermark && f.Position >= p, nil
	})
}
