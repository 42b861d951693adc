package edge

import (
	"bytes"
	stdflate "compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"flannel/protocol"
)

// deflated compresses a message the way a client may, with Go's own library: a level, and one of the ways to end it.
func deflated(body []byte, level, ending int) []byte {
	var out bytes.Buffer
	w, err := stdflate.NewWriter(&out, level)
	if err != nil {
		panic(err)
	}
	half := len(body) / 2
	w.Write(body[:half])
	if ending == 1 { // in two blocks
		w.Flush()
	}
	w.Write(body[half:])
	if ending == 2 { // with a last block, and the byte that RFC 7692 wants behind it (section 7.2.3.4)
		w.Close()
		return append(out.Bytes(), 0)
	}
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
}

// inflatedBy undoes compression with Go's own library.
func inflatedBy(payload []byte) ([]byte, error) {
	return io.ReadAll(stdflate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(tail))))
}

func TestCompression_Negotiation(t *testing.T) {
	const plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for offer, c := range map[string]struct {
		answer string
		window uint8
	}{
		"":                   {"", 0},
		"permessage-deflate": {plain, 15},
		"permessage-deflate; client_max_window_bits":                                  {plain, 15},                                 // browsers, node's ws
		"permessage-deflate; server_no_context_takeover; client_no_context_takeover":  {plain, 15},                                 // gorilla
		"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12":    {plain + "; server_max_window_bits=12", 12}, // Python's websockets
		`permessage-deflate;server_max_window_bits="10" ; client_max_window_bits="8"`: {plain + "; server_max_window_bits=10", 10},
		"permessage-deflate; server_max_window_bits=15":                               {plain + "; server_max_window_bits=15", 15},
		"x-webkit-deflate-frame, permessage-deflate":                                  {plain, 15},
		"permessage-deflate; server_max_window_bits=7, permessage-deflate":            {plain, 15},
		"permessage-deflate; server_max_window_bits=16":                               {"", 0},
		"permessage-deflate; server_max_window_bits=09":                               {"", 0},
		"permessage-deflate; server_max_window_bits":                                  {"", 0},
		"permessage-deflate; server_max_window_bits=":                                 {"", 0},
		"permessage-deflate; client_max_window_bits=200":                              {"", 0},
		"permessage-deflate; server_no_context_takeover=1":                            {"", 0},
		"permessage-deflate; server_no_context_takeover; server_no_context_takeover":  {"", 0},
		"permessage-deflate; unheard_of":                                              {"", 0},
		"permessage-deflate; ":                                                        {"", 0},
		"permessage-deflate=1":                                                        {"", 0},
		"permessage-deflated":                                                         {"", 0},
		`x; a="permessage-deflate, b", permessage-deflate`:                            {plain, 15},
		`x; a="permessage-deflate\", permessage-deflate`:                              {"", 0},
		",,;,=": {"", 0},
	} {
		if answer, window := negotiate(offer); answer != c.answer || window != c.window {
			t.Errorf("%q gets %q, and a window of %d bits", offer, answer, window)
		}
	}
}

// FuzzNegotiate: whatever is offered, what is agreed on is what was offered, and can be kept.
func FuzzNegotiate(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits, permessage-deflate")
	f.Add(`permessage-deflate; server_max_window_bits="1\2"`)
	f.Fuzz(func(t *testing.T, offers string) {
		answer, window := negotiate(offers)
		if (answer == "") != (window == 0) || window != 0 && (window < 8 || window > 15) || window != 0 && !strings.Contains(offers, "permessage-deflate") {
			t.Errorf("%q gets %q and %d", offers, answer, window)
		}
		if strings.Contains(answer, "server_max_window_bits") && !strings.Contains(offers, fmt.Sprint(window)) {
			t.Errorf("%q gets %q", offers, answer)
		}
	})
}

