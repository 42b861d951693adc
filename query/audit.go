package query

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/cache"
	"flannel/protocol"
)

// Outcomes of an audit, as labels.
const (
	auditMatch    = "match"
	auditMismatch = "mismatch"
	auditMoved    = "moved"  // gone, or changed each time that it was compared
	auditFailed   = "failed" // the backend did not answer
)

const (
	// stalenessBound is how old what is served may be while the stream is up (docs/architecture.md).
	stalenessBound = time.Second
	// auditRounds is how often something is compared that moves: an object that changes every second is rare.
	auditRounds = 3
	// auditPoll is how often the watermark is looked at while an answer is ahead of it.
	auditPoll = 50 * time.Millisecond
)

type auditMetrics struct {
	objects, users map[string]prometheus.Counter // by outcome; fixed after construction
	age            prometheus.Histogram
}

func newAuditMetrics(reg prometheus.Registerer) *auditMetrics {
	f := promauto.With(reg)
	m := &auditMetrics{
		objects: make(map[string]prometheus.Counter), users: make(map[string]prometheus.Counter),
		age: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_audit_age_seconds", Help: "How long the cache had known the objects that were compared with the backend.",
			Buckets: []float64{1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600},
		}),
	}
	objects := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_audit_checks_total", Help: "Cached objects that were compared with the backend."}, []string{"result"})
	users := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_audit_user_checks_total", Help: "User states that were compared with the backend."}, []string{"result"})
	for _, result := range []string{auditMatch, auditMismatch, auditMoved, auditFailed} {
		m.objects[result], m.users[result] = objects.WithLabelValues(result), users.WithLabelValues(result)
	}
	return m
}

// Audit compares a random sample of what is cached with the backend, again and again until ctx ends: some objects and
// one user's state each Config.AuditInterval. What is wrong is counted, logged as an error, and given up, so that it is
// loaded anew. The backend is asked past the cache and later than the staleness bound after the sample was drawn: what
// differs then is no lateness.
func (s *Service) Audit(ctx context.Context) error {
	if s.config.AuditSample == 0 {
		return nil
	}
	for {
		// Between half and one and a half of the interval: nodes that were started together do not ask together.
		wait := s.config.AuditInterval/2 + rand.N(s.config.AuditInterval)
		if !pause(ctx, wait) {
			return nil
		}
		if s.loader.Live() {
			s.audit(ctx)
		}
	}
}

// audit is one round of Audit.
func (s *Service) audit(ctx context.Context) {
	left := make(map[protocol.ObjectID]protocol.WorkspaceID)
	for _, sample := range s.cache.Sample(s.config.AuditSample) {
		left[sample.Object.ID] = sample.Object.Owner
	}
	user, someone := s.cache.SampleUser()
	for range auditRounds {
		if len(left) == 0 && !someone || !pause(ctx, stalenessBound) {
			break
		}
		s.auditObjects(ctx, left)
		if someone {
			someone = !s.auditUser(ctx, user)
		}
	}
	if ctx.Err() != nil {
		return
	}
	s.metrics.audit.objects[auditMoved].Add(float64(len(left)))
	if someone {
		s.metrics.audit.users[auditMoved].Inc()
	}
}

// auditObjects compares objects, which are given with their owners, and takes those out that it has decided on.
func (s *Service) auditObjects(ctx context.Context, left map[protocol.ObjectID]protocol.WorkspaceID) {
	owners := make(map[protocol.WorkspaceID][]protocol.ObjectID)
	for id, owner := range left {
		owners[owner] = append(owners[owner], id)
	}
	for owner, ids := range owners {
		atLeast := s.cache.Applied()
		answers, err := load(ctx, s.config.LoadTimeout, func(ctx context.Context) ([]*protocol.ObjectsAnswer, error) {
			return s.loader.Objects(ctx, owner, ids, atLeast)
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.auditFailed(ids, left)
			continue
		}
		for _, answer := range answers {
			s.auditAnswer(ctx, answer, atLeast, left)
		}
	}
}

// auditAnswer compares objects with an answer.
func (s *Service) auditAnswer(ctx context.Context, answer *protocol.ObjectsAnswer, atLeast protocol.Position, left map[protocol.ObjectID]protocol.WorkspaceID) {
	if answer.Position < atLeast {
		ids := slices.Clone(answer.Missing)
		for i := range answer.Objects {
			ids = append(ids, answer.Objects[i].ID)
		}
		s.auditFailed(ids, left)
		return
	}
	s.reached(ctx, answer.Position)
	for i := range answer.Objects {
		o := &answer.Objects[i]
		if s.auditObject(o.ID, o, answer.Position) {
			delete(left, o.ID)
		}
	}
	for _, id := range answer.Missing {
		if s.auditObject(id, nil, answer.Position) {
			delete(left, id)
		}
	}
}

func (s *Service) auditFailed(ids []protocol.ObjectID, left map[protocol.ObjectID]protocol.WorkspaceID) {
	s.metrics.audit.objects[auditFailed].Add(float64(len(ids)))
	for _, id := range ids {
		delete(left, id)
	}
}

// auditObject compares one object with what was loaded as of p, and reports whether that decided anything.
func (s *Service) auditObject(id protocol.ObjectID, loaded *protocol.Object, p protocol.Position) (decided bool) {
	v := s.cache.Verify(id, loaded, p)
	switch v.Verdict {
	case cache.Match:
		s.metrics.audit.objects[auditMatch].Inc()
	case cache.Mismatch:
		s.metrics.audit.objects[auditMismatch].Inc()
		s.log.Error("cached object is wrong", "id", id, "cached_version", v.Cached, "backend_version", v.Loaded, "position", p, "age", v.Age)
	default:
		return false
	}
	s.metrics.audit.age.Observe(v.Age.Seconds())
	return true
}

// auditUser compares a user's state, and reports whether that decided anything.
func (s *Service) auditUser(ctx context.Context, user protocol.UserID) (decided bool) {
	atLeast := s.cache.Applied()
	var at protocol.Position
	boot, err := load(ctx, s.config.LoadTimeout, func(ctx context.Context) (b protocol.UserBoot, err error) {
		b, at, err = s.loader.Boot(ctx, user, atLeast)
		return b, err
	})
	if ctx.Err() != nil {
		return false
	}
	if err != nil || at < atLeast {
		s.metrics.audit.users[auditFailed].Inc()
		return true
	}
	boot.User = user
	s.reached(ctx, at)
	switch v := s.cache.VerifyUser(&boot, at); v.Verdict {
	case cache.Match:
		s.metrics.audit.users[auditMatch].Inc()
	case cache.Mismatch:
		s.metrics.audit.users[auditMismatch].Inc()
		s.log.Error("cached user state is wrong", "user", user, "wrong", v.Wrong, "channel", v.Channel, "position", at)
	default:
		return false
	}
	return true
}

// reached waits until the watermark is at p, but no longer than the staleness bound: then it is compared in another round.
func (s *Service) reached(ctx context.Context, p protocol.Position) {
	for range int(stalenessBound / auditPoll) {
		if s.cache.Applied() >= p || !pause(ctx, auditPoll) {
			return
		}
	}
}

// load calls fn with a bounded context.
func load[T any](ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return fn(ctx)
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
