package upstream

import (
	"context"
	"sync"
	"time"

	"flannel/protocol"
)

// batcher collects the keys that callers ask for within a window into one load, per group (a load names one
// workspace). It knows what is on its way, so a key is asked for once:
//
//	a caller joins a batch that has its key if that batch promises a position that will do;
//	a batch that is not sent yet is made to promise more, if that is what it takes;
//	else the key is asked for again, in the open batch.
//
// A batch stays open to others while it waits for a place under the limits, so that loads grow in size, and not in
// number, when the backend is slow. The same holds when many come: a batch waits until nobody has joined for a window,
// and, if it is of a kind that is paced, for windowMax unless the last one was long ago, and for a token. A full batch
// waits for nothing. So of a paced kind there are at most burst + seconds/every + keys/maxKeys loads, and nobody waits
// for longer than windowMax and one interval. In a storm a batch also waits, for heldMax at most, for those before it to
// come back: on a backend or a node that is slow there are then fewer loads, not the same number with less in each.
type batcher[G, K comparable, V any] struct {
	// static after construction

	// window is how long nobody must have joined, windowMax how long those who do can hold a batch back.
	window, windowMax time.Duration
	pace              *pacer      // nil: not paced
	paced             func() bool // whether it counts now; nil: always
	// busy, in a storm, holds a batch that is not full back: there is no use in asking for more than can be taken in. For
	// heldMax at most. nil: never.
	busy     func() bool
	heldMax  time.Duration
	maxKeys  int // in one load
	maxBytes int // of keys in one load
	size     func(K) int
	// send loads what is asked for. It calls seal when it is about to send; the keys are not complete before.
	send func(group G, seal func() asked[K]) (answers map[K]V, p protocol.Position, err error)
	// start runs a batch on a goroutine that somebody waits for; false if there will be none any more.
	start  func(func()) bool
	closed <-chan struct{}
	m      *callMetrics

	mu      sync.Mutex
	limit   int // of pending keys
	pending int
	// sending is how many batches are on their way to the backend and back.
	sending int
	// open has at most one batch per group: the one that takes keys in.
	open map[G]*batch[G, K, V]
	// coming has the batch that asks for a key, the newest if there are two.
	coming map[groupKey[G, K]]*batch[G, K, V]
}

type groupKey[G, K comparable] struct {
	group G
	key   K
}

// asked is what one load asks for: keys as of atLeast or later. It does not change once it is sealed.
type asked[K comparable] struct {
	keys    []K
	atLeast protocol.Position
	// from is, in loads of the past, the lowest position of each key above which somebody wants events; else nil.
	from map[K]protocol.Position
}

// batch is one load on its way.
type batch[G, K comparable, V any] struct {
	group G
	// full is closed when no more keys fit. done is closed when answers, position and err stand.
	full, done chan struct{}

	// guarded by batcher.mu until sealed
	asked[K]
	bytes  int
	joined time.Time // when the last key came
	sealed bool

	// written before done is closed
	answers  map[K]V
	position protocol.Position
	err      error
}

// get returns the answers for keys, each as of a position at or above atLeast, and the lowest of these positions. A key
// without an answer is not in the map.
func (b *batcher[G, K, V]) get(ctx context.Context, group G, keys []K, atLeast protocol.Position) (map[K]V, protocol.Position, error) {
	return b.past(ctx, group, keys, nil, atLeast)
}

// past is get for loads of the past: from has a position for each key, in order.
func (b *batcher[G, K, V]) past(ctx context.Context, group G, keys []K, from []protocol.Position, atLeast protocol.Position) (map[K]V, protocol.Position, error) {
	waits, err := b.join(group, keys, from, atLeast)
	if err != nil {
		return nil, 0, err
	}
	answers := make(map[K]V, len(keys))
	var lowest protocol.Position
	first := true
	for w, ks := range waits {
		if err := w.wait(ctx); err != nil {
			return nil, 0, err
		}
		if first || w.position < lowest {
			lowest, first = w.position, false
		}
		for _, k := range ks {
			if v, ok := w.answers[k]; ok {
				answers[k] = v
			}
		}
	}
	return answers, lowest, nil
}

// part is what one load answered of the keys of a call.
type part[K, V any] struct {
	keys     []K
	answers  []V // the zero value for a key without an answer
	position protocol.Position
}

// parts is get, told load by load, for answers that are worth nothing without the position that they are as of.
func (b *batcher[G, K, V]) parts(ctx context.Context, group G, keys []K, atLeast protocol.Position) ([]part[K, V], error) {
	waits, err := b.join(group, keys, nil, atLeast)
	if err != nil {
		return nil, err
	}
	list := make([]part[K, V], 0, len(waits))
	for w, ks := range waits {
		if err := w.wait(ctx); err != nil {
			return nil, err
		}
		p := part[K, V]{keys: ks, answers: make([]V, len(ks)), position: w.position}
		for i, k := range ks {
			p.answers[i] = w.answers[k]
		}
		list = append(list, p)
	}
	return list, nil
}

// wait waits for the answers.
func (w *batch[G, K, V]) wait(ctx context.Context) error {
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return gaveUp(ctx, "a load")
	}
}

