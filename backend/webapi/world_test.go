package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend/store"
	"flannel/backend/store/sqlite"
	"flannel/backend/token"
	"flannel/protocol"
)

const (
	ours   protocol.WorkspaceID = "T0OURS"
	theirs protocol.WorkspaceID = "T0THEIRS"

	ann  protocol.UserID = "U0ANN" // member
	ben  protocol.UserID = "U0BEN" // member
	ada  protocol.UserID = "U0ADA" // admin
	gus  protocol.UserID = "U0GUS" // guest, in #project only
	bot  protocol.UserID = "U0BOT"
	gone protocol.UserID = "U0GONE" // deactivated
	zoe  protocol.UserID = "U0ZOE"  // of theirs, in #shared
	yan  protocol.UserID = "U0YAN"  // of theirs, in nothing

	general protocol.ChannelID = "C0GENERAL" // everybody but the guest
	random  protocol.ChannelID = "C0RANDOM"  // ann
	project protocol.ChannelID = "C0PROJECT" // ann, gus
	secret  protocol.ChannelID = "C0SECRET"  // ben, ada; private
	old     protocol.ChannelID = "C0ZOLD"    // ann; archived
	shared  protocol.ChannelID = "C0SHARED"  // ann, zoe; shared with theirs
)

// world is a small workspace behind an API, with a clock that moves by a millisecond at each look.
type world struct {
	tb     testing.TB
	api    *API
	store  store.Store
	signer *token.Signer

	// mu guards what follows.
	mu        sync.Mutex
	clock     time.Time
	events    []*protocol.Event // all that were committed
	published []*protocol.Event
	away      map[protocol.UserID]bool
	touched   []protocol.UserID
}

func newWorld(tb testing.TB, limits Limits) *world {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(logWriter{tb}, nil))
	file, err := template()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "flannel.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		tb.Fatal(err)
	}
	st, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	})
	w := &world{tb: tb, store: st, clock: time.Unix(1_800_000_000, 0), away: make(map[protocol.UserID]bool)}
	st.OnCommit(func(_ protocol.Position, events []*protocol.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, events...)
	})
	w.signer = token.New([]byte("0123456789abcdef0123456789abcdef"), w.now)
	w.api = New(Options{
		Store: st, Tokens: w.signer, Sockets: w, Presence: w, Publisher: w, Limits: limits, Log: log, Registerer: prometheus.NewRegistry(), Now: w.now,
	})
	return w
}

// template makes the database that every world begins with, once: migrations take longer than most tests.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "flannel-world")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "flannel.db")
	st, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fill(st), st.Close()); err != nil { // Closing moves all into the one file.
		return nil, err
	}
	return os.ReadFile(path)
})

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(time.Millisecond)
	return w.clock
}

// later moves the clock.
func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// The world is the sockets, the presence and the publisher too.

func (w *world) Ticket(id protocol.Identity, params map[string]string, host string) (string, error) {
	return strings.Replace(host, "http", "ws", 1) + "/websocket/" + string(id.User) + fmt.Sprint(len(params)), nil
}

func (w *world) Presence(user protocol.UserID) Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away[user] {
		return Status{Presence: protocol.Away, Online: true, ManualAway: true, Connections: 1, LastActivity: 1_700_000_000}
	}
	return Status{Presence: protocol.Active, Online: true, Connections: 1, LastActivity: 1_700_000_000}
}

func (w *world) SetManual(user protocol.UserID, away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away[user] = away
}

func (w *world) Touch(user protocol.UserID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched = append(w.touched, user)
}

func (w *world) Publish(e *protocol.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = append(w.published, e)
}

