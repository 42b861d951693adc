package upstream

import (
	"context"
	"time"

	"flannel/protocol"
)

// maxKeyBytes bounds the keys of one load: 500 ordinary tokens are half of it, and no proxy refuses it.
const maxKeyBytes = 512 << 10

// maxToken is the longest token that is sent to the backend; no kind of token that is in use comes near it.
const maxToken = 4 << 10

// one is the only key of a load that is not put together from several.
type one struct{}

// batchers are the loads that are put together.
type batchers struct {
	identify *batcher[one, string, protocol.Identity]
	boot     *batcher[one, protocol.UserID, protocol.UserBoot]
	objects  *batcher[protocol.WorkspaceID, protocol.ObjectID, *protocol.Object] // nil: missing
	members  *batcher[protocol.MembersRequest, one, *protocol.MembersAnswer]
	list     *batcher[protocol.ListRequest, one, *protocol.ListAnswer]
	replay   *batcher[one, protocol.Topic, past]
	peers    *batcher[company, protocol.Topic, past] // replay again
}

func (u *Upstream) newBatchers() batchers {
	b := batchers{
		identify: newBatcher(u, protocol.CallIdentify, protocol.MaxIdentifyTokens, u.sendIdentify),
		boot:     newBatcher(u, protocol.CallBoot, protocol.MaxBootUsers, u.sendBoot),
		objects:  newBatcher(u, protocol.CallObjects, protocol.MaxObjectIDs, u.sendObjects),
		members:  newBatcher(u, protocol.CallMembers, 1, u.sendMembers),
		list:     newBatcher(u, protocol.CallList, 1, u.sendList),
		replay: newBatcher(u, protocol.CallReplay, protocol.MaxReplayTopics, func(_ one, seal func() asked[protocol.Topic]) (map[protocol.Topic]past, protocol.Position, error) {
			return u.sendReplay(seal)
		}),
		peers: newBatcher(u, protocol.CallReplay, protocol.MaxReplayTopics, func(_ company, seal func() asked[protocol.Topic]) (map[protocol.Topic]past, protocol.Position, error) {
			return u.sendReplay(seal)
		}),
	}
	pace := func() *pacer { return newPacer(u.cfg.BatchBurst, u.cfg.BatchEvery) }
	b.identify.pace, b.boot.pace, b.objects.pace, b.replay.pace = pace(), pace(), pace(), pace()
	// Whoever is identified boots next.
	b.identify.busy = func() bool { return b.identify.inAir() > 0 || b.boot.inAir() > 0 }
	b.boot.busy = func() bool { return b.boot.inAir() > 0 }
	b.objects.busy = func() bool { return b.objects.inAir() > 0 || b.boot.inAir() > 0 }
	// Whoever boots loads objects next. In a storm objects are gathered too; at other times somebody is looking at
	// a screen and waits for them.
	b.objects.paced = func() bool {
		now := time.Now()
		return b.identify.pace.storm(now) || b.boot.pace.storm(now)
	}
	return b
}

func newBatcher[G, K comparable, V any](u *Upstream, name string, maxKeys int,
	send func(group G, seal func() asked[K]) (map[K]V, protocol.Position, error),
) *batcher[G, K, V] {
	b := &batcher[G, K, V]{
		window: u.cfg.BatchWindow, windowMax: max(u.cfg.BatchWindow, u.cfg.BatchWindowMax), heldMax: 2 * u.cfg.BatchEvery, maxKeys: maxKeys, maxBytes: maxKeyBytes, size: keySize[K], send: send,
		start: u.start, closed: u.life.Done(), m: u.metrics.calls[name], limit: u.cfg.MaxPending,
		open: make(map[G]*batch[G, K, V]), coming: make(map[groupKey[G, K]]*batch[G, K, V]),
	}
	if maxKeys == 1 {
		b.window = 0 // Nothing to wait for.
	}
	return b
}

func keySize[K comparable](k K) int {
	switch k := any(k).(type) {
	case string:
		return len(k) + 3
	case protocol.UserID:
		return len(k) + 3
	case protocol.ObjectID:
		return len(k) + 3
	case protocol.Topic:
		return len(k) + 48 // {"topic":"…","position":…},
	default:
		return 0
	}
}

// Identify tells who the bearer of token is. A token that is refused gives an Identity with Error, not an error. Calls
// within the batch window are one load.
func (u *Upstream) Identify(ctx context.Context, token string) (protocol.Identity, protocol.Position, error) {
	if len(token) > maxToken {
		return protocol.Identity{Error: protocol.CodeInvalidAuth}, 0, nil
	}
	answers, p, err := u.batchers.identify.get(ctx, one{}, []string{token}, 0)
	if err != nil {
		return protocol.Identity{}, 0, told(err)
	}
	return answers[token], p, nil
}

