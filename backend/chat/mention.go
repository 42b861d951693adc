package chat

import (
	"slices"
	"strings"

	"flannel/backend/store"
	"flannel/protocol"
)

// maxMentions bounds how many people one message can mention by name. Each costs a look-up in the transaction that
// posts it; a text of 40,000 characters has room for thousands.
const maxMentions = 500

// parsed is what a text calls for.
type parsed struct {
	users    []protocol.UserID
	groups   []protocol.ObjectID
	everyone bool
}

// parseMentions reads the dialect's escapes: <@U…>, <@U…|name>, <!subteam^S…>, <!channel>, <!here>, <!everyone>. Each
// id is there once.
func parseMentions(text string) parsed {
	var p parsed
	for {
		_, rest, ok := strings.Cut(text, "<")
		if !ok {
			return p
		}
		text = rest
		inner, _, ok := strings.Cut(rest, ">")
		if !ok {
			return p
		}
		inner, _, _ = strings.Cut(inner, "|")
		switch {
		case inner == "!channel" || inner == "!here" || inner == "!everyone":
			p.everyone = true
		case strings.HasPrefix(inner, "@"):
			if id := inner[1:]; protocol.KindOf(protocol.ObjectID(id)) == protocol.KindUser {
				p.users = appendNew(p.users, protocol.UserID(id))
			}
		case strings.HasPrefix(inner, "!subteam^"):
			if id := protocol.ObjectID(inner[len("!subteam^"):]); protocol.KindOf(id) == protocol.KindUsergroup {
				p.groups = appendNew(p.groups, id)
			}
		}
	}
}

// MentionedUsers lists the users whom a text mentions by id, each once, at most 500.
func MentionedUsers(text string) []protocol.UserID { return parseMentions(text).users }

func appendNew[T comparable](list []T, v T) []T {
	if len(list) >= maxMentions || slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// mentions says whom a message by the actor in p mentions: members of the channel only. In direct messages every
// message is for everyone.
func (a *act) mentions(p *Place, text string) (store.Mentions, error) {
	if p.Channel.IsIM || p.Channel.IsMPIM {
		return store.Mentions{Everyone: true}, nil
	}
	said := parseMentions(text)
	m := store.Mentions{Everyone: said.everyone}
	for _, id := range said.groups {
		o, err := a.tx.Object(id)
		if err := orRefuse(err, CodeNoSuchSubteam); err != nil {
			if protocol.AsError(err).Code == CodeNoSuchSubteam {
				continue
			}
			return m, err
		}
		if sees, err := a.Sees(&o); err != nil || !sees {
			if err != nil {
				return m, err
			}
			continue
		}
		var g protocol.Usergroup
		if err := decode(&o, &g); err != nil {
			return m, err
		}
		for _, u := range g.Users {
			said.users = appendNew(said.users, u)
		}
	}
	for _, u := range said.users {
		if u == a.ID.User {
			continue
		}
		member, err := a.isMember(p.Channel.ID, u)
		if err != nil {
			return m, err
		}
		if member {
			m.Users = append(m.Users, u)
		}
	}
	return m, nil
}