// TestPress_RoundTrip: what is compressed for a window is what it was, and never looks back further than the client can.
func TestPress_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Default()
		cfg.CompressionLevel = rapid.IntRange(1, 9).Draw(t, "level")
		p := newPress(&cfg, newMetrics(nil))
		window := uint8(rapid.IntRange(8, 15).Draw(t, "window"))
		words := rapid.SliceOfN(rapid.StringN(1, 30, -1), 1, 50).Draw(t, "words")
		var body []byte
		for size := rapid.IntRange(1, 100_000).Draw(t, "size"); len(body) < size; {
			body = append(body, words[(len(body)*7919)%len(words)]...)
		}
		before := []byte("before")
		plain := wireText(body)

		frame := p.shrink(append(bytes.Clone(before), plain...), len(before), window)

		if !bytes.HasPrefix(frame, before) || len(frame) > len(before)+len(plain) {
			t.Fatalf("%d bytes became %d", len(before)+len(plain), len(frame))
		}
		frame = frame[len(before):]
		if frame[0]&compressed == 0 {
			if !bytes.Equal(frame, plain) {
				t.Fatal("what is not compressed is something else")
			}
			return
		}
		if frame[0] != 0x80|compressed|opText {
			t.Fatalf("the first byte is %x", frame[0])
		}
		got, err := inflatedBy(payloadOf(frame))
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes came back as %d, %v", len(body), len(got), err)
		}
		if back := furthest(t, payloadOf(frame)); back > 1<<window {
			t.Fatalf("it looks back %d bytes, with a window of %d bits", back, window)
		}
	})
}

// FuzzInflate: whatever comes is what Go's own library makes of it, or is refused; and there is never more than the limit.
func FuzzInflate(f *testing.F) {
	f.Add(deflated([]byte(`{"type":"ping"}`), 6, 0))
	f.Add(deflated(make([]byte, 100_000), 9, 0)) // a bomb
	f.Add(deflated([]byte("x"), 1, 2))
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		const limit = 2000
		want, wantErr := inflatedBy(bytes.Clone(payload))

		in, err := inflate(payload, limit)

		switch {
		case err == nil:
			if wantErr != nil || !bytes.Equal(in.body, want) || len(in.body) > limit {
				t.Errorf("%x is %q, and by Go's library %q, %v", payload, in.body, want, wantErr)
			}
			in.giveBack()
		case errors.Is(err, errTooBig):
			if len(want) <= limit {
				t.Errorf("%x is too big with %d bytes", payload, len(want))
			}
		case wantErr == nil:
			t.Errorf("%x is refused, and by Go's library %q", payload, want)
		}
	})
}

// TestCompression_OncePerEvent: an event of 5 KB to 1,000 sessions, half of which have agreed on compression. It is compressed
// once, and they share the frame.
func TestCompression_OncePerEvent(t *testing.T) {
	reg := prometheus.NewRegistry()
	e := &Edge{cfg: Default(), now: time.Now, metrics: newMetrics(reg)}
	e.press = newPress(&e.cfg, e.metrics)
	var sessions []*Session
	for i := range 1000 {
		s := &Session{edge: e, id: nobody, held: true, thin: i%3 == 0}
		if i%2 == 0 {
			s.window = maxWindow
		}
		sessions = append(sessions, s)
	}
	ev := messageEvent(0)
	ev.Payload = fmt.Appendf(nil, `{"type":"message","text":%q}`, strings.Repeat("what everybody says ", 250))
	shared := new(atomic.Value)

	var delivering sync.WaitGroup
	for half := range 2 {
		delivering.Go(func() {
			for _, s := range sessions[500*half:][:500] {
				s.Deliver(ev, shared)
			}
		})
	}
	delivering.Wait()

	frames := make(map[*byte]int)
	for _, s := range sessions {
		frame := s.early.items[0].frame
		frames[&frame[0]]++
		if packed := frame[0]&compressed != 0; packed != (s.window > 0) {
			t.Fatalf("a session with a window of %d bits gets %x", s.window, frame[:2])
		}
	}
	if n := testutil.ToFloat64(e.metrics.compressedOut.messages); n != 1 {
		t.Errorf("it was compressed %v times", n)
	}
	if len(frames) != 2 {
		t.Errorf("there are %d frames", len(frames))
	}
	plain, packed := testutil.ToFloat64(e.metrics.compressedOut.plain), testutil.ToFloat64(e.metrics.compressedOut.packed)
	if plain != float64(len(ev.Payload)) || packed > plain/20 {
		t.Errorf("%v bytes became %v", plain, packed)
	}
}

