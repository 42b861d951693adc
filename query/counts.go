package query

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"flannel/cache"
	"flannel/protocol"
)

// maxCounted is how many people are counted by their objects: those of a channel while there is no directory, or those
// of other workspaces. Of more than that only everyone is told.
const maxCounted = 20_000

// usersCountsQuery counts who is in a channel. Deactivated users are left out, but where only everyone can be told.
func usersCountsQuery(r *reader, args json.RawMessage) ([]byte, error) {
	ch, err := r.channelArg(args)
	if err != nil {
		return nil, err
	}
	people, err := r.people(ch)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"channel":`...)
	b = protocol.AppendString(b, ch)
	b = append(b, `,"counts":{"everyone":`...)
	var t tally
	if people == nil || !r.tally(&t, people) {
		n, err := r.numMembers(ch)
		if err != nil {
			return nil, err
		}
		b = strconv.AppendInt(b, int64(n), 10)
		return ok(append(b, '}')), nil
	}
	if t.err != nil {
		return nil, t.err
	}
	for i, name := range countNames {
		if i > 0 {
			b = append(b, `,"`...)
			b = append(b, name...)
			b = append(b, `":`...)
		}
		b = strconv.AppendInt(b, int64(t.of(atoms[name])), 10)
	}
	b = append(b, `,"by_team":{`...)
	for _, w := range slices.Sorted(maps.Keys(t.byTeam)) {
		b = append(protocol.AppendString(separated(b), w), ':')
		b = strconv.AppendInt(b, int64(t.byTeam[w]), 10)
	}
	return ok(append(b, `}}`...)), nil
}

// tally counts people who are not deactivated.
type tally struct {
	byTraits map[traits]int
	byTeam   map[protocol.WorkspaceID]int
	err      error
}

func (t *tally) add(owner protocol.WorkspaceID, tr traits, n int) {
	if n > 0 && tr&cache.TraitDeactivated == 0 {
		t.byTraits[tr] += n
		t.byTeam[owner] += n
	}
}

func (t *tally) of(want filter) int {
	n := 0
	for tr, count := range t.byTraits {
		if want(tr) {
			n += count
		}
	}
	return n
}

// tally counts people: those of the workspace by its directory, the others by their objects. It reports false if that
// would be too many objects.
func (r *reader) tally(t *tally, people *cache.People) bool {
	t.byTraits, t.byTeam = make(map[traits]int), make(map[protocol.WorkspaceID]int)
	d := r.index(protocol.KindUser, people.Len() > protocol.MaxObjectIDs)
	if d == nil && people.Len() > protocol.MaxObjectIDs {
		d = r.waitIndex(protocol.KindUser, r.s.config.LoadTimeout)
	}
	if d != nil {
		for tr, n := range d.Count(people) {
			t.add(r.workspace, traits(tr), n)
		}
		people = d.Others(people)
	}
	if people.Len() > maxCounted {
		return false
	}
	objects, err := r.objects(objectIDs(people.Users()))
	t.err = err
	for i := range objects {
		if o := &objects[i]; o.ID != "" {
			t.add(o.Owner, traitsOfBody(o.Body), 1)
		}
	}
	return true
}

var countNames = []string{"everyone", "people", "members", "guests", "bots", "apps"}

// channelArg reads "channel", which must be one that the reader sees.
func (r *reader) channelArg(args json.RawMessage) (protocol.ChannelID, error) {
	raw := protocol.Field(args, "channel")
	id, valid := jsonText(raw)
	if raw != nil && !valid {
		return "", badArg("channel", "an id")
	}
	o, err := r.object(protocol.ObjectID(id), protocol.KindChannel, protocol.CodeChannelNotFound)
	return protocol.ChannelID(o.ID), err
}

// membershipQuery parts a list of users into those who are in a channel and those who are not.
func membershipQuery(r *reader, args json.RawMessage) ([]byte, error) {
	ch, err := r.channelArg(args)
	if err == nil {
		err = r.permitted() // A public channel is shown on stale permission; who is in it is not.
	}
	if err != nil {
		return nil, err
	}
	var users []protocol.UserID
	if raw := protocol.Field(args, "users"); raw != nil {
		if users, err = jsonTexts[protocol.UserID]("users", raw, r.s.config.MaxIDs); err != nil {
			return nil, err
		}
	}
	asked := slices.DeleteFunc(slices.Clone(users), func(u protocol.UserID) bool { return protocol.KindOf(protocol.ObjectID(u)) != protocol.KindUser })
	in, err := r.membersAmong(ch, asked)
	if err != nil {
		return nil, err
	}
	var members, others []protocol.UserID
	for _, u := range users {
		if in[u] {
			members = append(members, u)
		} else {
			others = append(others, u)
		}
	}
	b := append([]byte(nil), `{"channel":`...)
	b = protocol.AppendString(b, ch)
	b = appendIDs(b, "members", members)
	return ok(appendIDs(b, "non_members", others)), nil
}
