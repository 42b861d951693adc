package webapi

import (
	"encoding/json"

	"flannel/backend/chat"
	"flannel/protocol"
)

func teamInfo(q *request) ([]byte, error) {
	id := protocol.ObjectID(q.args["team"])
	if id == "" {
		id = protocol.ObjectID(q.id.Workspace)
	}
	o, err := q.view.Object(id, protocol.KindWorkspace, protocol.CodeTeamNotFound)
	if err != nil {
		return nil, err
	}
	return okAnswer().raw("team", o.Body).bytes(), nil
}

// emojiList answers all custom emoji that the caller sees; none to guests.
func emojiList(q *request) ([]byte, error) {
	workspace, err := q.workspace()
	if err != nil {
		return nil, err
	}
	list := &answer{buf: []byte("{")}
	newest := protocol.Version(0)
	err = q.r.EachObject(workspace, protocol.KindEmoji, func(o *protocol.Object) error {
		if sees, err := q.view.Sees(o); err != nil || !sees {
			return err
		}
		var e protocol.Emoji
		if err := json.Unmarshal(o.Body, &e); err != nil {
			return err
		}
		list.buf = append(protocol.AppendString(separated(list.buf), e.Name), ':')
		list.buf = protocol.AppendString(list.buf, e.Value)
		newest = max(newest, o.Version)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return okAnswer().raw("emoji", list.bytes()).val("cache_ts", newest).bytes(), nil
}

// separated appends a comma unless b stands at the beginning of an object.
func separated(b []byte) []byte {
	if b[len(b)-1] == '{' {
		return b
	}
	return append(b, ',')
}

func emojiAdd(q *request) ([]byte, protocol.Position, error) {
	value := q.args["url"]
	if alias := q.args["alias_for"]; value == "" && alias != "" {
		value = "alias:" + alias
	}
	return doneAt(q.Chat.AddEmoji(q.ctx, q.id, q.args["name"], value))
}

func emojiRemove(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.RemoveEmoji(q.ctx, q.id, q.args["name"]))
}

func usergroupsList(q *request) ([]byte, error) {
	workspace, err := q.workspace()
	if err != nil {
		return nil, err
	}
	users, disabled := q.args.Bool("include_users", false), q.args.Bool("include_disabled", false)
	var bodies [][]byte
	err = q.r.EachObject(workspace, protocol.KindUsergroup, func(o *protocol.Object) error {
		if sees, err := q.view.Sees(o); err != nil || !sees {
			return err
		}
		var g protocol.Usergroup
		if err := json.Unmarshal(o.Body, &g); err != nil {
			return err
		}
		if g.DateDelete != 0 && !disabled {
			return nil
		}
		if users {
			bodies = append(bodies, o.Body)
			return nil
		}
		bodies = append(bodies, protocol.MustMarshal(struct {
			protocol.Usergroup
			Users *int `json:"users,omitempty"` // hides the list
		}{Usergroup: g}))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return okAnswer().list("usergroups", bodies).bytes(), nil
}

func usergroupsUsersList(q *request) ([]byte, error) {
	o, err := q.view.Object(protocol.ObjectID(q.args["usergroup"]), protocol.KindUsergroup, chat.CodeNoSuchSubteam)
	if err != nil {
		return nil, err
	}
	var g protocol.Usergroup
	if err := json.Unmarshal(o.Body, &g); err != nil {
		return nil, err
	}
	return okAnswer().val("users", orEmpty(g.Users)).bytes(), nil
}
