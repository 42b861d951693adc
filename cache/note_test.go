package cache

import (
	"strings"
	"testing"

	"flannel/protocol"
)

// noted returns the notes of a user's channels, - for none.
func (f *fixture) noted(u *User, floor protocol.Position) string {
	list, notes := f.Noted(u, 0, floor, nil, nil)
	var b strings.Builder
	for i, text := range notes {
		if text == nil {
			text = []byte("-")
		}
		b.WriteString(string(list[i].Channel) + ":" + string(text) + " ")
	}
	return b.String()
}

// world of notes: U1 is in C1 and C2, both at version 1 and noted.
func newNotes(t *testing.T) (*fixture, *User) {
	t.Helper()
	f := newFixture(t)
	f.follow(1, ws, "U1", "C1", "C2")
	f.Watermark(10)
	u := f.fillUser(t, bootOf("U1", "C1", "C2"), 10)
	f.note(object("C1", 1), "one")
	f.note(object("C2", 1), "two")
	if got := f.noted(u, 10); got != "C1:one C2:two " {
		t.Fatalf("noted %q", got)
	}
	return f, u
}

// note loads an object as of 10 and notes it.
func (f *fixture) note(o protocol.Object, text string) {
	f.Fill(answer(10, o))
	f.Note(0, &o, []byte(text))
}

// TestNoted_OnlyWhileTheObjectIsTheSame: a note is never shown to somebody who may have seen a later state of the channel.
func TestNoted_OnlyWhileTheObjectIsTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(f *fixture)
		want string
	}{
		"nothing":                       {func(*fixture) {}, "C1:one C2:two "},
		"changed":                       {func(f *fixture) { f.event(ws, 11, upsert(object("C1", 2))) }, "C1:- C2:two "},
		"gone":                          {func(f *fixture) { f.event(ws, 11, bury("C1", 0)) }, "C1:- C2:two "},
		"their workspace was reset":     {func(f *fixture) { f.Reset(ws, 11) }, "C1:- C2:- "},
		"the stream is down":            {func(f *fixture) { f.Live(false) }, "C1:- C2:- "},
		"something is ahead of it":      {func(f *fixture) { f.Fill(answer(11, object("C1", 2))) }, "C1:- C2:- "},
		"and the stream has come there": {func(f *fixture) { f.Fill(answer(11, object("U9", 1))); f.Watermark(11) }, "C1:one C2:two "},
		"noted too late":                {func(f *fixture) { f.event(ws, 11, upsert(object("C1", 2))); f.note(object("C1", 1), "late") }, "C1:- C2:two "},
		"noted anew":                    {func(f *fixture) { f.event(ws, 11, upsert(object("C1", 2))); f.note(object("C1", 2), "new") }, "C1:new C2:two "},
		"of nobody's channel":           {func(f *fixture) { f.note(object("C9", 1), "nobody's") }, "C1:one C2:two "},
		"left":                          {func(f *fixture) { f.event("C1", 11, removed("C1", "U1")) }, "C2:two "},
	} {
		t.Run(name, func(t *testing.T) {
			f, u := newNotes(t)
			c.do(f)
			if got := f.noted(u, 0); got != c.want {
				t.Errorf("noted %q, want %q", got, c.want)
			}
		})
	}
	f, u := newNotes(t)
	if got := f.noted(u, 11); got != "C1:- C2:- " {
		t.Errorf("above the watermark %q is noted", got)
	}
	if list, notes := f.Noted(u, 1, 0, nil, nil); len(list) != 2 || notes[0] != nil || notes[1] != nil {
		t.Errorf("of another kind %q is noted", notes)
	}
}

// TestNote_Bound: there is no more than maxNotes of them, and they go with their channels.
func TestNote_Bound(t *testing.T) {
	f, u := newNotes(t)
	if f.Cache.noted != 2*(3+noteOverhead) {
		t.Errorf("%d bytes are noted", f.Cache.noted)
	}
	f.note(object("C1", 1), strings.Repeat("x", maxNotes))
	if got := f.noted(u, 0); got != "C1:- C2:two " || f.Cache.noted != 3+noteOverhead {
		t.Errorf("%q are noted, %d bytes", got, f.Cache.noted)
	}
	f.event("C2", 11, removed("C2", "U1"))
	if f.Cache.noted != 0 {
		t.Errorf("%d bytes are left", f.Cache.noted)
	}
}
