package cache

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// fixture is a cache with a clock that the test turns.
type fixture struct {
	*Cache
	reg   *prometheus.Registry
	clock atomic.Int64
	seqs  map[protocol.Topic]protocol.Seq
}

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{reg: prometheus.NewRegistry(), seqs: make(map[protocol.Topic]protocol.Seq)}
	f.clock.Store(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC).UnixNano())
	cfg := Default()
	cfg.Bytes = 8 << 20
	for _, fn := range change {
		fn(&cfg)
	}
	c, err := New(Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Registerer: f.reg, Now: f.time})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.Live(true)
	f.Cache = c
	return f
}

func (f *fixture) time() time.Time         { return time.Unix(0, f.clock.Load()) }
func (f *fixture) advance(d time.Duration) { f.clock.Add(int64(d)) }
func (f *fixture) settle()                 { f.objects.store.Wait() }
func (f *fixture) follow(p protocol.Position, topics ...protocol.Topic) {
	for _, t := range topics {
		f.seqs[t] = 0
		f.Followed(t, 0, p)
	}
}

// event applies one event with the topic's next seq.
func (f *fixture) event(t protocol.Topic, p protocol.Position, effects ...protocol.Effect) Change {
	f.seqs[t]++
	return f.Apply(&protocol.Event{Topic: t, Seq: f.seqs[t], Position: p, Class: protocol.ClassControl, Effects: effects})
}

func (f *fixture) metric(name string, labels prometheus.Labels) float64 {
	families, err := f.reg.Gather()
	if err != nil {
		return -1
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	metrics:
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue metrics
				}
			}
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			default:
				return float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return -1
}

const ws protocol.Topic = "T1"

func object(id protocol.ObjectID, v protocol.Version) protocol.Object {
	return protocol.Object{
		ID: id, Kind: protocol.KindOf(id), Version: v, Owner: "T1", Topic: ws,
		Visibility: protocol.Visibility{Workspaces: []protocol.WorkspaceID{"T1"}}, Body: fmt.Appendf(nil, `{"id":%q,"updated":%d}`, id, v),
	}
}

func upsert(o protocol.Object) protocol.Effect {
	return protocol.Effect{Op: protocol.OpUpsert, Object: &o}
}

func bury(id protocol.ObjectID, v protocol.Version) protocol.Effect {
	return protocol.Effect{Op: protocol.OpTombstone, ID: id, Version: v}
}

func answer(p protocol.Position, objects ...protocol.Object) *protocol.ObjectsAnswer {
	return &protocol.ObjectsAnswer{Objects: objects, Position: p}
}

func missing(p protocol.Position, ids ...protocol.ObjectID) *protocol.ObjectsAnswer {
	return &protocol.ObjectsAnswer{Missing: ids, Position: p}
}

// want checks what Get says; version 0 stands for nothing.
func (f *fixture) want(t testing.TB, id protocol.ObjectID, floor protocol.Position, freshness Freshness, version protocol.Version) {
	t.Helper()
	f.settle()
	o, got := f.Get(id, floor)
	if got != freshness || o.Version != version {
		t.Errorf("Get(%s, %d) = version %d, %s; want version %d, %s", id, floor, o.Version, got, version, freshness)
	}
}

func TestConfig_Validate(t *testing.T) {
	cfg := Default()
	if err := cfg.Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	bad := Config{Grace: -1}
	if err := bad.Validate(); err == nil {
		t.Fatal("an empty configuration is accepted")
	}
	if _, err := New(Options{Config: bad, Now: time.Now}); err == nil {
		t.Fatal("New accepts a bad configuration")
	}
}

func TestClose_Twice(t *testing.T) {
	f := newFixture(t)
	f.follow(1, ws)
	f.Close()
	f.Close()
	served, again := f.Fill(answer(1, object("U1", 1)))
	if len(served) != 1 || len(again) != 0 {
		t.Errorf("a closed cache serves %v, again %v", served, again)
	}
	if _, got := f.Get("U1", 0); got != Missing {
		t.Errorf("a closed cache has kept something: %s", got)
	}
}

func TestMetrics_EveryLabelExistsAtZero(t *testing.T) {
	f := newFixture(t)
	n, err := testutil.GatherAndCount(f.reg, "flannel_cache_lookups_total")
	if err != nil || n != (5+len(protocol.Kinds))*int(numResults) {
		t.Errorf("%d lookup series, %v", n, err)
	}
	if n, _ := testutil.GatherAndCount(f.reg, "flannel_cache_items"); n != 7 {
		t.Errorf("%d item gauges", n)
	}
	if problems, err := testutil.GatherAndLint(f.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