// TestObjects_AreSharedByThoseWhoLackTheSame: an event names two people, whom most have not met, some one of them, some both.
// Each gets what they lack; there is one frame for each lack as long as nobody changes, and it is compressed once.
func TestObjects_AreSharedByThoseWhoLackTheSame(t *testing.T) {
	e := &Edge{cfg: Default(), now: time.Now, metrics: newMetrics(nil)}
	e.press = newPress(&e.cfg, e.metrics)
	body := func(id, name string) json.RawMessage {
		return fmt.Appendf(nil, `{"id":%q,"name":%q,"x":%q}`, id, name, strings.Repeat("some words ", 100))
	}
	queries := &fakeQueries{objects: map[protocol.ObjectID]protocol.Object{
		"U2": {ID: "U2", Kind: protocol.KindUser, Body: body("U2", "bo")}, "U3": {ID: "U3", Kind: protocol.KindUser, Body: body("U3", "cy")},
	}}
	e.doors.Queries = queries
	shared, ev := new(atomic.Value), naming(placed(1), "U2", "U3")
	frames := make(map[*byte]int)
	deliver := func(n int, window uint8, known ...protocol.ObjectID) (first string) {
		for range n {
			s := &Session{edge: e, id: nobody, held: true, thin: true, window: window}
			for _, id := range known {
				s.given.add(id)
			}
			s.Deliver(ev, shared)
			frame := s.early.queue.items[0].frame
			frames[&frame[0]]++
			got := payloadOf(frame)
			if window > 0 {
				var err error
				if got, err = inflatedBy(got); err != nil {
					t.Fatal(err)
				}
			}
			first = string(got)
		}
		return first
	}
	if got := deliver(100, maxWindow); !strings.Contains(got, `"bo"`) || !strings.Contains(got, `"cy"`) {
		t.Errorf("who knows nobody gets %s", got)
	}
	if got := deliver(100, 0); !strings.Contains(got, `"bo"`) || !strings.Contains(got, `"cy"`) {
		t.Errorf("who knows nobody gets %s", got)
	}
	if got := deliver(100, maxWindow, "U2"); strings.Contains(got, `"bo"`) || !strings.Contains(got, `"cy"`) {
		t.Errorf("who knows bo gets %s", got)
	}
	if len(frames) != 3 {
		t.Errorf("there are %d frames", len(frames))
	}
	queries.objects["U3"] = protocol.Object{ID: "U3", Kind: protocol.KindUser, Body: body("U3", "di")}
	if got := deliver(1, maxWindow, "U2"); !strings.Contains(got, `"di"`) {
		t.Errorf("after a change somebody gets %s", got)
	}
	if n := testutil.ToFloat64(e.metrics.compressedOut.messages); n != 3 {
		t.Errorf("%v messages were compressed", n)
	}
}

// transcript is what a thin session hears of a conversation that has every sort of frame.
func transcript(t *testing.T, way option) []string {
	w := newWorld(t, way, func(_ *Config, w *world) {
		w.queries.objects = map[protocol.ObjectID]protocol.Object{"U2": {ID: "U2", Kind: protocol.KindUser, Body: fmt.Appendf(nil, `{"id":"U2","x":%q}`, strings.Repeat("x", 2000))}}
		w.queries.boot = func(context.Context, protocol.Identity, bool) (userBoot, counts []byte, err error) {
			return fmt.Appendf(nil, `{"ok":true,"channels":[%s]}`, strings.Repeat(`{"id":"C1"},`, 6000)+`{}`), []byte(`{"ok":true,"channels":[]}`), nil
		}
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			return Resumed{Mode: protocol.ResumeReplayed, Events: []*protocol.Event{long(5), placed(6)}, Token: from.String()}
		}
		sized(w)
	})
	p := w.dial(w.thinURL("xoxp-ana", "boot=1&resume=1.4.U1"))
	var said []string
	until := func(text string) {
		for {
			f := p.next()
			if said = append(said, f); strings.Contains(f, text) {
				return
			}
		}
	}
	until(`"counts"`)
	for i := range 5 {
		w.hub.publish(naming(long(7+2*i), "U2"))
		w.hub.publish(placed(8 + 2*i))
	}
	until(`"C1:16"`)
	for i := 1; i < 200; i *= 3 {
		p.send(fmt.Sprintf(`{"id":%d,"type":"query","method":"users/info","args":{"updated_ids":{"U1":%d}}}`, i, sizeOf(i)))
		until(fmt.Sprintf(`"reply_to":%d`, i))
	}
	p.send(`{"id":1000,"type":"ping","long":"` + strings.Repeat("long ", 1000) + `"}`)
	until(`"reply_to":1000`)
	return said
}