// join puts each key into a batch and returns which key waits for which.
func (b *batcher[G, K, V]) join(group G, keys []K, from []protocol.Position, atLeast protocol.Position) (map[*batch[G, K, V]][]K, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending+len(keys) > b.limit {
		b.m.requests[codeLimited].Inc()
		return nil, &failure{code: codeLimited, public: unavailable(0, "too many loads are waiting"), unsent: true}
	}
	waits := make(map[*batch[G, K, V]][]K, 1)
	for i, k := range keys {
		at := groupKey[G, K]{group, k}
		coming := b.coming[at]
		switch {
		case coming == nil:
		case coming.atLeast >= atLeast && (from == nil || coming.from[k] <= from[i]):
			b.m.joined.Inc()
			waits[coming] = append(waits[coming], k)
			continue
		case !coming.sealed:
			b.m.joined.Inc()
			coming.atLeast = max(coming.atLeast, atLeast)
			if from != nil {
				coming.from[k] = min(coming.from[k], from[i])
			}
			waits[coming] = append(waits[coming], k)
			continue
		}
		into, err := b.openLocked(group)
		if err != nil {
			return nil, err
		}
		if from != nil {
			if into.from == nil {
				into.from = make(map[K]protocol.Position)
			}
			into.from[k] = from[i]
		}
		b.addLocked(into, k, atLeast)
		waits[into] = append(waits[into], k)
	}
	return waits, nil
}

// openLocked returns the batch of group that takes keys in.
func (b *batcher[G, K, V]) openLocked(group G) (*batch[G, K, V], error) {
	if into := b.open[group]; into != nil {
		return into, nil
	}
	into := &batch[G, K, V]{group: group, full: make(chan struct{}), done: make(chan struct{})}
	if !b.start(func() { b.run(into) }) {
		return nil, abandoned()
	}
	b.open[group] = into
	return into, nil
}

func (b *batcher[G, K, V]) addLocked(into *batch[G, K, V], k K, atLeast protocol.Position) {
	into.keys = append(into.keys, k)
	into.bytes += b.size(k)
	into.joined = time.Now()
	into.atLeast = max(into.atLeast, atLeast)
	b.coming[groupKey[G, K]{into.group, k}] = into
	b.pending++
	if len(into.keys) >= b.maxKeys || into.bytes >= b.maxBytes {
		close(into.full)
		delete(b.open, into.group)
	}
}

// run is the life of one batch.
func (b *batcher[G, K, V]) run(w *batch[G, K, V]) {
	if b.window > 0 {
		b.gather(w)
	}
	b.mu.Lock()
	b.sending++
	b.mu.Unlock()
	answers, position, err := b.send(w.group, func() asked[K] { return b.seal(w) })
	b.seal(w) // It was refused before it was sent: nobody may join any more.

	b.mu.Lock()
	for _, k := range w.keys {
		if at := (groupKey[G, K]{w.group, k}); b.coming[at] == w {
			delete(b.coming, at)
		}
	}
	b.pending -= len(w.keys)
	b.sending--
	b.mu.Unlock()
	w.answers, w.position, w.err = answers, position, err
	close(w.done)
}

// gather waits until w may go.
func (b *batcher[G, K, V]) gather(w *batch[G, K, V]) {
	latest := time.Now().Add(b.windowMax)
	storm := b.paces() && !b.pace.idle(time.Now())
	timer := time.NewTimer(b.window)
	defer timer.Stop()
	for {
		select {
		case now := <-timer.C:
			wait := latest.Sub(now)
			if !storm {
				wait = min(wait, b.quietAt(w).Sub(now))
			}
			if wait <= 0 && b.held(now) && now.Before(latest.Add(b.heldMax)) {
				wait = b.windowMax
			}
			if wait <= 0 {
				wait = b.token(now)
			}
			if wait <= 0 {
				return
			}
			timer.Reset(wait)
		case <-w.full:
			b.pace.press(time.Now())
			return
		case <-b.closed:
			return
		}
	}
}

// held reports whether a batch that is not full has to wait for others to come back.
func (b *batcher[G, K, V]) held(now time.Time) bool {
	return b.busy != nil && b.pace.storm(now) && b.busy()
}

// inAir is how many batches are on their way to the backend and back.
func (b *batcher[G, K, V]) inAir() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sending
}

// quietAt is when nobody will have joined for a window, if nobody does.
func (b *batcher[G, K, V]) quietAt(w *batch[G, K, V]) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return w.joined.Add(b.window)
}

// token takes a token and returns 0, or returns when there will be one.
func (b *batcher[G, K, V]) token(now time.Time) time.Duration {
	if !b.paces() {
		b.pace.spend(now)
		return 0
	}
	return b.pace.take(now)
}

// paces reports whether loads wait for tokens now.
func (b *batcher[G, K, V]) paces() bool { return b.pace != nil && (b.paced == nil || b.paced()) }

// seal closes the batch to others. Calls after the first change nothing.
func (b *batcher[G, K, V]) seal(w *batch[G, K, V]) asked[K] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !w.sealed {
		w.sealed = true
		if b.open[w.group] == w {
			delete(b.open, w.group)
		}
	}
	return w.asked
}
