package seed

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// BusyChannels is the number of conversations of the busy person: the first plain member of every workspace that has
// enough of them. The mix is the same in all, so that boots of different workspaces can be compared.
const (
	BusyChannels = busyPublic + busyPrivate + busyGroups + busyDirect

	busyPublic  = 26
	busyPrivate = 10
	busyGroups  = 2
	busyDirect  = 62
)

// publicPerUser and privatePerUser: channels grow linearly with people.
const (
	publicPerUser  = 0.05
	privatePerUser = 0.08
)

// perUser is the mean number of public channels that a person is in beside the general one: it grows faster than
// linearly in total, until attention runs out.
func perUser(users int) float64 {
	return min(30, 2.7*math.Pow(float64(users)/530, 0.93))
}

// topChannelExponent shapes the heavy tail of channel sizes: the r-th channel has about r^-0.6 of the members of the
// first.
const topChannelExponent = 0.6

func (g *generator) makeChannels() error {
	users := g.opt.Users
	public := max(3, int(float64(users)*publicPerUser))
	private := max(1, int(float64(users)*privatePerUser))
	if users >= 100 {
		public, private = max(public, busyPublic), max(private, busyPrivate)
	}
	total := public + private
	weight := 0.0
	for r := 2; r < public; r++ {
		weight += math.Pow(float64(r-1), -topChannelExponent)
	}
	scale := perUser(users) * float64(users) / max(weight, 1)
	for i := range total {
		var members []protocol.UserID
		var c *protocol.Channel
		switch {
		case i == 0:
			c = g.newChannel("general", "Announcements and talk for everybody", "")
			c.IsGeneral = true
			members = g.everybody(1)
		case i == 1:
			c = g.newChannel("random", "Everything that fits nowhere else", "")
			members = g.everybody(0.5)
		case i < public:
			c = g.topical(false)
			size := int(scale * math.Pow(float64(i-1), -topChannelExponent))
			members = g.sample(min(max(size, 2), users*8/10), nil)
		default:
			c = g.topical(true)
			members = g.sample(min(2+int(math.Pow(g.rng.Float64(), 3)*30), users/2), nil)
		}
		// The busy one is in the first channels of each type: they are the large ones, as for busy people.
		if i < min(busyPublic, public) || (i >= public && i < public+min(busyPrivate, private)) {
			members = insert(members, g.busy)
		}
		// Guests are in a channel or two of their project.
		if i > 1 && i < public && len(g.people) > 0 && g.chance(0.8*guestShare/publicPerUser) {
			members = insert(members, g.guest())
		}
		if i > 1 && g.chance(0.06) && len(members) < 200 && !slices.Contains(members, g.busy) {
			c.IsArchived = true
		}
		if i < public && g.chance(0.3) {
			members = insert(members, g.bots[g.rng.IntN(len(g.bots))])
		}
		if err := g.putChannel(c, members); err != nil {
			return err
		}
		if err := g.progress("channels", i+1, total); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) guest() protocol.UserID {
	var guests []protocol.UserID
	for i := len(g.people) - 1; i >= 0 && g.people[i].guest; i-- {
		guests = append(guests, g.people[i].id)
	}
	return pick(g.rng, guests)
}

func insert(ids []protocol.UserID, id protocol.UserID) []protocol.UserID {
	if i, found := slices.BinarySearch(ids, id); !found {
		return slices.Insert(ids, i, id)
	}
	return ids
}

// everybody returns that share of the full members, without the busy one, sorted.
func (g *generator) everybody(share float64) []protocol.UserID {
	var ids []protocol.UserID
	for _, p := range g.people {
		if !p.guest && !p.deleted && p.id != g.busy && (share == 1 || g.chance(share)) {
			ids = append(ids, p.id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (g *generator) newChannel(name, purpose, topic string) *protocol.Channel {
	made := g.past(1200)
	creator := g.people[0].id
	c := &protocol.Channel{
		ID: protocol.ChannelID(g.id('C')), Name: name, NameNormalized: name, Created: made.Unix(), Creator: creator,
		Updated: protocol.Version(made.Add(time.Duration(g.rng.IntN(1000)) * time.Millisecond).UnixMilli()), ContextTeamID: g.workspace.ID, IsChannel: true,
	}
	if purpose != "" {
		c.Purpose = protocol.Purpose{Value: purpose, Creator: creator, LastSet: made.Unix()}
	}
	if topic != "" {
		c.Topic = protocol.Purpose{Value: topic, Creator: creator, LastSet: made.Unix() + 3600}
	}
	return c
}

func (g *generator) topical(private bool) *protocol.Channel {
	var name, subject string
	for n := 0; name == "" || g.names[name]; n++ {
		subject = pick(g.rng, subjects)
		name = pick(g.rng, areas) + "-" + subject
		if g.chance(0.6) || n > 3 {
			name += "-" + pick(g.rng, aspects)
		}
		if n > 6 {
			name += fmt.Sprintf("-%d", 2+g.rng.IntN(99))
		}
	}
	g.names[name] = true
	title := strings.ToUpper(subject[:1]) + subject[1:]
	fill := func(format string) string {
		if strings.Contains(format, "%s") {
			return fmt.Sprintf(format, title)
		}
		return format
	}
	c := g.newChannel(name, fill(pick(g.rng, purposes)), fill(pick(g.rng, topics)))
	if private {
		c.IsChannel, c.IsGroup, c.IsPrivate = false, true, true
	}
	return c
}

// makeDirect makes direct messages and group DMs.
func (g *generator) makeDirect() error {
	users := g.opt.Users
	busyPeers := g.sample(min(busyDirect, users/2), nil)
	direct, groups := users*6/10, users/10
	total := direct + groups + len(busyPeers)
	done := 0
	for _, peer := range busyPeers {
		if err := g.putDirect(g.busy, peer); err != nil {
			return err
		}
		done++
	}
	for range direct {
		pair := g.sample(2, nil)
		if len(pair) == 2 {
			if err := g.putDirect(pair[0], pair[1]); err != nil && !errors.Is(err, store.ErrExists) {
				return err
			}
		}
		done++
		if err := g.progress("direct messages", done, total); err != nil {
			return err
		}
	}
	for i := range max(groups, min(busyGroups, users/40)) {
		var also []protocol.UserID
		if i < busyGroups {
			also = []protocol.UserID{g.busy}
		}
		if err := g.putGroup(g.sample(2+g.rng.IntN(5), also)); err != nil {
			return err
		}
		done++
		if err := g.progress("direct messages", min(done, total), total); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) putDirect(a, b protocol.UserID) error {
	members := []protocol.UserID{min(a, b), max(a, b)}
	if _, err := g.tx.Conversation(members); err == nil {
		return nil // they talk already
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	made := g.past(600)
	c := &protocol.Channel{
		ID: protocol.ChannelID(g.id('D')), Created: made.Unix(), Updated: protocol.Version(made.UnixMilli()), ContextTeamID: g.workspace.ID,
		IsIM: true, IsPrivate: true, Members: members,
	}
	return g.putChannel(c, members)
}

func (g *generator) putGroup(members []protocol.UserID) error {
	if len(members) < 3 {
		return nil
	}
	if _, err := g.tx.Conversation(members); err == nil {
		return nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	made := g.past(600)
	var names []string
	for _, id := range members {
		names = append(names, g.handle(id))
	}
	name := "mpdm-" + strings.Join(names, "--") + "-1"
	c := &protocol.Channel{
		ID: protocol.ChannelID(g.id('G')), Name: name, NameNormalized: name, Created: made.Unix(), Creator: members[0], Updated: protocol.Version(made.UnixMilli()),
		ContextTeamID: g.workspace.ID, IsGroup: true, IsMPIM: true, IsPrivate: true, Members: members,
	}
	return g.putChannel(c, members)
}

func (g *generator) handle(id protocol.UserID) string {
	if g.byID == nil {
		g.byID = make(map[protocol.UserID]string, len(g.people))
		for _, p := range g.people {
			g.byID[p.id] = p.name
		}
	}
	return g.byID[id]
}

// putChannel writes a channel, its members (sorted) and some talk.
func (g *generator) putChannel(c *protocol.Channel, members []protocol.UserID) error {
	if len(members) == 0 {
		members = []protocol.UserID{g.people[0].id}
	}
	if err := g.tx.Put(c); err != nil {
		return err
	}
	g.result.Channels++
	m := protocol.Membership{Channel: c.ID, Owner: c.ContextTeamID, Type: c.Type(), Updated: c.Updated, Archived: c.IsArchived}
	for i, id := range members {
		m.Open = m.Type == protocol.TypeDM || m.Type == protocol.TypeGroupDM
		m.Peer = ""
		if c.IsIM {
			m.Peer = members[1-i]
		}
		if err := g.tx.AddMember(id, m); err != nil {
			return err
		}
	}
	g.result.Memberships += len(members)
	return g.talk(c, members)
}