// long is an event of a few KB.
func long(seq int) *protocol.Event {
	ev := placed(seq)
	ev.Payload = fmt.Appendf(nil, `{"type":"message","n":%d,"text":%q}`, seq, strings.Repeat(fmt.Sprint(seq, " is long "), 300))
	return ev
}

// TestCompression_SaysTheSameInTheSameOrder, whatever is compressed of it: all, what is long, nothing.
func TestCompression_SaysTheSameInTheSameOrder(t *testing.T) {
	want := transcript(t, func(*Config, *world) {})
	for name, way := range map[string]option{
		"all":                compressing,
		"what is long":       func(_ *Config, w *world) { w.offers = true },
		"all, not parked":    func(c *Config, w *world) { compressing(c, w); w.apart = true },
		"nothing, it is off": func(c *Config, w *world) { compressing(c, w); c.Compression = false },
	} {
		got := transcript(t, way)
		if len(got) != len(want) {
			t.Fatalf("%s: %d frames, not %d", name, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: frame %d is %.100s, not %.100s", name, i, got[i], want[i])
			}
		}
	}
}

// TestCompression_ShortOnesAndABusyNode: what is below the threshold goes as it is, and so does what would have to wait.
func TestCompression_ShortOnesAndABusyNode(t *testing.T) {
	w := newWorld(t, func(c *Config, w *world) {
		c.CompressionParallel = 1
		w.queries.boot = func(context.Context, protocol.Identity, bool) (userBoot, counts []byte, err error) {
			return fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 5000)), []byte(`{"ok":true}`), nil
		}
	})
	const offer = "permessage-deflate"
	for _, busy := range []bool{false, true} {
		if busy {
			w.edge.press.places.take()
		}
		conn, agreed := w.rawOffer(w.thinURL("xoxp-ana", "boot=1"), offer)
		if agreed != "permessage-deflate; server_no_context_takeover; client_no_context_takeover" {
			t.Errorf("agreed on %q", agreed)
		}
		for i, packed := range []bool{false, !busy, false} { // hello, boot, counts
			first, size := firstByte(t, conn)
			if first&compressed != 0 != packed || first&0xf != opText {
				t.Errorf("busy %v: frame %d, of %d bytes, begins with %x", busy, i, size, first)
			}
		}
		if n := w.metric("flannel_compression_connections"); n < 1 {
			t.Errorf("%v connections are counted", n)
		}
	}
	w.edge.press.places.giveBack()
	if n := w.metric("flannel_compression_busy_total"); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
	if conn, agreed := w.rawOffer(w.thinURL("xoxp-ana", ""), "x-webkit-deflate-frame"); agreed != "" {
		t.Errorf("agreed on %q", agreed)
	} else if first, _ := firstByte(t, conn); first&compressed != 0 {
		t.Errorf("a frame begins with %x", first)
	}
}

// firstByte reads a frame of the server, and returns its first byte and the size of its payload.
func firstByte(t *testing.T, conn net.Conn) (first byte, size int) {
	t.Helper()
	head := make([]byte, 2, 10)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	more := map[byte]int{126: 2, 127: 8}[head[1]]
	if _, err := io.ReadFull(conn, head[2:2+more]); err != nil {
		t.Fatal(err)
	}
	if size = int(head[1]); more > 0 {
		size = 0
		for _, b := range head[2 : 2+more] {
			size = size<<8 | int(b)
		}
	}
	if _, err := io.CopyN(io.Discard, conn, int64(size)); err != nil {
		t.Fatal(err)
	}
	return head[0], size
}

