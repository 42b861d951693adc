package suite_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/slack-go/slack"

	thinclient "flannel/client"
	"flannel/node"
	"flannel/protocol"
)

// constant are metrics that do not move while a node runs, or only when the backend is slow for minutes: the adaptive limit.
var constant = []string{"flannel_connections_limit", "flannel_memory_limit_bytes", "flannel_upstream_boot_limit", "flannel_upstream_limit"}

// elsewhere are metrics that move only when something is wrong that a test of the package can bring about, and this one
// cannot: which file's test looks at the metric, and by which words.
var elsewhere = map[string][2]string{
	"flannel_backend_hub_ephemeral_dropped_total":    {"backend/channels/hub_test.go", "metrics.dropped"},
	"flannel_backend_hub_resets_total":               {"backend/channels/hub_test.go", "metrics.resets"},
	"flannel_backend_hub_slow_subscribers_total":     {"backend/rtm_test.go", "flannel_backend_hub_slow_subscribers_total"},
	"flannel_backend_upstream_publish_refused_total": {"backend/gateway/gateway_test.go", "metrics.refused"},
	"flannel_cache_evictions_total":                  {"cache/users_test.go", "flannel_cache_evictions_total"},
	"flannel_cache_fill_discarded_total":             {"cache/objects_test.go", "flannel_cache_fill_discarded_total"},
	"flannel_cache_fill_outrun_total":                {"cache/objects_test.go", "flannel_cache_fill_outrun_total"},
	"flannel_cache_rejected_sets_total":              {"cache/objects_test.go", "flannel_cache_rejected_sets_total"},
	"flannel_compression_busy_total":                 {"edge/compression_test.go", "flannel_compression_busy_total"},
	"flannel_drain_remaining_connections":            {"edge/timers_test.go", "flannel_drain_remaining_connections"},
	"flannel_events_dropped_total":                   {"edge/review_test.go", "flannel_events_dropped_total"},
	"flannel_handshakes_inflight":                    {"edge/slow_test.go", "flannel_handshakes_inflight"},
	"flannel_memory_pressure":                        {"edge/admission_test.go", "flannel_memory_pressure"},
	"flannel_panics_total":                           {"edge/session_test.go", "flannel_panics_total"},
	"flannel_presence_coalesced_total":               {"fanout/presence_test.go", "flannel_presence_coalesced_total"},
	"flannel_query_pending_ids_total":                {"query/userload_test.go", "metrics.pending"},
	"flannel_query_user_outrun_total":                {"query/userload_test.go", "metrics.outrun"},
	"flannel_slow_clients_total":                     {"edge/slow_test.go", "flannel_slow_clients_total"},
	"flannel_token_refresh_asked_total":              {"edge/refresh_test.go", "flannel_token_refresh_asked_total"},
	"flannel_token_refresh_total":                    {"edge/refresh_test.go", "flannel_token_refresh_total"},
	"flannel_upstream_boot_waiting":                  {"upstream/pace_test.go", "flannel_upstream_boot_waiting"},
	"flannel_upstream_inflight":                      {"upstream/pace_test.go", "flannel_upstream_inflight"},
	"flannel_upstream_joined_total":                  {"upstream/load_test.go", "m.joined"},
	"flannel_upstream_publish_dropped_total":         {"upstream/follow_test.go", "metrics.dropped"},
	"flannel_upstream_stream_resets_total":           {"upstream/stream_test.go", "metrics.resets"},
	"flannel_upstream_topics_refused_total":          {"upstream/follow_test.go", "metrics.topicsRefused"},
	"flannel_webapi_duplicates_total":                {"backend/webapi/api_test.go", "flannel_webapi_duplicates_total"},
	"flannel_writes_unseen_total":                    {"edge/timers_test.go", "flannel_writes_unseen_total"},
}