func (u *Upstream) sendIdentify(_ one, seal func() asked[string]) (map[string]protocol.Identity, protocol.Position, error) {
	var tokens []string
	answer, err := load[protocol.IdentifyAnswer](u, protocol.CallIdentify, func() (any, int) {
		tokens = seal().keys
		return protocol.IdentifyRequest{Tokens: tokens}, len(tokens)
	}, func(a *protocol.IdentifyAnswer) error {
		if len(a.Identities) != len(tokens) {
			return badAnswer("%d identities for %d tokens", len(a.Identities), len(tokens))
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	m := make(map[string]protocol.Identity, len(tokens))
	for i, t := range tokens {
		m[t] = answer.Identities[i]
	}
	return m, answer.Position, nil
}

// Boot returns the private state of user as of a position at or above atLeast. A user who does not exist gives a
// UserBoot with Error, not an error. Calls within the batch window are one load. What the answer points at is shared
// with other callers and must not be changed.
func (u *Upstream) Boot(ctx context.Context, user protocol.UserID, atLeast protocol.Position) (protocol.UserBoot, protocol.Position, error) {
	if !protocol.ValidID(string(user)) {
		return protocol.UserBoot{Error: protocol.CodeUserNotFound}, atLeast, nil
	}
	answers, p, err := u.batchers.boot.get(ctx, one{}, []protocol.UserID{user}, atLeast)
	if err != nil {
		return protocol.UserBoot{}, 0, told(err)
	}
	return answers[user], p, nil
}

func (u *Upstream) sendBoot(_ one, seal func() asked[protocol.UserID]) (map[protocol.UserID]protocol.UserBoot, protocol.Position, error) {
	var want asked[protocol.UserID]
	answer, err := load[protocol.BootAnswer](u, protocol.CallBoot, func() (any, int) {
		want = seal()
		return protocol.BootRequest{Users: want.keys, AtLeast: want.atLeast}, len(want.keys)
	}, func(a *protocol.BootAnswer) error {
		if len(a.Users) != len(want.keys) {
			return badAnswer("%d boots for %d users", len(a.Users), len(want.keys))
		}
		for i := range a.Users {
			if a.Users[i].Error == "" && a.Users[i].User != want.keys[i] {
				return badAnswer("boot %d is of another user", i)
			}
		}
		return reached(a.Position, want.atLeast)
	})
	if err != nil {
		return nil, 0, err
	}
	m := make(map[protocol.UserID]protocol.UserBoot, len(want.keys))
	for i, user := range want.keys {
		m[user] = answer.Users[i]
	}
	return m, answer.Position, nil
}

// Objects returns objects by id as of positions at or above atLeast; each id is in Objects or in Missing of one answer.
// There is an answer for each load that the ids were a part of, with its position: to the cache an object as of a lower
// position than it is would be older than one as of that position. Objects are shared with other callers and must not be
// changed. Any number of ids may be asked for.
func (u *Upstream) Objects(ctx context.Context, ws protocol.WorkspaceID, ids []protocol.ObjectID, atLeast protocol.Position) ([]*protocol.ObjectsAnswer, error) {
	var nobody []protocol.ObjectID
	asked := make([]protocol.ObjectID, 0, len(ids))
	seen := make(map[protocol.ObjectID]struct{}, len(ids))
	for _, id := range ids {
		if _, again := seen[id]; again {
			continue
		}
		seen[id] = struct{}{}
		if id == "" || len(id) > protocol.MaxIDLength {
			nobody = append(nobody, id)
			continue
		}
		asked = append(asked, id)
	}
	var answers []*protocol.ObjectsAnswer
	if len(nobody) > 0 {
		answers = append(answers, &protocol.ObjectsAnswer{Missing: nobody, Position: atLeast})
	}
	if len(asked) == 0 {
		return answers, nil
	}
	parts, err := u.batchers.objects.parts(ctx, ws, asked, atLeast)
	if err != nil {
		return nil, told(err)
	}
	for _, p := range parts {
		answer := &protocol.ObjectsAnswer{Objects: make([]protocol.Object, 0, len(p.keys)), Position: p.position}
		for i, id := range p.keys {
			if o := p.answers[i]; o != nil {
				answer.Objects = append(answer.Objects, *o)
			} else {
				answer.Missing = append(answer.Missing, id)
			}
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

func (u *Upstream) sendObjects(ws protocol.WorkspaceID, seal func() asked[protocol.ObjectID]) (map[protocol.ObjectID]*protocol.Object, protocol.Position, error) {
	var found map[protocol.ObjectID]*protocol.Object
	answer, err := load[protocol.ObjectsAnswer](u, protocol.CallObjects, func() (any, int) {
		want := seal()
		return protocol.ObjectsRequest{Workspace: ws, IDs: want.keys, AtLeast: want.atLeast}, len(want.keys)
	}, func(a *protocol.ObjectsAnswer) error {
		want := seal()
		found = make(map[protocol.ObjectID]*protocol.Object, len(want.keys))
		for i := range a.Objects {
			found[a.Objects[i].ID] = &a.Objects[i]
		}
		for _, id := range a.Missing {
			found[id] = nil
		}
		for _, id := range want.keys {
			if _, told := found[id]; !told {
				return badAnswer("an id is neither in objects nor in missing")
			}
		}
		return reached(a.Position, want.atLeast)
	})
	if err != nil {
		return nil, 0, err
	}
	return found, answer.Position, nil
}

// Members returns a page of a channel's members. Equal requests at the same time are one load; the answer is shared
// and must not be changed.
func (u *Upstream) Members(ctx context.Context, req protocol.MembersRequest) (*protocol.MembersAnswer, error) {
	if req.Limit <= 0 || req.Limit > protocol.MaxMembersLimit {
		return nil, protocol.Errorf(protocol.CodeInvalidLimit, "limit %d is not between 1 and %d", req.Limit, protocol.MaxMembersLimit)
	}
	atLeast := req.AtLeast
	req.AtLeast = 0
	answers, _, err := u.batchers.members.get(ctx, req, []one{{}}, atLeast)
	if err != nil {
		return nil, told(err)
	}
	return answers[one{}], nil
}

func (u *Upstream) sendMembers(req protocol.MembersRequest, seal func() asked[one]) (map[one]*protocol.MembersAnswer, protocol.Position, error) {
	answer, err := load[protocol.MembersAnswer](u, protocol.CallMembers, func() (any, int) {
		req.AtLeast = seal().atLeast
		return req, 1
	}, func(a *protocol.MembersAnswer) error {
		if len(a.Users) > req.Limit {
			return badAnswer("%d members with a limit of %d", len(a.Users), req.Limit)
		}
		return reached(a.Position, req.AtLeast)
	})
	if err != nil {
		return nil, 0, err
	}
	return map[one]*protocol.MembersAnswer{{}: answer}, answer.Position, nil
}

// List returns a page of a workspace's objects. Equal requests at the same time are one load; the answer is shared and
// must not be changed.
func (u *Upstream) List(ctx context.Context, req protocol.ListRequest) (*protocol.ListAnswer, error) {
	if req.Limit <= 0 || req.Limit > protocol.MaxListLimit {
		return nil, protocol.Errorf(protocol.CodeInvalidLimit, "limit %d is not between 1 and %d", req.Limit, protocol.MaxListLimit)
	}
	atLeast := req.AtLeast
	req.AtLeast = 0
	answers, _, err := u.batchers.list.get(ctx, req, []one{{}}, atLeast)
	if err != nil {
		return nil, told(err)
	}
	return answers[one{}], nil
}

func (u *Upstream) sendList(req protocol.ListRequest, seal func() asked[one]) (map[one]*protocol.ListAnswer, protocol.Position, error) {
	answer, err := load[protocol.ListAnswer](u, protocol.CallList, func() (any, int) {
		req.AtLeast = seal().atLeast
		return req, 1
	}, func(a *protocol.ListAnswer) error {
		if len(a.Entries) > req.Limit {
			return badAnswer("%d entries with a limit of %d", len(a.Entries), req.Limit)
		}
		return reached(a.Position, req.AtLeast)
	})
	if err != nil {
		return nil, 0, err
	}
	return map[one]*protocol.ListAnswer{{}: answer}, answer.Position, nil
}

// load sends what build returns until an answer has come that check finds right, within what the policies allow. build
// is called when a place under the limits is there, and again for each further attempt; it also tells how many keys it
// put in.
func load[A any](u *Upstream, name string, build func() (request any, keys int), check func(*A) error) (*A, error) {
	c := u.calls[name]
	timeout := callTimeout(&u.cfg, name)
	var answer *A
	err := c.do(u.life, c.repeat, func() error {
		request, keys := build()
		c.m.batch.Observe(float64(keys))
		a := new(A)
		if err := u.wire.load(name, protocol.MustMarshal(request), timeout, a); err != nil {
			return err
		}
		if err := check(a); err != nil {
			return err
		}
		answer = a
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// reached refuses an answer that is older than what was asked for.
func reached(p, atLeast protocol.Position) error {
	if p >= atLeast {
		return nil
	}
	f := badAnswer("the answer stands at %d, asked was for %d", p, atLeast)
	f.code, f.sick = codeBehind, false
	return f
}
