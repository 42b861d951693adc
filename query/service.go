package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/cache"
	"flannel/protocol"
)

// ErrForward says that the call is one that the cache cannot answer: hand it to the backend as it is.
var ErrForward = errors.New("not answered by the cache: forward the call")

// Config of the service.
type Config struct {
	// LoadTimeout bounds one load from the backend.
	LoadTimeout time.Duration `koanf:"load_timeout"`
	// PendingAfter is how long an edge query waits for the backend before it names ids as pending.
	PendingAfter time.Duration `koanf:"pending_after"`
	// MaxLoads bounds the loads under way.
	MaxLoads int `koanf:"max_loads"`
	// MaxIDs bounds the ids in one request.
	MaxIDs int `koanf:"max_ids"`
	// EnumerationLimit bounds the different objects that one user's edge queries may name in a minute; 0 turns it off.
	EnumerationLimit int `koanf:"enumeration_limit"`
	// SocketTTL is how long clients may keep the addresses they are given.
	SocketTTL time.Duration `koanf:"socket_ttl"`
	// AuditInterval is how often some of what is cached is compared with the backend.
	AuditInterval time.Duration `koanf:"audit_interval"`
	// AuditSample is how many objects are compared each time, with one user's state; 0 turns the auditor off.
	AuditSample int `koanf:"audit_sample"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		LoadTimeout:  9 * time.Second,        // two batches of 500 users after another, on a busy machine; below clients' 10 s
		PendingAfter: 500 * time.Millisecond, // a person notices from half a second on
		MaxLoads:     16_384,                 // three for each client of a storm, who wait for batches
		MaxIDs:       500,                    // the largest batch seen is 80
		// A screen shows some hundred; a cold start was seen to ask for 300.
		EnumerationLimit: 5000,
		SocketTTL:        time.Hour,
		// With AuditSample, two objects a second, in two calls each ten seconds: 170,000 objects a day from every node, at a
		// cost that no backend notices.
		AuditInterval: 10 * time.Second,
		AuditSample:   20,
	}
}

// Validate reports the first value that makes no sense.
func (c *Config) Validate() error {
	switch {
	case c.LoadTimeout <= 0, c.PendingAfter <= 0, c.SocketTTL < time.Second:
		return errors.New("query: load_timeout and pending_after must be above 0, socket_ttl at least 1s")
	case c.MaxLoads < 1:
		return errors.New("query: max_loads must be at least 1")
	case c.AuditInterval <= 0:
		return errors.New("query: audit_interval must be above 0; audit_sample 0 turns the auditor off")
	case c.AuditSample < 0 || c.AuditSample > protocol.MaxObjectIDs:
		return fmt.Errorf("query: audit_sample must be between 0 and %d", protocol.MaxObjectIDs)
	case c.EnumerationLimit < 0:
		return errors.New("query: enumeration_limit must not be below 0")
	case c.MaxIDs < 1 || c.MaxIDs > protocol.MaxObjectIDs:
		return fmt.Errorf("query: max_ids must be between 1 and %d", protocol.MaxObjectIDs)
	}
	return nil
}

// Loader is the way to the backend; upstream.Upstream is one. Its errors are *protocol.Error.
type Loader interface {
	Identify(ctx context.Context, token string) (protocol.Identity, protocol.Position, error)
	Boot(ctx context.Context, user protocol.UserID, atLeast protocol.Position) (protocol.UserBoot, protocol.Position, error)
	Objects(ctx context.Context, workspace protocol.WorkspaceID, ids []protocol.ObjectID, atLeast protocol.Position) ([]*protocol.ObjectsAnswer, error)
	Members(ctx context.Context, req protocol.MembersRequest) (*protocol.MembersAnswer, error)
	List(ctx context.Context, req protocol.ListRequest) (*protocol.ListAnswer, error)
	// Follow adds one reference to each topic and waits until all are followed. If it fails it holds none.
	Follow(ctx context.Context, topics []protocol.TopicState) error
	// FollowAsync is Follow without waiting; it does not block.
	FollowAsync(topics []protocol.TopicState)
	Unfollow(topics ...protocol.Topic)
	// Live reports whether the event stream is up.
	Live() bool
}

// Sockets hands out addresses. host is scheme://host of this node as the client knows it.
type Sockets interface {
	// URL returns a single-use address of a websocket for id, at the node where id should be, or with fallback at the one to
	// go to if that does not answer; params are the arguments of the call.
	URL(id protocol.Identity, params map[string]string, host string, fallback bool) (url string, err error)
	// Home returns scheme://host of the node where id should ask.
	Home(id protocol.Identity, host string) string
}

// Options of New.
type Options struct {
	Config  Config
	Cache   *cache.Cache
	Loader  Loader
	Sockets Sockets
	// Active reports whether a user is known to be active. It must not block. nil: nobody is known to be.
	Active func(user protocol.UserID) bool
	// Actives returns all users who are known to be active, in any order. It must not block. nil: nobody is known to be.
	Actives    func() []protocol.UserID
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Service answers reads. It is safe for concurrent use.
type Service struct {
	// Static after construction.
	config  Config
	cache   *cache.Cache
	loader  Loader
	sockets Sockets
	active  func(user protocol.UserID) bool
	present present
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	tasks      *tasks
	users      *flights[protocol.UserID, *cache.User]
	identities *flights[string, protocol.Identity]
	sets       *flights[protocol.ChannelID, *cache.Set]

	unkept      unkept[protocol.ChannelID]
	indexes     indexes
	rush        rush
	warming     warming
	enumeration *enumeration

	// mu guards held: the topics that are followed for each user. A topic is in a user's entry exactly while the loader
	// holds one reference for it. Never held across a call that may block.
	mu   sync.Mutex
	held held
	// leaving has what is given back when Reached says so.
	leaving []leaving
}

// New returns a service. Close it when no call is under way any more.
func New(o Options) (*Service, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	t := newTasks(o.Config.LoadTimeout, o.Config.MaxLoads)
	return &Service{
		config: o.Config, cache: o.Cache, loader: o.Loader, sockets: o.Sockets, active: o.Active, present: present{all: o.Actives, now: o.Now, cache: o.Cache}, log: o.Log, now: o.Now,
		metrics: newMetrics(o.Registerer), tasks: t,
		users:       newFlights[protocol.UserID, *cache.User](t),
		identities:  newFlights[string, protocol.Identity](t),
		sets:        newFlights[protocol.ChannelID, *cache.Set](t),
		unkept:      unkept[protocol.ChannelID]{now: o.Now},
		indexes:     newIndexes(o.Now),
		enumeration: newEnumeration(o.Config.EnumerationLimit, o.Now),
		held:        newHeld(),
	}, nil
}

// Close ends the loads under way and waits for them.
func (s *Service) Close() {
	s.indexes.tasks.close()
	s.tasks.close()
}

// Identify returns who the bearer of token is. Errors are *protocol.Error. A token that was refused a moment ago is refused
// again without a load.
func (s *Service) Identify(ctx context.Context, token string) (_ protocol.Identity, err error) {
	defer func() { s.metrics.identified(err) }()
	if token == "" {
		return protocol.Identity{}, &protocol.Error{Code: protocol.CodeNotAuthed}
	}
	id, ok := s.cache.Identity(token)
	if !ok {
		if id, err = s.identities.do(ctx, token, func(ctx context.Context) (protocol.Identity, error) { return s.identify(ctx, token) }); err != nil {
			return protocol.Identity{}, err
		}
	}
	if id.Error != "" {
		return protocol.Identity{}, &protocol.Error{Code: id.Error}
	}
	if id.Expires != 0 && id.Expires <= s.now().Unix() {
		return protocol.Identity{}, &protocol.Error{Code: protocol.CodeTokenExpired}
	}
	return id, nil
}

// identify loads an identity. It may be kept only while the user topic is followed from the answer's position on,
// because that is where a revocation is told; so the user is loaded with it, which the caller needs next anyway.
func (s *Service) identify(ctx context.Context, token string) (protocol.Identity, error) {
	for range maxOutrun {
		id, at, err := s.loader.Identify(ctx, token)
		if err != nil {
			return id, asError(err)
		}
		if id.Error != "" {
			s.cache.FillRefusal(token, id.Error)
			return protocol.Identity{}, &protocol.Error{Code: id.Error}
		}
		if s.loader.Live() {
			if _, err := s.userFrom(ctx, id, &at); err == nil {
				s.cache.FillIdentity(token, id, at)
			}
		}
		// A session that has registered and then joins this load did not hear of the revocations before: the answer must
		// know them. Those that come from here on find the session.
		if !s.cache.Outran(&id, at) {
			return id, nil
		}
	}
	return protocol.Identity{}, unavailable("the user changes faster than they can be loaded")
}

// unavailable is the error of everything that only a backend could answer now.
func unavailable(why string) *protocol.Error {
	// 1 s: what a stream needs to come back after a backend's restart, in most cases.
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: why, Retry: time.Second}
}

// asError makes what a loader returned fit for clients: nothing but *protocol.Error with a time to retry.
func asError(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	return unavailable("the backend does not answer")
}