// TestCompression_WhatClientsDoWrong, who have agreed on compression.
func TestCompression_WhatClientsDoWrong(t *testing.T) {
	w := newWorld(t)
	mask := [4]byte{1, 2, 3, 4}
	ping := deflated([]byte(`{"type":"ping","id":1}`), 6, 0)
	for name, c := range map[string]struct {
		bytes []byte
		code  protocol.CloseCode // 0: nothing is wrong
	}{
		"a compressed ping of the dialect":          {masked(0xC1, mask, ping), 0},
		"in two frames":                             {append(masked(0x41, mask, ping[:5]), masked(0x80, mask, ping[5:])...), 0},
		"with a ping between":                       {append(append(masked(0x41, mask, ping[:5]), masked(0x89, mask, nil)...), masked(0x80, mask, ping[5:])...), 0},
		"the bit in the second frame, too":          {append(masked(0x41, mask, ping[:5]), masked(0xC0, mask, ping[5:])...), protocol.CloseProtocol},
		"the bit in the second frame only":          {append(masked(0x01, mask, ping[:5]), masked(0xC0, mask, ping[5:])...), protocol.CloseProtocol},
		"a compressed websocket ping":               {masked(0xC9, mask, nil), protocol.CloseProtocol},
		"a compressed close":                        {masked(0xC8, mask, []byte{3, 232}), protocol.CloseProtocol},
		"another reserved bit":                      {masked(0xA1, mask, ping), protocol.CloseProtocol},
		"what is not compressed, with the bit":      {masked(0xC1, mask, []byte(`{"type":"ping","id":1}`)), protocol.CloseProtocol},
		"half of a message":                         {masked(0xC1, mask, ping[:len(ping)/2]), protocol.CloseProtocol},
		"a bomb of 10 MB":                           {masked(0xC1, mask, deflated(make([]byte, 10<<20), 9, 0)), protocol.CloseTooBig},
		"one byte too many":                         {masked(0xC1, mask, deflated(make([]byte, protocol.MaxFrame+1), 9, 0)), protocol.CloseTooBig},
		"more than the limit on the wire":           {masked(0xC1, mask, make([]byte, protocol.MaxFrame+maxOverhead+1)), protocol.CloseTooBig},
		"what is no UTF-8 once it is inflated":      {masked(0xC1, mask, deflated([]byte("\xff"), 6, 0)), protocol.CloseBadUTF8},
		"a binary message":                          {masked(0xC2, mask, ping), protocol.CloseUnsupported},
		"as much as there may be, not compressible": {masked(0xC1, mask, deflated([]byte(`{"type":"ping","id":1,"x":"`+noise(protocol.MaxFrame-29)+`"}`), 0, 0)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			conn, _ := w.rawOffer(w.thinURL("xoxp-ana", ""), "permessage-deflate; client_max_window_bits")
			readFrame(t, conn) // hello
			go conn.Write(c.bytes)
			op, body := readFrame(t, conn)
			for op == opPong {
				op, body = readFrame(t, conn)
			}
			switch {
			case c.code != 0 && (op != opClose || protocol.CloseCode(body[0])<<8|protocol.CloseCode(body[1]) != c.code):
				t.Errorf("it gets opcode %d with %q, not a close with %d", op, body, c.code)
			case c.code == 0 && !bytes.Contains(body, []byte(`"pong"`)):
				t.Errorf("it gets opcode %d with %q", op, body)
			}
		})
	}
	w.t = t
	if n := w.metric("flannel_compression_messages_total", "in"); n < 4 {
		t.Errorf("%v messages are counted", n)
	}
}

// noise is text that cannot be compressed much.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[x>>26]
	}
	return string(b)
}

// TestCompression_TheEchoToo: conformance suites are run against it.
func TestCompression_TheEchoToo(t *testing.T) {
	w := newWorld(t, func(c *Config, w *world) {
		compressing(c, w)
		c.DebugEcho = true
	})
	conn, _, err := w.dialer().Dial("ws://"+w.edge.Addr()+"/debug/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, size := range []int{0, 1, 1000, 70_000, 2 << 20} {
		sent := noise(size/2) + strings.Repeat("y", size-size/2)
		if err := conn.WriteMessage(opBinary, []byte(sent)); err != nil {
			t.Fatal(err)
		}
		if kind, got, err := conn.ReadMessage(); err != nil || kind != opBinary || string(got) != sent {
			t.Fatalf("%d bytes come back as %d of kind %d, %v", size, len(got), kind, err)
		}
	}
	if n := w.metric("flannel_compression_messages_total", "out"); n != 3 {
		t.Errorf("%v are compressed", n)
	}
}
