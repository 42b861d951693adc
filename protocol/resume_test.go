package protocol

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestResumeToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := ResumeToken{User: UserID(rapid.StringMatching(`[UW][A-Z0-9]{1,11}`).Draw(t, "user")), Position: Position(rapid.Uint64().Draw(t, "position"))}
		got, err := ParseResumeToken(want.String())
		if err != nil || got != want {
			t.Fatalf("%s reads as %+v, %v", want, got, err)
		}
	})
	for _, bad := range []string{"", ".", "..", "1", "1.", "1.5", "1..U1", "1.5.", "1.5.C1", "2.5.U1", "1.-5.U1", "1.zzzzzzzzzzzzzzzz.U1", "1.5.U1 ", string(make([]byte, 1000))} {
		if got, err := ParseResumeToken(bad); err == nil {
			t.Errorf("%q reads as %+v", bad, got)
		}
	}
}

func FuzzParseResumeToken(f *testing.F) {
	f.Add(ResumeToken{User: "U1", Position: math.MaxUint64}.String())
	f.Fuzz(func(t *testing.T, s string) {
		token, err := ParseResumeToken(s)
		if err != nil {
			return
		}
		if again, err := ParseResumeToken(token.String()); err != nil || again != token {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", s, token, again, err)
		}
	})
}

func TestEventID(t *testing.T) {
	if id := EventID(&Event{Topic: "C1"}); id != "" {
		t.Errorf("an event without seq has id %q", id)
	}
	id := EventID(&Event{Topic: "presence:U1", Seq: 7})
	if topic, seq, ok := ParseEventID(id); topic != "presence:U1" || seq != 7 || !ok {
		t.Errorf("%q reads as %q, %d, %v", id, topic, seq, ok)
	}
	for _, bad := range []string{"", ":", ":1", "C1", "C1:", "C1:0", "C1:x", "C1:-1"} {
		if _, _, ok := ParseEventID(bad); ok {
			t.Errorf("%q is an event id", bad)
		}
	}
}
