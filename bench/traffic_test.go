package bench

import (
	"encoding/binary"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"flannel/protocol"
)

// wireFrame is a server's frame.
func wireFrame(op byte, payload string) []byte {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

func TestMeter_CountsFramesHoweverTheyArrive(t *testing.T) {
	frames := map[Kind][][]byte{
		KindMessages: {wireFrame(1, `{"type":"message","text":"`+strings.Repeat("x", 300)+`"}`), wireFrame(1, `{"type":"message","text":"`+strings.Repeat("x", 70_000)+`"}`)},
		KindPeople:   {wireFrame(1, `{"type":"user_invalidated","user":{"id":"U1"}}`)},
		KindAnswers:  {wireFrame(1, `{"reply_to":1,"results":[],"ok":true}`), wireFrame(1, "")},
		KindAlive:    {wireFrame(9, ""), wireFrame(1, `{"reply_to":4,"type":"pong"}`)},
		KindOther:    {wireFrame(1, `{"type":"never_heard_of"}`)},
	}
	for _, step := range []int{1, 2, 3, 100, 1 << 20} {
		near, far := net.Pipe()
		m := newMeter(near)
		go func() {
			io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
			for _, kind := range Kinds {
				for _, f := range frames[kind] {
					far.Write(f)
				}
			}
			far.Close()
		}()
		m.start()
		buf := make([]byte, step)
		for {
			if _, err := m.Read(buf); err != nil {
				break
			}
		}

		got := m.result()
		for kind, list := range frames {
			size := 0
			for _, f := range list {
				size += len(f)
			}
			if got.bytes[kind] != size || got.frames[kind] != len(list) {
				t.Errorf("by %d: %s are %d frames with %d bytes, want %d with %d", step, kind, got.frames[kind], got.bytes[kind], len(list), size)
			}
		}
	}
}

func TestDay_IsTheSameForTheSameSeed(t *testing.T) {
	target := &TrafficTarget{Users: 500, Listeners: []Listener{{Person: Person{ID: "U1"}, Channels: []protocol.ChannelID{"C1", "C2"}}}}
	for _, id := range []protocol.ChannelID{"C1", "C2", "C3", "C4"} {
		target.Channels = append(target.Channels, TrafficChannel{ID: id, Members: []protocol.UserID{"U1", "U2", "U3"}})
	}
	opt := TrafficOptions{Duration: time.Minute, Speed: 60, Seed: 7}

	one, two := newDay(target, opt).plan(opt, nil, nil), newDay(target, opt).plan(opt, nil, nil)

	if !reflect.DeepEqual(one, two) {
		t.Error("two days of one seed differ")
	}
	count, last := make(map[string]int), time.Duration(0)
	for _, d := range one {
		if d.at < last || d.at > opt.Duration {
			t.Fatalf("a deed at %v after one at %v", d.at, last)
		}
		last = d.at
		count[d.what]++
	}
	if n := count[doMessage]; n < 1350 || n > 1650 { // 5 an hour of 300
		t.Errorf("%d messages in an hour of 500 people", n)
	}
	if v := newDay(target, opt).view(target.Listeners[0], 1); len(v) != 1 {
		t.Errorf("the view is %v", v)
	}
}
