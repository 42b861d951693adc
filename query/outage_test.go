package query

import (
	"testing"

	"flannel/protocol"
)

// TestOutage: while the backend and its stream are away, what is cached and public is served and says that it is stale,
// private things and everything else are refused with a time to retry; afterwards all is as before.
func TestOutage(t *testing.T) {
	w := newWorld(t)
	warm := func() {
		w.call(t, ada, "client.userBoot")
		w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0,"U0000008":0}}`)
		w.ask(t, ada, "channels/info", `{"updated_ids":{"C0000002":0}}`)
		w.call(t, ada, "bots.info", "bot", string(botID))
	}
	warm()
	w.set(func() { w.down = true })
	w.breakStream()

	for _, c := range []struct {
		method, name, value string
		code                protocol.Code
	}{
		{"users.info", "user", string(bob), ""}, {"bots.info", "bot", string(botID), ""}, {"team.info", "", "", ""},
		{"conversations.info", "channel", string(general), ""}, {"conversations.info", "channel", string(random), ""},
		{"users.prefs.get", "", "", ""}, {"rtm.connect", "", "", ""}, {"api.getFlannelHttpUrl", "", "", ""},
		{"users.info", "user", string(ada), ""},
		{"users.info", "user", string(sam), protocol.CodeUnavailable}, // seen only by permission
		{"users.info", "user", string(eve), protocol.CodeUnavailable}, // not cached
		{"conversations.info", "channel", string(secret), protocol.CodeUnavailable},
		{"client.userBoot", "", "", protocol.CodeUnavailable}, {"client.counts", "", "", protocol.CodeUnavailable},
		{"users.conversations", "", "", protocol.CodeUnavailable}, {"conversations.list", "types", "im", protocol.CodeUnavailable},
		{"users.list", "", "", protocol.CodeUnavailable}, {"conversations.members", "channel", string(general), protocol.CodeUnavailable},
		{"emoji.list", "", "", protocol.CodeUnavailable}, {"team.info", "team", string(t2), protocol.CodeUnavailable},
	} {
		got := w.call(t, ada, c.method, c.name, c.value)
		if got.code != c.code {
			t.Errorf("%s %s: %q, want %q", c.method, c.value, got.code, c.code)
		}
		if c.code == "" && got.Reply != nil && (!got.Stale || got.Age < 1 || got.Position != 0) {
			t.Errorf("%s: not marked stale", c.method)
		}
	}
	_, err := w.service.Answer(t.Context(), w.id(ada), "client.userBoot", nil, "")
	if e := protocol.AsError(err); e.Retry <= 0 {
		t.Errorf("no time to retry in %v", err)
	}
	if _, _, err := w.bootFrames(t.Context(), w.id(ada), true); protocol.AsError(err).Code != protocol.CodeUnavailable {
		t.Errorf("boot: %v", err)
	}
	if _, err := w.service.User(t.Context(), w.id(bob)); protocol.AsError(err).Code != protocol.CodeUnavailable {
		t.Errorf("a user who is not loaded: %v", err)
	}

	got := w.ask(t, ada, "users/info", `{"check_interaction":true,"updated_ids":{"U0000002":0,"U0000006":0,"U0000008":0}}`)
	if got.ids(t, "results") != "U2" || got.sorted(t, "pending_ids") != "U6 U8" || !got.Stale {
		t.Errorf("users/info: %q %s", got.code, got.Body)
	}
	got = w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":101}}`) // what the client has is newer: nothing to say
	if string(got.Body) != `{"results":[],"ok":true}` {
		t.Errorf("users/info, newer: %s", got.Body)
	}
	got = w.ask(t, ada, "channels/info", `{"check_membership":true,"updated_ids":{"C0000002":0,"C0000003":0}}`)
	if got.ids(t, "results") != "C2" || got.ids(t, "pending_ids") != "C3" || got.fields["member_channels"] != nil {
		t.Errorf("channels/info: %q %s", got.code, got.Body)
	}
	if got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000006":0}}`); got.code != protocol.CodeUnavailable {
		t.Errorf("users/info of what is not cached: %q", got.code)
	}
	if got := w.ask(t, ada, "users/list", `{}`); got.code != protocol.CodeUnavailable {
		t.Errorf("users/list: %q", got.code)
	}
	if got := w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000001"]}`); got.code != protocol.CodeUnavailable {
		t.Errorf("channels/membership: %q", got.code)
	}

	w.set(func() { w.down = false })
	w.mendStream()
	warm()
	if got := w.call(t, ada, "conversations.info", "channel", string(secret)); got.code != "" || got.Stale {
		t.Errorf("afterwards: %q", got.code)
	}
	if got := w.call(t, ada, "client.userBoot"); got.code != "" || got.Stale || got.Position == 0 {
		t.Errorf("boot afterwards: %q", got.code)
	}
}
