package sqlite

import (
	"encoding/json"
	"fmt"

	"flannel/protocol"
)

const objectColumns = "o.id, o.kind, o.version, o.workspace, o.topic, o.visibility, o.body"

func scanObject(scan func(...any) error) (o protocol.Object, err error) {
	var visibility, body []byte
	if err := scan(&o.ID, &o.Kind, &o.Version, &o.Owner, &o.Topic, &visibility, &body); err != nil {
		return o, err
	}
	o.Body = body
	if err := json.Unmarshal(visibility, &o.Visibility); err != nil {
		return o, fmt.Errorf("visibility of %s: %w", o.ID, err)
	}
	return o, nil
}

// Object implements store.Reader.
func (r *reader) Object(id protocol.ObjectID) (protocol.Object, error) {
	row := r.row("SELECT "+objectColumns+" FROM objects o WHERE o.id = ? AND o.buried = 0", id)
	return scanObject(row.Scan)
}

// Objects implements store.Reader. The ids go over in one array: a statement for each takes three times as long.
func (r *reader) Objects(ids []protocol.ObjectID) (found []protocol.Object, missing []protocol.ObjectID, err error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	there := make(map[protocol.ObjectID]bool, len(ids)) // false: asked for and not found yet
	distinct := make([]protocol.ObjectID, 0, len(ids))
	for _, id := range ids {
		if _, seen := there[id]; !seen {
			there[id] = false
			distinct = append(distinct, id)
		}
	}
	found = make([]protocol.Object, 0, len(distinct))
	err = r.each(func(scan func(...any) error) error {
		o, err := scanObject(scan)
		found = append(found, o)
		there[o.ID] = true
		return err
	}, "SELECT "+objectColumns+" FROM json_each(?) j CROSS JOIN objects o ON o.id = j.value WHERE o.buried = 0", string(protocol.AppendStrings(nil, distinct)))
	if err != nil {
		return nil, nil, err
	}
	for _, id := range distinct {
		if !there[id] {
			missing = append(missing, id)
		}
	}
	return found, missing, nil
}

// EachObject implements store.Reader.
func (r *reader) EachObject(workspace protocol.WorkspaceID, kind protocol.Kind, fn func(*protocol.Object) error) error {
	return r.each(func(scan func(...any) error) error {
		o, err := scanObject(scan)
		if err != nil {
			return err
		}
		return fn(&o)
	}, "SELECT "+objectColumns+" FROM objects o WHERE o.workspace = ? AND o.kind = ? AND o.buried = 0 ORDER BY o.id", workspace, kind)
}

// Workspaces implements store.Reader.
func (r *reader) Workspaces() ([]protocol.Workspace, error) {
	bodies, err := list[[]byte](r, "SELECT body FROM objects WHERE kind = 'workspace' AND buried = 0 ORDER BY id")
	if err != nil {
		return nil, err
	}
	workspaces := make([]protocol.Workspace, len(bodies))
	for i, body := range bodies {
		if err := json.Unmarshal(body, &workspaces[i]); err != nil {
			return nil, fmt.Errorf("decode workspace: %w", err)
		}
	}
	return workspaces, nil
}

// UserByName implements store.Reader.
func (r *reader) UserByName(workspace protocol.WorkspaceID, name string) (id protocol.UserID, err error) {
	err = r.row("SELECT id FROM objects WHERE workspace = ? AND kind = 'user' AND handle = ?", workspace, name).Scan(&id)
	return id, err
}

// UserByEmail implements store.Reader. Case does not matter, as for addresses everywhere; of several, an active user
// comes first.
func (r *reader) UserByEmail(workspace protocol.WorkspaceID, email string) (id protocol.UserID, err error) {
	err = r.row("SELECT id FROM objects WHERE workspace = ? AND email = ? COLLATE NOCASE AND email <> '' AND kind = 'user' AND buried = 0 ORDER BY inactive, id LIMIT 1",
		workspace, email).Scan(&id)
	return id, err
}

// ChannelByName implements store.Reader.
func (r *reader) ChannelByName(workspace protocol.WorkspaceID, name string) (id protocol.ChannelID, err error) {
	err = r.row("SELECT id FROM objects WHERE workspace = ? AND kind = 'channel' AND handle = ?", workspace, name).Scan(&id)
	return id, err
}

// Conversation implements store.Reader.
func (r *reader) Conversation(users []protocol.UserID) (id protocol.ChannelID, err error) {
	err = r.row("SELECT channel FROM conversations WHERE users = ?", conversationKey(users)).Scan(&id)
	return id, err
}
