package query

import (
	"context"
	"errors"
	"time"

	"flannel/cache"
	"flannel/protocol"
)

// errPending says that the backend has not answered within the time that the caller wanted to wait. It never leaves
// the package.
var errPending = errors.New("pending")

// look reads one object from memory and counts how it went. Missing means: load it.
func (r *reader) look(id protocol.ObjectID) (protocol.Object, cache.Freshness) {
	o, freshness := r.s.cache.Get(id, r.floor)
	switch freshness {
	case cache.Fresh:
		r.s.metrics.objects[sourceCache].Inc()
	case cache.Stale:
		r.s.metrics.objects[sourceStale].Inc()
		r.stale = true
	case cache.Absent:
		r.s.metrics.objects[sourceAbsent].Inc()
	}
	return o, freshness
}

// object returns one object of the kind that the reader sees, or an error with code.
func (r *reader) object(id protocol.ObjectID, kind protocol.Kind, code protocol.Code) (protocol.Object, error) {
	none := protocol.Object{}
	if protocol.KindOf(id) != kind {
		return none, &protocol.Error{Code: code}
	}
	o, freshness := r.look(id)
	switch freshness {
	case cache.Absent:
		return none, &protocol.Error{Code: code}
	case cache.Missing:
		found, err := r.load([]protocol.ObjectID{id}, r.s.config.LoadTimeout)
		if err != nil {
			return none, err
		}
		if len(found) == 0 {
			return none, &protocol.Error{Code: code}
		}
		o = found[0]
	}
	if sees, err := r.sees(&o); err != nil {
		return none, err
	} else if !sees {
		return none, &protocol.Error{Code: code}
	}
	return o, nil
}

// objects returns the objects with these ids, whoever may see them: a list as long as ids, with the zero Object where
// there is none.
func (r *reader) objects(ids []protocol.ObjectID) ([]protocol.Object, error) {
	list := make([]protocol.Object, len(ids))
	var missing []protocol.ObjectID
	for i, id := range ids {
		o, freshness := r.look(id)
		switch freshness {
		case cache.Missing:
			missing = append(missing, id)
		case cache.Fresh, cache.Stale:
			list[i] = o
		}
	}
	if len(missing) == 0 {
		return list, nil
	}
	found, err := r.load(missing, r.s.config.LoadTimeout)
	if err != nil {
		return nil, err
	}
	at := make(map[protocol.ObjectID]int, len(missing))
	for i, id := range ids {
		at[id] = i
	}
	for _, o := range found {
		if i, ok := at[o.ID]; ok {
			list[i] = o
		}
	}
	for i, id := range ids { // An id that was named twice.
		if list[i].ID == "" {
			list[i] = list[at[id]]
		}
	}
	return list, nil
}

// loaded is the outcome of one load of up to MaxObjectIDs objects.
type loaded struct {
	objects []protocol.Object
	err     error
}

// load gets objects from the backend into the cache and returns those that exist. It waits no longer than wait; what
// comes later is kept all the same. If some of it did not come it returns the rest with an error: errPending if the
// backend was slow.
func (r *reader) load(ids []protocol.ObjectID, wait time.Duration) ([]protocol.Object, error) {
	batches := (len(ids) + protocol.MaxObjectIDs - 1) / protocol.MaxObjectIDs
	answers := make(chan loaded, batches) // Room for all, so that nobody waits for a reader who has left.
	atLeast := r.atLeast()
	var found []protocol.Object
	var failed error
	started := 0
	for batch := range batches {
		part := ids[batch*protocol.MaxObjectIDs : min(len(ids), (batch+1)*protocol.MaxObjectIDs)]
		if err := r.s.tasks.start(r.ctx, func(ctx context.Context) { answers <- r.s.fetch(ctx, r.workspace, part, atLeast) }); err != nil {
			failed = err
			break
		}
		started++
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for range started {
		select {
		case a := <-answers:
			if a.err != nil {
				failed = a.err
			}
			found = append(found, a.objects...)
		case <-timer.C:
			return found, errPending
		case <-r.ctx.Done():
			return found, unavailable("gave up waiting")
		}
	}
	return found, failed
}

// maxAgain is how often an object is loaded again because events outran the load of it.
const maxAgain = 3

// fetch does one load and hands it to the cache, and loads again what events outran.
func (s *Service) fetch(ctx context.Context, workspace protocol.WorkspaceID, ids []protocol.ObjectID, atLeast protocol.Position) loaded {
	var objects []protocol.Object
	for range maxAgain {
		answers, err := s.loader.Objects(ctx, workspace, ids, atLeast)
		if err != nil {
			return loaded{objects, asError(err)}
		}
		var outrun []protocol.ObjectID
		for _, answer := range answers {
			if answer.Position < atLeast {
				return loaded{objects, unavailable("the backend answered from the past")}
			}
			s.metrics.objects[sourceLoad].Add(float64(len(answer.Objects)))
			served, again := s.cache.Fill(answer)
			objects, outrun = append(objects, served...), append(outrun, again...)
		}
		if len(outrun) == 0 {
			return loaded{objects: objects}
		}
		ids, atLeast = outrun, max(atLeast, s.cache.Known())
	}
	return loaded{objects, unavailable("objects change faster than they can be loaded")}
}

// late turns errPending into what a client is told by methods that have no pending_ids.
func late(err error) error {
	if errors.Is(err, errPending) {
		return unavailable("the backend is slow")
	}
	return err
}
