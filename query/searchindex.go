package query

import (
	"context"
	"errors"
	"time"

	"flannel/cache"
	"flannel/protocol"
)

const (
	// indexTimeout bounds the load of a directory: ten times what the largest takes from a busy backend.
	indexTimeout = time.Minute
	// maxIndexing bounds the directories that are loaded at a time, of the backend's sake: each asks for one page after the
	// other. More are loaded at a later search.
	maxIndexing = 4
	// channelsFor is how long a directory of channels is used before it is loaded again. Channels that are shared between
	// workspaces are covered by their own topics, of which a node follows only those that somebody here is in: another name
	// of the rest is found after this time. What a search shows of them is as fresh as everything.
	channelsFor = 5 * time.Minute
	// maxIndexPages bounds a directory: 2,000,000 users.
	maxIndexPages = 2000
)

// indexKey names a directory.
type indexKey struct {
	workspace protocol.WorkspaceID
	kind      protocol.Kind
}

// indexes loads directories, beside the reads that want them.
type indexes struct {
	tasks   *tasks
	loads   *flights[indexKey, *cache.Directory]
	merges  *flights[indexKey, struct{}]
	unkept  unkept[indexKey]
	present context.Context // one that is over: for what is not waited for
}

func newIndexes(now func() time.Time) indexes {
	t := newTasks(indexTimeout, maxIndexing)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return indexes{
		tasks: t, loads: newFlights[indexKey, *cache.Directory](t), merges: newFlights[indexKey, struct{}](t),
		unkept: unkept[indexKey]{now: now}, present: over,
	}
}

// index returns the directory of the workspace that is asked about, nil if it is not there, or if the reader must go past
// the cache. With load it is loaded then, for the next time.
func (r *reader) index(kind protocol.Kind, load bool) *cache.Directory {
	if r.floor > r.s.cache.Applied() {
		return nil
	}
	d, freshness := r.s.cache.Directory(r.workspace, kind)
	if freshness == cache.Missing {
		if load {
			_, _ = r.awaitIndex(r.s.indexes.present, kind) // Nobody waits for it.
		}
		return nil
	}
	if freshness == cache.Stale {
		r.stale = true
	}
	key := indexKey{r.workspace, kind}
	if kind == protocol.KindChannel && freshness == cache.Fresh && r.s.now().Sub(d.Loaded()) > channelsFor {
		_, _ = r.awaitIndex(r.s.indexes.present, kind)
	}
	if d.Due() {
		_, _ = r.s.indexes.merges.do(r.s.indexes.present, key, func(context.Context) (struct{}, error) {
			d.Merge()
			return struct{}{}, nil
		})
	}
	return d
}

// waitIndex is index, but waits for the load. It returns nil if wait is not enough.
func (r *reader) waitIndex(kind protocol.Kind, wait time.Duration) *cache.Directory {
	if d := r.index(kind, false); d != nil {
		return d
	}
	ctx, cancel := context.WithTimeout(r.ctx, wait)
	defer cancel()
	if _, err := r.awaitIndex(ctx, kind); err != nil {
		return nil
	}
	return r.index(kind, false)
}

// awaitIndex loads a directory, or waits for the load that runs, no longer than ctx.
func (r *reader) awaitIndex(ctx context.Context, kind protocol.Kind) (*cache.Directory, error) {
	key, s := indexKey{r.workspace, kind}, r.s
	if !s.loader.Live() || s.indexes.unkept.has(key) {
		return nil, unavailable("the directory cannot be loaded now")
	}
	return s.indexes.loads.do(ctx, key, func(ctx context.Context) (*cache.Directory, error) {
		started := s.now()
		if d, freshness := s.cache.Directory(key.workspace, key.kind); freshness == cache.Fresh && started.Sub(d.Loaded()) <= channelsFor {
			return d, nil // Another flight has just landed.
		}
		d, err := s.loadIndex(ctx, key)
		if err != nil || d == nil {
			s.indexes.unkept.add(key)
			s.log.Warn("directory not loaded", "workspace", key.workspace, "kind", key.kind, "err", err)
			return nil, asError(err)
		}
		s.metrics.directorySeconds.Observe(s.now().Sub(started).Seconds())
		return d, nil
	})
}

// fetched is the outcome of one load of a page.
type fetched struct {
	answer *protocol.ListAnswer
	err    error
}

// loadIndex loads a directory, page by page in the order of ids, in which nothing moves while it is read. What changes
// meanwhile comes as events. The next page is on its way while one is taken in. It returns nil if the directory cannot be
// kept.
func (s *Service) loadIndex(ctx context.Context, key indexKey) (*cache.Directory, error) {
	for range maxOutrun {
		load := s.cache.LoadDirectory(key.workspace, key.kind)
		req := protocol.ListRequest{Workspace: key.workspace, Kind: key.kind, Order: protocol.ByID, Limit: protocol.MaxListLimit, AtLeast: s.cache.Applied()}
		pages := make(chan fetched, 1)
		fetch := func(req protocol.ListRequest) {
			answer, err := s.loader.List(ctx, req)
			pages <- fetched{answer, err}
		}
		fetch(req)
		for page := 1; ; page++ {
			got := <-pages // Every fetch is waited for here.
			if got.err != nil {
				return nil, got.err
			}
			req.Cursor = got.answer.NextCursor
			more := req.Cursor != ""
			if more && page == maxIndexPages {
				return nil, nil
			}
			if more {
				go fetch(req)
			}
			load.Add(got.answer)
			if !more {
				break
			}
		}
		d, err := s.cache.FillDirectory(load)
		if !errors.Is(err, cache.ErrOutrun) {
			return d, err
		}
	}
	return nil, unavailable("the directory changes faster than it can be loaded")
}
