package query

import (
	"testing"
	"time"

	"flannel/protocol"
)

func TestHears(t *testing.T) {
	w := newWorld(t)
	for _, u := range []protocol.UserID{ada, gus, sam} {
		w.ask(t, u, "users/info", `{"updated_ids":{"U0000001":0,"U0000002":0,"U0000005":0,"U0000006":0,"U0000008":0,"U0000009":0}}`)
	}
	hears := func(who, user protocol.UserID, may, known bool) {
		t.Helper()
		if gotMay, gotKnown := w.service.Hears(w.id(who), user); gotMay != may || gotKnown != known {
			t.Errorf("%s hears of %s: %t (known %t), want %t (%t)", who, user, gotMay, gotKnown, may, known)
		}
	}
	hears(ada, ada, true, true)
	hears(ada, eve, true, true)   // of the same workspace
	hears(ada, sam, true, true)   // a stranger in a shared channel
	hears(ada, zoe, false, false) // a stranger, who may be in a channel of which it is not known
	hears(gus, bob, true, true)   // in the guest's channel
	hears(gus, eve, false, true)
	hears("U0000777", ada, false, false) // whose state is not here

	w.leave(den, gus)
	hears(gus, bob, false, true)
	w.leave(shared, ada)
	hears(ada, sam, false, false)
	w.join(general, gus) // whose members are not known yet
	if may, known := w.service.Hears(w.id(gus), zoe); may || known {
		t.Errorf("the guest hears of ZOE: %t, known %t", may, known)
	}
	w.breakStream()
	hears(ada, eve, false, false)
}

// TestAllow_GuestsWhoComeLater: the members of a channel that a guest comes into are learned beside the stream.
func TestAllow_GuestsWhoComeLater(t *testing.T) {
	w := newWorld(t)
	w.ask(t, gus, "users/info", `{}`)
	o := (&protocol.User{ID: eve, TeamID: t1}).Object()
	ev := &protocol.Event{Topic: protocol.Topic(t1), Effects: []protocol.Effect{{Op: protocol.OpUpsert, Object: &o}}}
	if w.service.Allow(gus, ev) {
		t.Fatal("a guest hears of somebody whom they do not meet")
	}

	w.join(general, gus)

	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		if w.service.Allow(gus, ev) {
			return
		}
		<-tick.C
	}
	t.Error("a guest does not hear of somebody in a channel that they have come into")
}

// TestUsersList_Guests: a guest's pages hold whom the guest sees, and their markers name nobody else.
func TestUsersList_Guests(t *testing.T) {
	w := newWorld(t)
	w.join(general, gus) // ada bob robo dee eve
	for _, c := range []struct{ args, want string }{
		{`{"count":50}`, "U1 U2 U5 U6 U3 U4"},
		{`{"count":50,"index":"users_by_id"}`, "U1 U2 U3 U4 U5 U6"},
		{`{"count":50,"filter":"everyone AND NOT bots"}`, "U1 U2 U5 U6 U3"},
		{`{"count":50,"filter":"deactivated"}`, "U5"},
	} {
		if got := w.ask(t, gus, "users/list", c.args).ids(t, "results"); got != c.want {
			t.Errorf("%s gets %q, want %q", c.args, got, c.want)
		}
	}
	for index, want := range map[string]string{"users_by_display_name": " U1 U2 U5 U6 U3 U4", "users_by_id": " U1 U2 U3 U4 U5 U6"} {
		all, marker := "", `""`
		for range 10 {
			r := w.ask(t, gus, "users/list", `{"count":2,"index":"`+index+`","marker":`+marker+`}`)
			all += " " + r.ids(t, "results")
			if marker = string(r.fields["next_marker"]); marker == "" {
				break
			}
		}
		if all != want {
			t.Errorf("pages by %s are %q, want %q", index, all, want)
		}
	}
	if r := w.ask(t, gus, "emojis/list", `{"count":1}`); r.ids(t, "results") != "" || r.fields["next_marker"] != nil {
		t.Errorf("a guest's emoji: %s", r.Body)
	}
}
