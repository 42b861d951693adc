package query

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// TestReady_SaysWhatQuerySays: whatever is asked by whomever, what is answered from memory is what Query answers; and
// nobody is answered whom Query would refuse or have wait.
func TestReady_SaysWhatQuerySays(t *testing.T) {
	w := newWorld(t)
	people := []protocol.UserID{ada, bob, gus, robo, dee, eve, sam, zoe, "U0000077"}
	for _, u := range []protocol.UserID{ada, gus} {
		w.ask(t, u, "users/info", `{"updated_ids":{"U0000001":0,"U0000002":0,"U0000003":0,"U0000008":0}}`)
	}
	answered := 0
	rapid.Check(t, func(rt *rapid.T) {
		if rapid.IntRange(0, 9).Draw(rt, "change") == 0 {
			u := rapid.SampledFrom(people[:4]).Draw(rt, "changed")
			w.mu.Lock()
			o := w.objects[protocol.ObjectID(u)]
			w.mu.Unlock()
			o.Version += protocol.Version(rapid.IntRange(1, 5).Draw(rt, "newer"))
			w.emit(func() { w.objects[o.ID] = o }, &protocol.Event{
				Topic: protocol.Topic(t1), Type: "user_change", Effects: []protocol.Effect{{Op: protocol.OpUpsert, Object: &o}},
			})
		}
		var pairs []string
		for range rapid.IntRange(0, 5).Draw(rt, "ids") {
			u := rapid.SampledFrom(people).Draw(rt, "id")
			w.mu.Lock()
			version := int64(w.objects[protocol.ObjectID(u)].Version)
			w.mu.Unlock()
			have := max(0, version+rapid.SampledFrom([]int64{-version, -1, 0, 1}).Draw(rt, "have"))
			pairs = append(pairs, fmt.Sprintf("%q:%d", u, have))
		}
		args := []byte(`{"updated_ids":{` + strings.Join(pairs, ",") + `}` + rapid.SampledFrom([]string{"", `,"check_interaction":true`, `,"x":1`}).Draw(rt, "more") + `}`)
		id := w.id(rapid.SampledFrom([]protocol.UserID{ada, gus, sam}).Draw(rt, "who"))
		before := []byte("before")
		body, ok := w.service.Ready(&id, []byte("users/info"), args, before)
		if !bytes.HasPrefix(body, before) || !ok && len(body) > len(before) {
			rt.Fatalf("dst has become %q", body)
		}
		if !ok {
			return
		}
		answered++
		reply, err := w.service.Query(t.Context(), id, "users/info", args)
		if err != nil || reply.Stale || string(reply.Body) != string(body[len(before):]) {
			rt.Errorf("%s asks %s: at once %s, by Query %+v, %v", id.User, args, body[len(before):], reply, err)
		}
		if !id.Role.Full() {
			rt.Errorf("%s of role %v is answered", id.User, id.Role)
		}
	})
	if answered == 0 {
		t.Error("nothing was answered at once")
	}
	w.breakStream()
	id := w.id(ada)
	if _, ok := w.service.Ready(&id, []byte("users/info"), []byte(`{"updated_ids":{"U0000001":0}}`), nil); ok {
		t.Error("it answers while the stream is down: nobody marks it stale")
	}
	w.mendStream()
	if _, ok := w.service.Ready(&id, []byte("channels/info"), []byte(`{"updated_ids":{}}`), nil); ok {
		t.Error("it answers what it does not know")
	}
}

// TestReady_TheUsersOwnWriteIsWaitedFor: a user whose write has not come back is not answered from before it.
func TestReady_TheUsersOwnWriteIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	args := []byte(`{"updated_ids":{"U0000001":0}}`)
	w.ask(t, ada, "users/info", string(args))
	id := w.id(ada)
	if _, ok := w.service.Ready(&id, []byte("users/info"), args, nil); !ok {
		t.Fatal("not answered")
	}
	w.cache.RaiseFloor(ada, w.at+5)
	if _, ok := w.service.Ready(&id, []byte("users/info"), args, nil); ok {
		t.Error("answered from the past")
	}
}
