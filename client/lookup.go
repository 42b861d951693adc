package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"flannel/protocol"
)

const (
	// batchWindow is how long the first of several lookups waits for the others: a screen that is drawn asks for all it
	// shows within it, and nobody notices.
	batchWindow = 5 * time.Millisecond
	// maxBatch ids with their versions fit twice into the largest frame.
	maxBatch = 250
	// lookupTimeout bounds a lookup whatever happens: the answers are late, or there is no connection.
	lookupTimeout = 30 * time.Second
	// pendingWait is how long to wait before asking again for what the server is still loading; it doubles, up to
	// pendingMax.
	pendingWait, pendingMax = 50 * time.Millisecond, time.Second
)

// lookup finds objects of one kind: on the shelf if they are current there, else by conditional reads, many in one query
// and each id once at a time, whoever asks. It may be used from any goroutine.
type lookup struct {
	kind   protocol.Kind
	method string // of the edge query API
	query  func(ctx context.Context, method string, args, answer any) error
	shelf  *shelf
	life   context.Context // of the client; its flights end with it
	work   *sync.WaitGroup // of the client

	mu      sync.Mutex
	flights map[protocol.ObjectID]*flight
	batch   []*flight // wait for the end of the window
}

// flight is one id on its way.
type flight struct {
	id   protocol.ObjectID
	done chan struct{} // closed when found and err are set
	// Set before done is closed.
	found *object
	err   error
	// have is what was on the shelf when it was asked for; owned by the batch's goroutine.
	have *object
	// changed: an event said so since it was asked for; guarded by lookup.mu.
	changed bool
}

func newLookup(c *Client, kind protocol.Kind, method string) *lookup {
	return &lookup{
		kind: kind, method: method, query: c.Query, shelf: c.shelf, life: c.life, work: &c.work, flights: make(map[protocol.ObjectID]*flight),
	}
}

// get returns those of the objects that exist and may be seen.
func (l *lookup) get(ctx context.Context, ids []protocol.ObjectID) (map[protocol.ObjectID]*object, error) {
	found := make(map[protocol.ObjectID]*object, len(ids))
	var flights []*flight
	for _, id := range ids {
		if protocol.KindOf(id) != l.kind {
			continue // Nothing has such an id.
		}
		if o, current := l.shelf.get(id); current {
			found[id] = o
			continue
		}
		flights = append(flights, l.join(id))
	}
	for _, f := range flights {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("look up %s %s: %w", l.kind, f.id, ctx.Err())
		}
		switch {
		case f.err == nil:
			found[f.id] = f.found
		case !errors.Is(f.err, ErrNotFound):
			return nil, fmt.Errorf("look up %s %s: %w", l.kind, f.id, f.err)
		}
	}
	return found, nil
}

// join returns the flight of an id, which begins if there is none.
func (l *lookup) join(id protocol.ObjectID) *flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flights[id]; f != nil {
		return f
	}
	f := &flight{id: id, done: make(chan struct{})}
	if l.life.Err() != nil {
		f.err = ErrClosed
		close(f.done)
		return f
	}
	l.flights[id] = f
	l.batch = append(l.batch, f)
	switch len(l.batch) {
	case 1:
		l.work.Go(func() {
			wait(l.life, batchWindow)
			l.depart()
		})
	case maxBatch:
		batch := l.takeLocked()
		l.work.Go(func() { l.load(batch) })
	}
	return f
}

func (l *lookup) depart() {
	l.mu.Lock()
	batch := l.takeLocked()
	l.mu.Unlock()
	if len(batch) > 0 {
		l.load(batch)
	}
}

func (l *lookup) takeLocked() []*flight {
	batch := l.batch
	l.batch = nil
	return batch
}

// changed tells that an object on its way has changed: an answer that was under way may be older.
func (l *lookup) changed(id protocol.ObjectID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flights[id]; f != nil {
		f.changed = true
	}
}

// allChanged tells that any object on its way may have changed.
func (l *lookup) allChanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flights {
		f.changed = true
	}
}

// close returns when no flight can begin any more. life has ended before.
func (l *lookup) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
}

// load asks for a batch until every id of it is answered.
func (l *lookup) load(batch []*flight) {
	ctx, cancel := context.WithTimeout(l.life, lookupTimeout)
	defer cancel()
	pause := pendingWait
	for {
		rest, err := l.ask(ctx, batch)
		if refused, ok := errors.AsType[*protocol.Error](err); ok && refused.Retry > 0 {
			wait(ctx, refused.Retry)
			err = nil
		}
		if err == nil && ctx.Err() != nil && len(rest) > 0 {
			err = ctx.Err()
		}
		if err != nil {
			if l.life.Err() != nil {
				err = ErrClosed
			}
			for _, f := range rest {
				l.land(f, nil, err)
			}
			return
		}
		if len(rest) == 0 {
			return
		}
		batch = rest
		wait(ctx, pause)
		pause = min(2*pause, pendingMax)
	}
}

// infoAnswer is the answer to a conditional read.
type infoAnswer struct {
	Results []json.RawMessage   `json:"results"`
	Failed  []protocol.ObjectID `json:"failed_ids"`
	Pending []protocol.ObjectID `json:"pending_ids"`
}

// ask asks once. rest are those that have to be asked for again.
func (l *lookup) ask(ctx context.Context, batch []*flight) (rest []*flight, err error) {
	versions := make(map[protocol.ObjectID]protocol.Version, len(batch))
	l.mu.Lock()
	for _, f := range batch {
		f.changed = false
		f.have, _ = l.shelf.get(f.id)
		if versions[f.id] = 0; f.have != nil {
			versions[f.id] = f.have.version
		}
	}
	l.mu.Unlock()
	var answer infoAnswer
	if err := l.query(ctx, l.method, map[string]any{"updated_ids": versions}, &answer); err != nil {
		return batch, err
	}
	results := make(map[protocol.ObjectID]*object, len(answer.Results))
	for _, raw := range answer.Results {
		if o := decodeObject(raw); o != nil {
			results[o.id] = l.shelf.put(o, true)
		}
	}
	failed, pending := setOf(answer.Failed), setOf(answer.Pending)
	for _, f := range batch {
		o := results[f.id]
		switch {
		case l.stale(f), pending[f.id]:
			rest = append(rest, f)
		case o != nil:
			l.land(f, o, nil)
		case failed[f.id]:
			l.shelf.remove(f.id)
			l.land(f, nil, ErrNotFound)
		case f.have != nil: // What we have is what there is.
			l.shelf.confirm(f.id, f.have.version)
			l.land(f, f.have, nil)
		default:
			l.land(f, nil, ErrNotFound)
		}
	}
	return rest, nil
}

// stale reports whether an event has made the answer doubtful, in which case it stays doubted on the shelf.
func (l *lookup) stale(f *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.changed {
		l.shelf.doubt(f.id)
	}
	return f.changed
}

// land ends a flight.
func (l *lookup) land(f *flight, o *object, err error) {
	f.found, f.err = o, err
	l.mu.Lock()
	delete(l.flights, f.id)
	l.mu.Unlock()
	close(f.done)
}

func setOf(ids []protocol.ObjectID) map[protocol.ObjectID]bool {
	set := make(map[protocol.ObjectID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
