package sim_test

import (
	"strings"

	"flannel/protocol"
)

// call is the backend's Web API, as far as the simulation needs it.
func (b *backend) call(method, token, key string, args protocol.Args) ([]byte, protocol.Position) {
	b.mu.Lock()
	id := b.identityLocked(token)
	before := b.position
	first, again := b.done[token+key]
	b.mu.Unlock()
	if id.Error != "" {
		return protocol.ErrorBody(&protocol.Error{Code: id.Error}), before
	}
	if again && key != "" {
		return first.body, first.at
	}
	user, ch := id.User, protocol.ChannelID(args["channel"])
	n, _ := args.Int("nth", 0)
	answer := fields{"ok": true}
	var at protocol.Position
	var code protocol.Code
	switch method {
	case "chat.postMessage":
		var ts protocol.TS
		ts, at, code = b.post(user, ch, args["text"])
		answer["channel"], answer["ts"], answer["message"] = ch, ts, fields{"text": args["text"]}
	case "chat.update":
		at, code = b.edit(user, ch, n)
	case "chat.delete":
		at, code = b.remove(user, ch, n)
	case "conversations.mark":
		at, code = b.mark(user, ch, n)
	case "conversations.join":
		at, code = b.join(user, ch)
	case "conversations.leave":
		at, code = b.leave(user, ch)
	case "conversations.invite":
		at, code = b.invite(user, ch, protocol.UserID(args["users"]))
	case "conversations.kick":
		at, code = b.kick(user, ch, protocol.UserID(args["user"]))
	case "conversations.create":
		ch, at, code = b.create(user, args["is_private"] == "true")
		answer["channel"] = fields{"id": ch}
	case "conversations.rename":
		at, code = b.rename(user, ch, args["name"])
	case "conversations.open":
		var others []protocol.UserID
		for u := range strings.SplitSeq(args["users"], ",") {
			others = append(others, protocol.UserID(u))
		}
		at, code = b.open(user, others...)
	case "conversations.close":
		at, code = b.hide(user, ch)
	case "users.profile.set":
		at, code = b.profile(user, args["status"])
	case "users.prefs.set":
		at, code = b.pref(user, args["value"])
	case "auth.revoke":
		at, code = b.revoke(token)
	default:
		code = protocol.CodeUnknownMethod
		at = before
	}
	body := protocol.MustMarshal(answer)
	if code != "" {
		body = protocol.ErrorBody(&protocol.Error{Code: code})
	}
	if key != "" {
		b.mu.Lock()
		b.done[token+key] = answered{body, at}
		b.mu.Unlock()
	}
	return body, at
}
