package query

import (
	"slices"
	"testing"

	"flannel/cache"
	"flannel/protocol"
)

// TestPeek_ShowsWhatReadsShow: from memory, nothing that a read would not show; and for full members, who see by what is
// at hand, all of it.
func TestPeek_ShowsWhatReadsShow(t *testing.T) {
	w := newWorld(t)
	all := []protocol.ObjectID{botID}
	for _, ch := range []protocol.ChannelID{general, random, secret, old, shared, den, dm, group} {
		all = append(all, protocol.ObjectID(ch))
	}
	for _, u := range []protocol.UserID{ada, bob, gus, robo, dee, eve, sam, zoe} {
		all = append(all, protocol.ObjectID(u))
	}
	for _, viewer := range []protocol.UserID{ada, robo, gus, sam, zoe} {
		id := w.id(viewer)
		if _, err := w.service.User(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		w.service.Peek(id, all) // What is not at hand is loaded for the next time.
		w.service.tasks.group.Wait()
		got := w.service.Peek(id, all)
		r, err := w.service.reader(t.Context(), &id)
		if err != nil {
			t.Fatal(err)
		}
		for _, oid := range all {
			o, freshness := w.cache.Get(oid, 0)
			if freshness != cache.Fresh {
				continue // A private channel of others: its topic is not followed.
			}
			sees, err := r.sees(&o)
			if err != nil {
				t.Fatal(err)
			}
			peeks := slices.ContainsFunc(got, func(o protocol.Object) bool { return o.ID == oid })
			if peeks && !sees {
				t.Errorf("%s is shown %s", viewer, oid)
			}
			if sees && !peeks && (viewer == ada || viewer == robo) && o.Owner == t1 {
				t.Errorf("%s is not shown %s", viewer, oid)
			}
		}
	}
	if got := w.service.Peek(w.id("U77"), all); got != nil {
		t.Errorf("somebody whose state is not known is shown %d objects", len(got))
	}
}

func TestPeek_ShowsNothingOnStalePermission(t *testing.T) {
	w := newWorld(t)
	id := w.id(ada)
	w.ask(t, ada, "users/info", `{"updated_ids":{"`+string(bob)+`":0}}`)
	if got := w.service.Peek(id, []protocol.ObjectID{protocol.ObjectID(bob)}); len(got) != 1 {
		t.Fatalf("%d objects", len(got))
	}
	w.breakStream()
	if got := w.service.Peek(id, []protocol.ObjectID{protocol.ObjectID(bob)}); got != nil {
		t.Errorf("%d objects while the stream is down", len(got))
	}
	if _, known := w.service.Badge(w.id(ada), general); known {
		t.Error("a badge while the stream is down")
	}
}

func TestPeek_LoadsAreBounded(t *testing.T) {
	w := newWorld(t)
	id := w.id(ada)
	if _, err := w.service.User(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	before := w.count(protocol.CallObjects)
	for range 100 {
		w.service.Peek(id, []protocol.ObjectID{protocol.ObjectID(bob), "nonsense"})
	}
	w.service.tasks.group.Wait()
	if n := w.count(protocol.CallObjects) - before; n > 1 {
		t.Errorf("%d loads of one object", n)
	}
	if len(w.service.warming.ids) != 0 {
		t.Errorf("%d are being loaded", len(w.service.warming.ids))
	}
	if m, known := w.service.Badge(id, general); !known || m.Channel != general {
		t.Errorf("the badge of general is of %q, %v", m.Channel, known)
	}
	if m, known := w.service.Badge(id, "C999"); !known || m.Channel != "" {
		t.Errorf("the badge of a channel that she is not in is of %q, %v", m.Channel, known)
	}
}

// TestBadge_AVoidStateIsLoadedAgain: who only gets badges reads nothing that would have it loaded.
func TestBadge_AVoidStateIsLoadedAgain(t *testing.T) {
	w := newWorld(t)
	id := w.id(ada)
	if _, err := w.service.User(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.count(protocol.CallBoot)
	at := w.leave(random, ada) // Something happens, so that the state is from before the reset.
	w.cache.Reset(protocol.Topic(ada), at+1)
	w.join(random, ada) // Loads are from after it.

	for range 10 {
		if _, known := w.service.Badge(id, general); known {
			break // loaded already
		}
	}
	w.service.tasks.group.Wait()

	if m, known := w.service.Badge(id, general); !known || m.Channel != general {
		t.Errorf("the badge of general is of %q, %v", m.Channel, known)
	}
	if n := w.count(protocol.CallBoot); n != 1 {
		t.Errorf("%d boots", n)
	}
}
