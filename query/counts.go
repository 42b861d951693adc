package query

import (
	"encoding/json"
	"slices"
	"strconv"

	"flannel/protocol"
)

// maxCounted is the largest channel whose members are counted by kind, which needs the objects of all of them. Of
// larger ones only everyone is told, exactly.
const maxCounted = 2000

// usersCountsQuery counts who is in a channel. Deactivated users are left out, but for those of channels too large to
// look at each.
func usersCountsQuery(r *reader, args json.RawMessage) ([]byte, error) {
	ch, err := r.channelArg(args)
	if err != nil {
		return nil, err
	}
	n, err := r.numMembers(ch)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"channel":`...)
	b = protocol.AppendString(b, ch)
	b = append(b, `,"counts":{"everyone":`...)
	if n > maxCounted {
		b = strconv.AppendInt(b, int64(n), 10)
		return ok(append(b, '}')), nil
	}
	page, _, err := r.memberPage(ch, "", maxCounted)
	if err != nil {
		return nil, err
	}
	ids := make([]protocol.ObjectID, len(page))
	for i, u := range page {
		ids[i] = protocol.ObjectID(u)
	}
	objects, err := r.objects(ids)
	if err != nil {
		return nil, err
	}
	count := make(map[string]int)
	var teams []protocol.WorkspaceID
	byTeam := make(map[protocol.WorkspaceID]int)
	for i := range objects {
		o := &objects[i]
		t := traitsOfBody(o.Body)
		if o.ID == "" || t&traitDeactivated != 0 {
			continue
		}
		for _, name := range countNames {
			if atoms[name](t) {
				count[name]++
			}
		}
		if byTeam[o.Owner]++; byTeam[o.Owner] == 1 {
			teams = append(teams, o.Owner)
		}
	}
	b = strconv.AppendInt(b, int64(count["everyone"]), 10)
	for _, name := range countNames[1:] {
		b = append(b, `,"`...)
		b = append(b, name...)
		b = append(b, `":`...)
		b = strconv.AppendInt(b, int64(count[name]), 10)
	}
	b = append(b, `,"by_team":{`...)
	for _, w := range teams {
		b = append(protocol.AppendString(separated(b), w), ':')
		b = strconv.AppendInt(b, int64(byTeam[w]), 10)
	}
	return ok(append(b, `}}`...)), nil
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
