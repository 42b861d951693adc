package query

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"flannel/protocol"
)

func TestRush(t *testing.T) {
	var r rush
	now := time.Unix(1_800_000_000, 0)
	for i := range rushUsers {
		r.came(now.Add(time.Duration(i) * 150 * time.Millisecond)) // Across a span's end.
	}
	now = now.Add(6 * time.Second)
	if r.leaves("U1", now) {
		t.Error("a rush of as many as log in by chance")
	}
	r.came(now)
	if !r.leaves("U1", now) {
		t.Error("no rush with one more")
	}
	now = now.Add(2 * rushSpan * time.Second)
	if !r.leaves("U1", now) || r.leaves("U2", now) {
		t.Error("after the rush: U1 is left for good, nobody else")
	}
	for i := range maxLeft + rushUsers + 1 {
		r.came(now)
		r.leaves(protocol.UserID(fmt.Sprint("U", i)), now)
	}
	if len(r.left) > maxLeft {
		t.Errorf("%d are remembered", len(r.left))
	}
}

// Guests who come in a rush cost no loads of member sets, not even when they come back.
func TestUser_GuestsInARush(t *testing.T) {
	for _, rushing := range []bool{false, true} {
		w := newWorld(t)
		for range rushUsers + 1 {
			if rushing {
				w.service.rush.came(time.Now())
			}
		}
		id, err := w.service.Identify(t.Context(), "xoxp-"+string(gus))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := w.service.User(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.count("members"); rushing != (n == 0) {
			t.Errorf("rush %v: %d loads of member sets", rushing, n)
		}
	}
}

// The user's own object comes with the boot.
func TestUser_KeepsTheirOwnObject(t *testing.T) {
	w := newWorld(t)
	id, err := w.service.Identify(t.Context(), "xoxp-"+string(ada))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.bootFrames(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(w.asked, protocol.ObjectID(ada)) {
		t.Error("loaded again")
	}
}