// TestMetrics_AllMove: every metric of an edge and a backend moves while people work, the backend fails, and the node is
// drained; or it is a constant, or a package's own test moves it. One that nothing moves does not exist.
func TestMetrics_AllMove(t *testing.T) {
	w := makeWorld(&world{t: t, unlimited: true, configure: func(c *node.Config) { c.Query.AuditInterval = 50 * time.Millisecond }}, 12)
	seen := &motion{first: make(map[string]float64), moved: make(map[string]bool)}
	seen.look(t, w)

	work(t, w, seen)
	fail(t, w, seen)
	w.stopEdge()
	seen.look(t, w)

	for name := range seen.families() {
		_, other := elsewhere[name]
		switch fixed := slices.Contains(constant, name); {
		case seen.moved[name] && (fixed || other):
			t.Logf("%s moves here after all", name)
		case !seen.moved[name] && !fixed && !other:
			t.Errorf("%s does not move", name)
		}
	}
	for name, at := range elsewhere {
		if _, ok := seen.families()[name]; !ok {
			t.Errorf("there is no %s", name)
		}
		text, err := os.ReadFile("../../" + at[0])
		if err != nil || !strings.Contains(string(text), at[1]) {
			t.Errorf("%s: %s does not look at %s (%v)", name, at[0], at[1], err)
		}
	}
}

// work is a busy minute: sockets of every kind, messages, reads, searches, views, presence, and somebody with a bad token.
func work(t *testing.T, w *world, seen *motion) {
	ana, bo := w.member(0), w.member(1)
	post := func(channel, text string) {
		t.Helper()
		if _, _, a := call(t, w.edgeURL(), "chat.postMessage", ana.token, url.Values{"channel": {channel}, "text": {text}}); a["ok"] != true {
			t.Fatalf("chat.postMessage: %v", a)
		}
	}
	screen := general(t, client(w.edgeURL(), ana))
	_, _, created := call(t, w.edgeURL(), "conversations.create", ana.token, url.Values{"name": {"elsewhere"}})
	hidden := created["channel"].(map[string]any)["id"].(string)
	call(t, w.edgeURL(), "conversations.invite", ana.token, url.Values{"channel": {hidden}, "users": {string(bo.id)}})
	query(t, w, "users/info", bo, map[string]any{"updated_ids": map[string]any{string(ana.id): 0}})
	query(t, w, "channels/info", bo, map[string]any{"updated_ids": map[string]any{screen: 0}})

	peer := connect(t, w.edgeURL(), ana)
	direct := connect(t, w.backendURL(), w.member(2))
	s := thin(t, w, bo, url.Values{"view": {screen}, "boot": {"1"}})
	s.until("the counts", ofType(protocol.FrameCounts))
	seen.look(t, w)

	peer.rtm.SendMessage(peer.rtm.NewSubscribeUserPresence([]string{string(bo.id), string(w.member(4).id)}))
	await(peer, func(e *slack.PresenceChangeEvent) bool { return true })
	late := connect(t, w.edgeURL(), w.member(4))
	await(peer, func(e *slack.PresenceChangeEvent) bool {
		return e.Presence == "active" && e.User == string(w.member(4).id)
	})
	peer.rtm.SendMessage(peer.rtm.NewTypingMessage(screen))
	peer.rtm.SendMessage(peer.rtm.NewOutgoingMessage("over the socket", screen))
	await(peer, func(m *slack.MessageEvent) bool { return m.Text == "over the socket" })
	post(screen, "on the screen")
	s.until("the message", func(f map[string]any) bool { return f["text"] == "on the screen" })
	post(hidden, "out of view")
	s.until("a badge", ofType(protocol.FrameBadge))
	await(late, func(m *slack.MessageEvent) bool { return m.Text == "on the screen" })
	direct.rtm.SendMessage(direct.rtm.NewOutgoingMessage("straight at the backend", screen))
	await(peer, func(m *slack.MessageEvent) bool { return m.Text == "straight at the backend" })
	seen.look(t, w)

	for _, q := range []string{"ba", "al", "e"} {
		query(t, w, "users/search", ana, map[string]any{"query": q})
		query(t, w, "channels/search", ana, map[string]any{"query": q})
	}
	query(t, w, "channels/membership", ana, map[string]any{"channel": screen, "users": []string{string(bo.id), string(w.guest().id)}})
	call(t, w.edgeURL(), "no.such.method", ana.token, nil)
	call(t, w.edgeURL(), "users.info", "xoxp-nobody", nil)
	if resp, err := http.Post("http://"+w.edge.AdminAddr()+"/presence/off", "", nil); err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	eventually(t, "presence is off", func() bool {
		seen.look(t, w)
		return seen.moved["flannel_presence_suppressed"]
	})
	// Somebody who is no full member is there when the workspace changes.
	guest := connect(t, w.edgeURL(), w.guest())
	call(t, w.edgeURL(), "users.profile.set", bo.token, url.Values{"name": {"status_text"}, "value": {"busy"}})
	await(peer, func(*slack.UserChangeEvent) bool { return true })
	guest.rtm.Disconnect()

	// Somebody compresses, and is told compressed.
	c := dialThin(t, w, ana, func(o *thinclient.Options) { o.Compression = true })
	if _, err := c.Send(t.Context(), thinclient.Outgoing{Channel: protocol.ChannelID(screen), Text: strings.Repeat("long ", 500)}); err != nil {
		t.Fatal(err)
	}
	seen.look(t, w)

	// Somebody comes back.
	f := newFollower(w, bo)
	f.connect(t)
	f.ping()
	f.conn.Close()
	post(screen, "while bo was away")
	f.connect(t)
	f.hearUntil("while bo was away")
	seen.look(t, w)
	eventually(t, "the auditor has looked", func() bool {
		seen.look(t, w)
		return seen.moved["flannel_audit_checks_total"] && seen.moved["flannel_audit_user_checks_total"]
	})
	late.rtm.Disconnect()
}

