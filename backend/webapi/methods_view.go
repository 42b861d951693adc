package webapi

import (
	"maps"
	"slices"
	"strings"

	"flannel/backend/chat"
	"flannel/protocol"
)

// genericInfo answers channels by id, those only whose version is not the one that the caller has: what a client asks
// when its cache of channels may be old.
func genericInfo(q *request) ([]byte, error) {
	var known map[protocol.ObjectID]protocol.Version
	if err := q.args.JSON("updated_channels", &known); err != nil {
		return nil, err
	}
	switch {
	case known == nil:
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "updated_channels is missing: an object of ids and versions")
	case len(known) > protocol.MaxObjectIDs:
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "updated_channels names more than %d", protocol.MaxObjectIDs)
	}
	ids := slices.Sorted(maps.Keys(known))
	objects, err := q.objects(slices.DeleteFunc(slices.Clone(ids), func(id protocol.ObjectID) bool {
		return protocol.KindOf(id) != protocol.KindChannel
	}))
	if err != nil {
		return nil, err
	}
	mine, err := q.r.Memberships(q.id.User)
	if err != nil {
		return nil, err
	}
	bodies := [][]byte{}
	unchanged, failed := []protocol.ObjectID{}, []protocol.ObjectID{}
	for _, id := range ids {
		o := objects[id]
		if o == nil {
			failed = append(failed, id)
			continue
		}
		m := findMembership(mine, protocol.ChannelID(id))
		sees := m != nil
		if !sees {
			if sees, err = q.view.Sees(o); err != nil {
				return nil, err
			}
		}
		switch {
		case !sees:
			failed = append(failed, id)
		case o.Version == known[id]:
			unchanged = append(unchanged, id)
		default:
			bodies = append(bodies, protocol.ViewChannel(m).AppendViewer(nil, o.Body))
		}
	}
	return okAnswer().list("channels", bodies).val("unchanged_channel_ids", unchanged).val("failed_ids", failed).bytes(), nil
}

// viewCount is the dialect's page of conversations.view: what fits on a screen.
const viewCount = 28

// conversationsView answers all that is needed to show a channel: itself, a page of its history, and who and what its
// messages name. Arguments that only leave something out (no_members, no_self, …) change nothing.
func conversationsView(q *request) ([]byte, error) {
	count, err := q.pageSize("count", viewCount)
	if err != nil {
		return nil, err
	}
	p, err := q.readable()
	if err != nil {
		return nil, err
	}
	history := &answer{buf: []byte("{")}
	messages, err := q.history(history, count, nil)
	if err != nil {
		return nil, err
	}
	users, err := q.named(p, messages)
	if err != nil {
		return nil, err
	}
	emojis, err := q.emojis(messages)
	if err != nil {
		return nil, err
	}
	what := "channel"
	switch {
	case p.Channel.IsIM:
		what = "im"
	case p.Channel.IsGroup:
		what = "group"
	}
	return okAnswer().raw(what, renderPlace(p)).list("users", users).val("emojis", emojis).raw("history", history.bytes()).bytes(), nil
}

// named renders the users whom messages name and the caller sees: the other one of a direct message, authors, those who
// are mentioned; in the order in which they are met, at most protocol.MaxObjectIDs.
func (q *request) named(p *chat.Place, messages []protocol.Message) ([][]byte, error) {
	var ids []protocol.ObjectID
	met := make(map[protocol.UserID]bool)
	add := func(users ...protocol.UserID) {
		for _, u := range users {
			if !met[u] && len(ids) < protocol.MaxObjectIDs && protocol.KindOf(protocol.ObjectID(u)) == protocol.KindUser {
				met[u] = true
				ids = append(ids, protocol.ObjectID(u))
			}
		}
	}
	if p.Membership != nil {
		add(p.Membership.Peer)
	}
	for i := range messages {
		add(messages[i].User)
		add(chat.MentionedUsers(messages[i].Text)...)
	}
	return q.visible(ids)
}

// emojis returns the custom emoji of the caller's workspace that messages use, in reactions or as :name:, by name; at
// most protocol.MaxObjectIDs.
func (q *request) emojis(messages []protocol.Message) (map[string]string, error) {
	var ids []protocol.ObjectID
	met := make(map[string]bool)
	add := func(name string) {
		name, _, _ = strings.Cut(name, "::") // a skin tone
		if name != "" && !met[name] && len(ids) < protocol.MaxObjectIDs {
			met[name] = true
			ids = append(ids, protocol.EmojiID(q.id.Workspace, name))
		}
	}
	for i := range messages {
		eachEmoji(messages[i].Text, add)
		for _, r := range messages[i].Reactions {
			add(r.Name)
		}
	}
	emojis := make(map[string]string)
	objects, err := q.objects(ids)
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		sees, err := q.view.Sees(o)
		if err != nil {
			return nil, err
		}
		if !sees {
			continue
		}
		var e protocol.Emoji
		if err := unmarshal(o, &e); err != nil {
			return nil, err
		}
		emojis[e.Name] = e.Value
	}
	return emojis, nil
}

// maxEmojiName bounds the names that are looked for in a text, in bytes: the dialect's names have at most 100.
const maxEmojiName = 100

// eachEmoji calls fn with what stands between two colons and could be an emoji's name.
func eachEmoji(text string, fn func(name string)) {
	for {
		_, rest, ok := strings.Cut(text, ":")
		if !ok {
			return
		}
		end := strings.IndexFunc(rest[:min(len(rest), maxEmojiName+1)], func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '+' || r == '\'')
		})
		if end > 0 && rest[end] == ':' {
			fn(rest[:end])
		}
		text = rest
	}
}
