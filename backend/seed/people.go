package seed

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"flannel/protocol"
)

// Shares of the people of a workspace. Small workspaces have nobody to spare.
const (
	guestShare   = 0.04
	deletedShare = 0.08
	adminShare   = 0.01
	botShare     = 0.008
)

func (g *generator) makePeople() error {
	n := g.opt.Users
	guests := max(1, int(float64(n)*guestShare))
	admins := max(1, int(float64(n)*adminShare))
	deleted := 0
	if n >= 100 {
		deleted = int(float64(n) * deletedShare)
	}
	// How much of a profile is filled in grows with the company: directories are synchronised in large ones.
	filled := min(1, max(0.1, (math.Log10(float64(n))-1.5)/3.5))
	for i := range n {
		u := g.makeUser(filled)
		switch {
		case i < admins:
			u.IsAdmin = true
			u.IsOwner = i == 0
			u.IsPrimaryOwner = i == 0
		case i >= n-guests:
			u.IsRestricted = true
			u.IsUltraRestricted = g.chance(0.4)
		case i >= n-guests-deleted:
			u.Deleted = true
			u.Color, u.TZ, u.TZLabel, u.TZOffset = "", "", "", 0 // what the dialect leaves out of those who are gone
		}
		if err := g.tx.Put(u); err != nil {
			return err
		}
		g.people = append(g.people, person{id: u.ID, name: u.Name, guest: u.Guest(), deleted: u.Deleted})
		if err := g.progress("users", i+1, n); err != nil {
			return err
		}
	}
	g.busy = g.people[admins].id
	g.result.Busy = g.busy
	for i := range max(1, int(float64(n)*botShare)) {
		if err := g.makeBot(i); err != nil {
			return err
		}
	}
	g.result.Users, g.result.Bots = n, len(g.bots)
	return nil
}

func (g *generator) makeUser(filled float64) *protocol.User {
	first, last := pick(g.rng, firstNames), pick(g.rng, lastNames)
	real := first + " " + last
	plain := strings.NewReplacer(" ", "", "'", "", "-", "").Replace(protocol.FoldName(first + "." + last))
	handle := plain
	for n := 2; g.handles[handle]; n++ {
		handle = fmt.Sprintf("%s%d", plain, n)
		if n > 9 {
			handle = fmt.Sprintf("%s%d", plain, g.rng.IntN(1_000_000))
		}
	}
	g.handles[handle] = true
	zone := pick(g.rng, zones)
	u := &protocol.User{
		ID: protocol.UserID(g.id('U')), TeamID: g.workspace.ID, Name: handle, Color: pick(g.rng, colors), RealName: real,
		TZ: zone.name, TZLabel: zone.label, TZOffset: zone.offset, Updated: protocol.Version(g.past(400).Unix()),
		Profile: protocol.Profile{
			RealName: real, RealNameNormalized: normalized(real), FirstName: first, LastName: last,
			Email: handle + "@" + g.workspace.EmailDomain, AvatarHash: fmt.Sprintf("g%011x", g.rng.Uint64()&0xfffffffffff),
		},
	}
	p := &u.Profile
	if g.chance(0.35) { // About a third of people choose a display name.
		p.DisplayName = strings.ToLower(first)
		p.DisplayNameNormalized = normalized(p.DisplayName)
	}
	if g.chance(filled) {
		p.Title = pick(g.rng, levels) + pick(g.rng, jobs)
		if g.chance(filled / 2) {
			p.Title += ", " + pick(g.rng, teams)
		}
	}
	if g.chance(filled / 3) {
		p.Phone = fmt.Sprintf("+%d %d %07d", 1+g.rng.IntN(98), 100+g.rng.IntN(900), g.rng.IntN(10_000_000))
	}
	if g.chance(0.08) {
		s := pick(g.rng, status)
		p.StatusEmoji, p.StatusText = s.emoji, s.text
	}
	if g.opt.Users > 1000 && g.chance(filled) { // Custom fields come with directories.
		p.Fields = map[string]protocol.ProfileField{
			"Xf0DEPT": {Value: pick(g.rng, teams)},
			"Xf0MNGR": {Value: pick(g.rng, firstNames) + " " + pick(g.rng, lastNames)},
		}
	}
	return u
}

func (g *generator) makeBot(i int) error {
	name := botNames[i%len(botNames)]
	if i >= len(botNames) {
		name = fmt.Sprintf("%s-%s", name, pick(g.rng, subjects))
		for g.handles[name] {
			name = fmt.Sprintf("%s%d", name, g.rng.IntN(100))
		}
	}
	g.handles[name] = true
	bot := protocol.BotID(g.id('B'))
	at := protocol.Version(g.past(600).Unix())
	u := &protocol.User{
		ID: protocol.UserID(g.id('U')), TeamID: g.workspace.ID, Name: name, Color: pick(g.rng, colors), RealName: name, IsBot: true, IsAppUser: true, Updated: at,
		Profile: protocol.Profile{RealName: name, RealNameNormalized: name, BotID: bot, AvatarHash: fmt.Sprintf("b%011x", g.rng.Uint64()&0xfffffffffff)},
	}
	icon := "https://avatars.example/" + string(bot)
	b := &protocol.Bot{
		ID: bot, TeamID: g.workspace.ID, Name: name, Updated: at, AppID: g.id('A'), UserID: u.ID,
		Icons: &protocol.BotIcons{Image36: icon + "_36.png", Image48: icon + "_48.png", Image72: icon + "_72.png"},
	}
	g.bots = append(g.bots, u.ID)
	if err := g.tx.Put(u); err != nil {
		return err
	}
	return g.tx.Put(b)
}

// normalized folds accents and keeps case, as the dialect's *_normalized fields do.
func normalized(s string) string {
	folded := []rune(protocol.FoldName(s))
	plain := []rune(s)
	if len(folded) != len(plain) {
		return s
	}
	for i, r := range plain {
		if r != folded[i] && 'A' <= r && r <= 'Z' {
			folded[i] = r
		}
	}
	return string(folded)
}

// anybody returns somebody who may write: neither guest nor deactivated.
func (g *generator) anybody() person {
	for {
		if p := g.people[g.rng.IntN(len(g.people))]; !p.guest && !p.deleted {
			return p
		}
	}
}

// sample returns up to n people without the busy one and without guests, sorted, all of them of taken excluded. The
// first people of the list are picked more often: some are in everything, most in little.
func (g *generator) sample(n int, also []protocol.UserID) []protocol.UserID {
	seen := make(map[protocol.UserID]bool, n+len(also))
	for _, id := range also {
		seen[id] = true
	}
	candidates := len(g.people)
	for tries := 0; len(seen) < n+len(also) && tries < 4*n+50; tries++ {
		p := &g.people[int(math.Pow(g.rng.Float64(), 1.4)*float64(candidates))]
		if !p.guest && p.id != g.busy && (!p.deleted || g.chance(0.2)) {
			seen[p.id] = true
		}
	}
	ids := make([]protocol.UserID, 0, len(seen))
	for id := range seen {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