// fail takes the backend away for a while.
func fail(t *testing.T, w *world, seen *motion) {
	ana, listen, upstream := w.member(0), w.back.Addr(), w.back.UpstreamAddr()
	known := url.Values{"user": {string(w.member(1).id)}}
	call(t, w.edgeURL(), "users.info", ana.token, known)
	seen.look(t, w)
	w.stopBack()
	for range 30 {
		call(t, w.edgeURL(), "chat.postMessage", ana.token, url.Values{"channel": {string(w.seed.Workspace.ID)}, "text": {"nobody hears"}})
		call(t, w.edgeURL(), "users.info", ana.token, known)
	}
	seen.look(t, w)
	w.startBackend(listen, upstream)
	eventually(t, "the backend answers again", func() bool {
		_, _, answer := call(t, w.edgeURL(), "conversations.history", ana.token, url.Values{"channel": {string(generalOf(t, w))}})
		return answer["ok"] == true
	})
	seen.look(t, w)
}

// motion is which metrics have moved: one of their series has another value than when it was first seen.
type motion struct {
	first map[string]float64 // by series
	moved map[string]bool    // by family; false for those that have been seen
}

func (m *motion) families() map[string]bool { return m.moved }

func (m *motion) look(t *testing.T, w *world) {
	t.Helper()
	for at, reg := range map[string]prometheus.Gatherer{"edge": w.reg, "backend": w.backReg} {
		for series, value := range samples(t, reg) {
			family, _, _ := strings.Cut(series, "{")
			was, ok := m.first[at+series]
			if !ok {
				m.first[at+series] = value
			}
			m.moved[family] = m.moved[family] || ok && was != value
		}
	}
}

// samples returns what a registry shows: a counter's and a gauge's value, a histogram's count, by name and labels.
func samples(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all[fmt.Sprint(f.GetName(), "{", m.GetLabel(), "}")] = value
		}
	}
	return all
}