func fill(st store.Store) error {
	user := func(id protocol.UserID, team protocol.WorkspaceID, name string, change func(*protocol.User)) *protocol.User {
		u := &protocol.User{
			ID: id, TeamID: team, Name: name, RealName: strings.ToUpper(name[:1]) + name[1:] + " Example", Updated: 1_600_000_000,
			Profile: protocol.Profile{Email: name + "@example.org", DisplayName: name, Team: team},
		}
		u.Profile.RealName = u.RealName
		if change != nil {
			change(u)
		}
		return u
	}
	channel := func(id protocol.ChannelID, name string, change func(*protocol.Channel)) *protocol.Channel {
		c := &protocol.Channel{
			ID: id, Name: name, NameNormalized: name, Created: 1_600_000_000, Creator: ann, Updated: 1_600_000_000_000, ContextTeamID: ours, IsChannel: true,
		}
		if change != nil {
			change(c)
		}
		return c
	}
	shapes := []protocol.Shape{
		&protocol.Workspace{ID: ours, Name: "Ours", Domain: "ours", Updated: 1_600_000_000},
		&protocol.Workspace{ID: theirs, Name: "Theirs", Domain: "theirs", Updated: 1_600_000_000},
		user(ann, ours, "ann", nil), user(ben, ours, "ben", nil),
		user(ada, ours, "ada", func(u *protocol.User) { u.IsAdmin = true }),
		user(gus, ours, "gus", func(u *protocol.User) { u.IsRestricted, u.IsUltraRestricted = true, true }),
		user(bot, ours, "robo", func(u *protocol.User) { u.IsBot = true; u.Profile.BotID = "B0BOT" }),
		user(gone, ours, "gone", func(u *protocol.User) { u.Deleted = true }),
		user(zoe, theirs, "zoe", nil), user(yan, theirs, "yan", nil),
		&protocol.Bot{ID: "B0BOT", TeamID: ours, Name: "robo", Updated: 1_600_000_000, UserID: bot},
		&protocol.Emoji{Workspace: ours, Name: "parrot", Value: "https://example.org/parrot.gif", Updated: 1_600_000_000, Creator: ada},
		&protocol.Usergroup{
			ID: "S0TEAM", TeamID: ours, IsUsergroup: true, Name: "Team", Handle: "team", DateUpdate: 1_600_000_000, Users: []protocol.UserID{ann, ben}, UserCount: 2,
		},
		channel(general, "general", func(c *protocol.Channel) { c.IsGeneral = true }),
		channel(random, "random", nil), channel(project, "project", nil),
		channel(secret, "secret", func(c *protocol.Channel) { c.IsPrivate, c.IsGroup, c.IsChannel, c.Creator = true, true, false, ben }),
		channel(old, "old", func(c *protocol.Channel) { c.IsArchived = true }),
		channel(shared, "shared", func(c *protocol.Channel) {
			c.IsShared, c.IsExtShared, c.SharedTeamIDs = true, true, []protocol.WorkspaceID{ours, theirs}
		}),
	}
	members := map[protocol.ChannelID][]protocol.UserID{
		general: {ann, ben, ada, bot}, random: {ann}, project: {ann, gus}, secret: {ben, ada}, old: {ann}, shared: {ann, zoe},
	}
	_, err := st.Update(context.Background(), func(tx store.Tx) error {
		for _, s := range shapes {
			if err := tx.Put(s); err != nil {
				return err
			}
			c, ok := s.(*protocol.Channel)
			if !ok {
				continue
			}
			for _, u := range members[c.ID] {
				m := protocol.Membership{Channel: c.ID, Owner: ours, Type: c.Type(), Updated: c.Updated, Archived: c.IsArchived}
				if err := tx.AddMember(u, m); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return err
}

// addMember makes a user and puts them in a channel.
func (w *world) addMember(id protocol.UserID, channel protocol.ChannelID) {
	w.tb.Helper()
	_, err := w.store.Update(context.Background(), func(tx store.Tx) error {
		if err := tx.Put(&protocol.User{ID: id, TeamID: ours, Name: strings.ToLower(string(id)), Updated: 1}); err != nil {
			return err
		}
		return tx.AddMember(id, protocol.Membership{Channel: channel, Owner: ours, Type: protocol.TypePublic})
	})
	if err != nil {
		w.tb.Fatal(err)
	}
}

// addUsers makes n users and puts them in #general.
func (w *world) addUsers(n int) {
	w.tb.Helper()
	_, err := w.store.Update(context.Background(), func(tx store.Tx) error {
		for i := range n {
			u := &protocol.User{ID: protocol.UserID(fmt.Sprintf("U1N%05d", i)), TeamID: ours, Name: fmt.Sprint("n", i), Updated: 1}
			if err := tx.Put(u); err != nil {
				return err
			}
			if err := tx.AddMember(u.ID, protocol.Membership{Channel: general, Owner: ours, Type: protocol.TypePublic}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
}

// token returns a token of a user.
func (w *world) token(user protocol.UserID) string {
	w.tb.Helper()
	team := ours
	if user == zoe || user == yan {
		team = theirs
	}
	tok, err := w.signer.Issue(token.Claims{ID: "token" + string(user), User: user, Workspace: team, Issued: 1_700_000_000})
	if err != nil {
		w.tb.Fatal(err)
	}
	return tok
}

// form writes arguments name, value, name, value, … as a form.
func form(args ...string) []byte {
	v := make(url.Values)
	for i := 0; i+1 < len(args); i += 2 {
		v.Set(args[i], args[i+1])
	}
	return []byte(v.Encode())
}

// call does one call as user, with arguments name, value, name, value and so on.
func (w *world) call(user protocol.UserID, method string, args ...string) *protocol.Reply {
	w.tb.Helper()
	c := &protocol.Call{Method: method, ContentType: "application/x-www-form-urlencoded", Body: form(args...), Remote: "test", Host: "http://host.example:1"}
	if user != "" {
		c.Token = w.token(user)
	}
	return w.api.Do(context.Background(), c)
}

// result is a decoded answer.
type result map[string]any

func decodeReply(tb testing.TB, r *protocol.Reply) result {
	tb.Helper()
	body := r.Body
	if r.Stream != nil {
		var err error
		if body, err = io.ReadAll(r.Stream); err != nil {
			tb.Fatal(err)
		}
		if err := r.Stream.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	var out result
	if err := json.Unmarshal(body, &out); err != nil {
		tb.Fatalf("answer is not JSON: %v: %.200s", err, body)
	}
	if out["ok"] != true && out["error"] == nil {
		tb.Fatalf("answer is neither ok nor an error: %.200s", body)
	}
	return out
}

// get is a call that must work.
func (w *world) get(user protocol.UserID, method string, args ...string) result {
	w.tb.Helper()
	out := decodeReply(w.tb, w.call(user, method, args...))
	if out["ok"] != true {
		w.tb.Fatalf("%s %v as %s: %v", method, args, user, out)
	}
	return out
}

// fails is a call that must be refused with code.
func (w *world) fails(user protocol.UserID, code protocol.Code, method string, args ...string) result {
	w.tb.Helper()
	out := decodeReply(w.tb, w.call(user, method, args...))
	if out["error"] != string(code) {
		w.tb.Errorf("%s %v as %s: %v, want %s", method, args, user, out, code)
	}
	return out
}

// at walks into an answer: names of fields and, for lists, numbers.
func (r result) at(path ...any) any {
	var v any = map[string]any(r)
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				return nil
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func (r result) str(path ...any) string {
	s, _ := r.at(path...).(string)
	return s
}

// ids lists a field of the objects in a list; the strings themselves if field is "".
func (r result) ids(list, field string) []string {
	var out []string
	items, _ := r[list].([]any)
	for _, it := range items {
		if field == "" {
			out = append(out, it.(string))
		} else {
			s, _ := it.(map[string]any)[field].(string)
			out = append(out, s)
		}
	}
	return out
}

// since returns the events after the first n, in words: topic, type, subtype, effects.
func (w *world) since(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, e := range w.events[n:] {
		var p struct{ Type, Subtype string }
		if e.Payload != nil {
			if err := json.Unmarshal(e.Payload, &p); err != nil || p.Type != e.Type {
				w.tb.Errorf("payload of %s: %v %s", e.Type, err, e.Payload)
			}
		}
		words := []string{string(e.Topic), e.Type}
		if p.Subtype != "" {
			words = append(words, p.Subtype)
		}
		for _, f := range e.Effects {
			words = append(words, "+"+string(f.Op))
		}
		list = append(list, strings.Join(words, " "))
	}
	return list
}

func (w *world) seen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events)
}

// lastEvent returns the newest event on a topic of a type.
func (w *world) lastEvent(topic protocol.Topic, typ string) *protocol.Event {
	w.tb.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range slices.Backward(w.events) {
		if e.Topic == topic && e.Type == typ {
			return e
		}
	}
	w.tb.Fatalf("no %s on %s", typ, topic)
	return nil
}

func (w *world) wantEvents(n int, want ...string) {
	w.tb.Helper()
	if got := w.since(n); !slices.Equal(got, want) {
		w.tb.Errorf("events:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (w *world) post(user protocol.UserID, channel protocol.ChannelID, text string, args ...string) string {
	w.tb.Helper()
	return w.get(user, "chat.postMessage", append([]string{"channel", string(channel), "text", text}, args...)...).str("ts")
}

type logWriter struct{ tb testing.TB }

func (l logWriter) Write(p []byte) (int, error) {
	l.tb.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
