package webapi

import (
	"flannel/backend/chat"
	"flannel/protocol"
)

// renderPlace returns a channel as the caller finds it.
func renderPlace(p *chat.Place) []byte {
	return protocol.ViewChannel(p.Membership).AppendViewer(nil, p.Object.Body)
}

func conversationsInfo(q *request) ([]byte, error) {
	p, err := q.view.Channel(q.channel())
	if err != nil {
		return nil, err
	}
	v := protocol.ViewChannel(p.Membership)
	if q.args.Bool("include_num_members", false) {
		sizes, err := q.r.NumMembers([]protocol.ChannelID{p.Channel.ID})
		if err != nil {
			return nil, err
		}
		n := sizes[p.Channel.ID]
		v.NumMembers = &n
	}
	body := v.AppendViewer(nil, p.Object.Body)
	if q.args.Bool("include_locale", false) {
		body = withField(body, "locale", "en-US")
	}
	return okAnswer().raw("channel", body).bytes(), nil
}

// placed answers with a channel that was changed.
func placed(p *chat.Place, at protocol.Position, err error) ([]byte, protocol.Position, error) {
	if err != nil {
		return nil, 0, err
	}
	return okAnswer().raw("channel", renderPlace(p)).bytes(), at, nil
}

// doneAt answers with nothing but ok.
func doneAt(at protocol.Position, err error) ([]byte, protocol.Position, error) {
	if err != nil {
		return nil, 0, err
	}
	return done(), at, nil
}

func conversationsCreate(q *request) ([]byte, protocol.Position, error) {
	return placed(q.Chat.CreateChannel(q.ctx, q.id, q.args["name"], q.args.Bool("is_private", false)))
}

func conversationsJoin(q *request) ([]byte, protocol.Position, error) {
	p, already, at, err := q.Chat.Join(q.ctx, q.id, q.channel())
	if err != nil {
		return nil, 0, err
	}
	a := okAnswer().raw("channel", renderPlace(p))
	if already {
		a.warn(string(chat.CodeAlreadyInChannel))
	}
	return a.bytes(), at, nil
}

func conversationsLeave(q *request) ([]byte, protocol.Position, error) {
	absent, at, err := q.Chat.Leave(q.ctx, q.id, q.channel())
	if err != nil {
		return nil, 0, err
	}
	a := okAnswer()
	if absent {
		a.val("not_in_channel", true)
	}
	return a.bytes(), at, nil
}

func conversationsInvite(q *request) ([]byte, protocol.Position, error) {
	users, err := q.users("users")
	if err != nil {
		return nil, 0, err
	}
	if len(users) == 0 && q.args["user"] != "" { // the name it had in channels.invite
		users = []protocol.UserID{protocol.UserID(q.args["user"])}
	}
	p, refused, at, err := q.Chat.Invite(q.ctx, q.id, q.channel(), users, q.args.Bool("force", false))
	if err != nil {
		return nil, 0, err
	}
	a := okAnswer().raw("channel", renderPlace(p))
	if len(refused) > 0 {
		a.val("errors", refused)
	}
	return a.bytes(), at, nil
}

func conversationsKick(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.Kick(q.ctx, q.id, q.channel(), protocol.UserID(q.args["user"])))
}

func conversationsRename(q *request) ([]byte, protocol.Position, error) {
	return placed(q.Chat.RenameChannel(q.ctx, q.id, q.channel(), q.args["name"]))
}

func conversationsSetTopic(q *request) ([]byte, protocol.Position, error) {
	p, at, err := q.Chat.SetTopic(q.ctx, q.id, q.channel(), q.args["topic"])
	return described("topic", q.args["topic"], p, at, err)
}

func conversationsSetPurpose(q *request) ([]byte, protocol.Position, error) {
	p, at, err := q.Chat.SetPurpose(q.ctx, q.id, q.channel(), q.args["purpose"])
	return described("purpose", q.args["purpose"], p, at, err)
}

// described answers as old and new clients expect it: the text itself, and the channel.
func described(what, text string, p *chat.Place, at protocol.Position, err error) ([]byte, protocol.Position, error) {
	if err != nil {
		return nil, 0, err
	}
	return okAnswer().val(what, text).raw("channel", renderPlace(p)).bytes(), at, nil
}

func conversationsArchive(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.Archive(q.ctx, q.id, q.channel(), true))
}

func conversationsUnarchive(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.Archive(q.ctx, q.id, q.channel(), false))
}

func conversationsOpen(q *request) ([]byte, protocol.Position, error) {
	users, err := q.users("users")
	if err != nil {
		return nil, 0, err
	}
	if len(users) == 0 && q.args["user"] != "" { // the name it had in im.open
		users = []protocol.UserID{protocol.UserID(q.args["user"])}
	}
	opened, at, err := q.Chat.Open(q.ctx, q.id, q.channel(), users, q.args.Bool("prevent_creation", false))
	if err != nil {
		return nil, 0, err
	}
	a := okAnswer()
	if opened.NoOp {
		a.val("no_op", true).val("already_open", true)
	}
	if q.args.Bool("return_im", false) {
		a.raw("channel", renderPlace(opened.Place))
	} else {
		a.val("channel", map[string]protocol.ChannelID{"id": opened.Place.Channel.ID})
	}
	return a.bytes(), at, nil
}

func conversationsClose(q *request) ([]byte, protocol.Position, error) {
	closed, at, err := q.Chat.Close(q.ctx, q.id, q.channel())
	if err != nil {
		return nil, 0, err
	}
	a := okAnswer()
	if closed.NoOp {
		a.val("no_op", true).val("already_closed", true)
	}
	return a.bytes(), at, nil
}

func conversationsMark(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.Mark(q.ctx, q.id, q.channel(), q.args["ts"]))
}
