package seed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Options says what to make.
type Options struct {
	// Users is the number of people: at least 3; bots come on top.
	Users int
	// Seed makes the workspace: the same seed and number give the same bytes.
	Seed uint64
	// Progress, if set, is told from time to time how many steps of how many are done.
	Progress func(phase string, done, total int)
}

// Result says what was made.
type Result struct {
	Workspace   protocol.Workspace `json:"workspace"`
	Users       int                `json:"users"`
	Bots        int                `json:"bots"`
	Channels    int                `json:"channels"` // of every type
	Memberships int                `json:"memberships"`
	Messages    int                `json:"messages"`
	Emoji       int                `json:"emoji"`
	Usergroups  int                `json:"usergroups"`
	// Busy is the user who is in BusyChannels conversations.
	Busy protocol.UserID `json:"busy"`
}

// Epoch is when a made-up workspace was last touched: fixed, so that the same seed gives the same bytes.
var Epoch = time.Date(2026, time.January, 5, 9, 0, 0, 0, time.UTC)

// MinUsers is the smallest workspace: an owner, a member and a guest.
const MinUsers = 3

// Generate makes a workspace in an empty or used store; its ids depend on the seed and on the number of users.
func Generate(ctx context.Context, st store.Store, opt Options) (Result, error) {
	if opt.Users < MinUsers {
		return Result{}, fmt.Errorf("a workspace needs at least %d users, not %d", MinUsers, opt.Users)
	}
	g := &generator{opt: opt, rng: rand.New(rand.NewPCG(opt.Seed, uint64(opt.Users))), ctx: ctx, handles: make(map[string]bool), names: make(map[string]bool)}
	g.salt = g.rng.Uint64()
	err := st.Load(ctx, func(tx store.Tx) error {
		g.tx = tx
		for _, step := range []func() error{g.makeWorkspace, g.makePeople, g.makeEmoji, g.makeUsergroups, g.makeChannels, g.makeDirect} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("generate %d users: %w", opt.Users, err)
	}
	return g.result, nil
}

// generator is used by one goroutine, in the order of its steps.
type generator struct {
	opt    Options
	ctx    context.Context // Generate's own: a generator lives no longer
	rng    *rand.Rand
	tx     store.Tx
	salt   uint64
	ids    map[byte]uint64
	result Result

	workspace protocol.Workspace
	handles   map[string]bool // user names taken
	names     map[string]bool // channel names taken
	people    []person        // active and deactivated people, most talkative first
	bots      []protocol.UserID
	byID      map[protocol.UserID]string // handles, made when first asked for
	busy      protocol.UserID            // the one who is in exactly BusyChannels conversations
}

// person is what the later steps need to know of a user.
type person struct {
	id      protocol.UserID
	name    string
	guest   bool
	deleted bool
}

// id returns a fresh id: unique, the same for the same seed, without order.
func (g *generator) id(prefix byte) string {
	// An odd factor without the prime 3 has an inverse modulo 36^9: distinct counters stay distinct.
	const space, factor = 101559956668416, 48271*1_000_003 | 1
	if g.ids == nil {
		g.ids = make(map[byte]uint64)
	}
	g.ids[prefix]++
	n := (g.ids[prefix]*factor%space + g.salt%space) % space
	var digits [9]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[n%36]
		n /= 36
	}
	return string(prefix) + "0" + string(digits[:])
}

func (g *generator) progress(phase string, done, total int) error {
	if done%1000 == 0 || done == total {
		if err := g.ctx.Err(); err != nil {
			return err
		}
		if g.opt.Progress != nil {
			g.opt.Progress(phase, done, total)
		}
	}
	return nil
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// chance is true with probability p.
func (g *generator) chance(p float64) bool { return g.rng.Float64() < p }

// past returns a moment before Epoch, at most days days ago.
func (g *generator) past(days int) time.Time {
	return Epoch.Add(-time.Duration(g.rng.Int64N(int64(days)*86400)+1) * time.Second)
}

func (g *generator) makeWorkspace() error {
	name := companies[g.rng.IntN(len(companies))]
	domain := fmt.Sprintf("%s-%d", strings.ToLower(name), g.opt.Users)
	g.workspace = protocol.Workspace{
		ID: protocol.WorkspaceID(g.id('T')), Name: fmt.Sprintf("%s %d", name, g.opt.Users), Domain: domain,
		EmailDomain: strings.ToLower(name) + ".example", Icon: map[string]string{"image_68": "https://avatars.example/" + domain + "_68.png"},
		AvatarBaseURL: "https://avatars.example/", Plan: "std", DateCreated: g.past(2000).Unix(), Updated: protocol.Version(Epoch.Unix()),
	}
	g.result.Workspace = g.workspace
	return g.tx.Put(&g.workspace)
}

func (g *generator) makeEmoji() error {
	n := min(2000, 5+g.opt.Users/20)
	for i := range n {
		name := pick(g.rng, emojiNames)
		if i >= len(emojiNames) {
			name = fmt.Sprintf("%s-%s-%d", name, pick(g.rng, subjects), i)
		} else {
			name = emojiNames[i]
		}
		value := fmt.Sprintf("https://emoji.example/%s/%s/%08x.png", g.workspace.ID, name, g.rng.Uint32())
		if i > 10 && g.chance(0.05) {
			value = "alias:" + emojiNames[g.rng.IntN(10)]
		}
		e := &protocol.Emoji{Workspace: g.workspace.ID, Name: name, Value: value, Updated: protocol.Version(g.past(900).Unix()), Creator: g.anybody().id}
		if err := g.tx.Put(e); err != nil {
			return err
		}
	}
	g.result.Emoji = n
	return nil
}

func (g *generator) makeUsergroups() error {
	n := min(300, 1+g.opt.Users/60)
	for i := range n {
		team := teams[i%len(teams)]
		handle := strings.ToLower(team)
		if i >= len(teams) {
			handle = fmt.Sprintf("%s-%d", handle, i/len(teams)+1)
		}
		made := g.past(700).Unix()
		members := g.sample(min(3+g.rng.IntN(15), len(g.people)/2+1), nil)
		by := g.people[0].id
		u := &protocol.Usergroup{
			ID: protocol.ObjectID(g.id('S')), TeamID: g.workspace.ID, IsUsergroup: true, Name: team + " team", Handle: handle,
			Description: "Everybody in " + team, DateCreate: made, DateUpdate: protocol.Version(made), CreatedBy: by, UpdatedBy: by,
			Prefs: protocol.UsergroupPrefs{Channels: []protocol.ChannelID{}, Groups: []protocol.ChannelID{}}, Users: members, UserCount: len(members),
		}
		if err := g.tx.Put(u); err != nil {
			return err
		}
	}
	g.result.Usergroups = n
	return nil
}
