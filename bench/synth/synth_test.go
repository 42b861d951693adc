package synth

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

func backend(t *testing.T) *Backend {
	b, err := New(World{Users: 50, Channels: 20, PerUser: 7, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve() }()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	return b
}

// load calls the backend as an edge does.
func load(t *testing.T, b *Backend, name string, request, answer any) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL()+protocol.UpstreamPath+name, strings.NewReader(string(protocol.MustMarshal(request))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.Key())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode
}

// Everything that is said of the same user and channel by different loads is the same.
func TestLoads_AgreeWithEachOther(t *testing.T) {
	b := backend(t)
	var who protocol.IdentifyAnswer
	load(t, b, protocol.CallIdentify, protocol.IdentifyRequest{Tokens: []string{Token(7), "xoxb-bench-50", "nonsense"}}, &who)
	if len(who.Identities) != 3 || who.Identities[0].User != User(7) || who.Identities[1].Error == "" || who.Identities[2].Error == "" {
		t.Fatalf("%+v", who)
	}
	var boot protocol.BootAnswer
	load(t, b, protocol.CallBoot, protocol.BootRequest{Users: []protocol.UserID{User(7), "U9"}}, &boot)
	if len(boot.Users) != 2 || len(boot.Users[0].Memberships) != 7 || boot.Users[0].Memberships[0].Channel != Channel(0) || boot.Users[1].Error == "" {
		t.Fatalf("%+v", boot)
	}
	if n := len(boot.Users[0].Self.Body); n != bodySize {
		t.Errorf("a user's body has %d bytes, not %d", n, bodySize)
	}
	for _, m := range boot.Users[0].Memberships {
		var all []protocol.UserID
		for cursor := protocol.UserID(""); ; {
			var page protocol.MembersAnswer
			load(t, b, protocol.CallMembers, protocol.MembersRequest{Channel: m.Channel, Cursor: cursor, Limit: 3}, &page)
			all = append(all, page.Users...)
			if cursor = page.NextCursor; cursor == "" {
				if len(all) != page.Total {
					t.Errorf("%s has %d members of %d", m.Channel, len(all), page.Total)
				}
				break
			}
		}
		if !strings.Contains(string(protocol.MustMarshal(all)), string(User(7))) {
			t.Errorf("%s is not in %s", User(7), m.Channel)
		}
	}
	var objects protocol.ObjectsAnswer
	load(t, b, protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{"U00000007", "C00000003", "T00000001", "C00000020", "U00000007", "x"}}, &objects)
	if len(objects.Objects) != 3 || len(objects.Missing) != 2 || string(objects.Objects[0].Body) != string(boot.Users[0].Self.Body) {
		t.Errorf("%+v", objects)
	}
	seen := 0
	for cursor := ""; ; {
		var list protocol.ListAnswer
		load(t, b, protocol.CallList, protocol.ListRequest{Kind: protocol.KindUser, Order: protocol.ByName, Cursor: cursor, Limit: 8}, &list)
		for i := 1; i < len(list.Entries); i++ {
			if list.Entries[i-1].SortName >= list.Entries[i].SortName {
				t.Errorf("%s before %s", list.Entries[i-1].SortName, list.Entries[i].SortName)
			}
		}
		seen += len(list.Entries)
		if cursor = list.NextCursor; cursor == "" {
			break
		}
	}
	if seen != 50 {
		t.Errorf("%d users in the list", seen)
	}
	if status := load(t, b, "nothing", struct{}{}, nil); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
}

func TestStream_SubscribeThenPublish(t *testing.T) {
	b := backend(t)
	if _, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(b.URL(), "http")+"/upstream/v1/stream", nil); err == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a stranger gets %v", err)
	}
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(b.URL(), "http")+"/upstream/v1/stream", http.Header{"Authorization": {"Bearer " + b.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	next := func() (f protocol.StreamFrame) {
		t.Helper()
		if err := conn.ReadJSON(&f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := next(); f.Type != protocol.StreamHello || f.Position == 0 {
		t.Fatalf("%+v", f)
	}
	say := func(f protocol.StreamFrame) {
		if err := conn.WriteJSON(f); err != nil {
			t.Fatal(err)
		}
	}
	topic := protocol.Topic(Channel(0))
	say(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{{Topic: topic}, {Topic: protocol.PresenceTopic(User(1))}}})
	if f := next(); f.Type != protocol.StreamSubscribed || len(f.Topics) != 2 || *f.Topics[0].Seq != 0 {
		t.Fatalf("%+v", f)
	}
	if f := next(); f.Type != protocol.StreamEvents || f.Events[0].Class != protocol.ClassEphemeral {
		t.Fatalf("%+v", f)
	}
	next() // the watermark
	if !b.Followed() {
		t.Error("nobody follows")
	}
	b.Publish("hello")
	f := next()
	if f.Type != protocol.StreamEvents || f.Events[0].Seq != 1 || len(f.Events[0].Payload) != PayloadLen || !json.Valid(f.Events[0].Payload) || !strings.Contains(string(f.Events[0].Payload), `"text":"hello`) {
		t.Fatalf("%s", protocol.MustMarshal(f))
	}
	position := f.Events[0].Position
	if f := next(); f.Type != protocol.StreamWatermark || f.Position != position {
		t.Fatalf("%+v", f)
	}
	var boot protocol.BootAnswer
	load(t, b, protocol.CallBoot, protocol.BootRequest{Users: []protocol.UserID{User(0), User(1)}}, &boot)
	if a, o := boot.Users[0].Memberships[0], boot.Users[1].Memberships[0]; a.Latest != messageTS(1) || a.LastRead != a.Latest || o.Latest != a.Latest || o.LastRead == a.Latest {
		t.Errorf("author %+v, other %+v", a, o)
	}
	// Who has missed it is told to begin anew.
	before := position - 1
	say(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{{Topic: topic, Position: &before}}})
	if f := next(); f.Type != protocol.StreamReset || *f.Topics[0].Seq != 1 {
		t.Fatalf("%+v", f)
	}
	var replay protocol.ReplayAnswer
	load(t, b, protocol.CallReplay, protocol.ReplayRequest{Topics: []protocol.TopicState{{Topic: topic, Position: &before}, {Topic: "T00000001", Position: &before}}}, &replay)
	if len(replay.Gone) != 1 || replay.Gone[0] != topic {
		t.Errorf("%+v", replay)
	}
	say(protocol.StreamFrame{Type: protocol.StreamPing, ID: 9})
	for f = next(); f.Type != protocol.StreamPong; f = next() {
	}
	if f.ID != 9 {
		t.Errorf("%+v", f)
	}
}
