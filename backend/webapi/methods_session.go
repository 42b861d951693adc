package webapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"flannel/protocol"
)

// socketTTL is how long clients may keep an address of client.getWebSocketURL before they ask again, in seconds.
const socketTTL = 3600

func apiTest(q *request) ([]byte, error) {
	args := maps.Clone(q.args)
	delete(args, "token")
	if code := args["error"]; code != "" {
		return protocol.MustMarshal(struct {
			OK    bool          `json:"ok"`
			Error string        `json:"error"`
			Args  protocol.Args `json:"args"`
		}{false, code, args}), nil
	}
	a := okAnswer()
	if len(args) > 0 {
		a.val("args", args)
	}
	return a.bytes(), nil
}

// team returns the caller's workspace.
func (q *request) team() (w protocol.Workspace, body []byte, err error) {
	o, err := q.r.Object(protocol.ObjectID(q.id.Workspace))
	if err != nil {
		return w, nil, fmt.Errorf("read workspace %q: %w", q.id.Workspace, err)
	}
	return w, o.Body, json.Unmarshal(o.Body, &w)
}

func (q *request) host() string {
	if q.call.Host == "" {
		return "http://localhost"
	}
	return q.call.Host
}

func authTest(q *request) ([]byte, error) {
	w, _, err := q.team()
	if err != nil {
		return nil, err
	}
	return protocol.MustMarshal(struct {
		OK                  bool                  `json:"ok"`
		URL                 string                `json:"url"`
		Team                string                `json:"team"`
		User                string                `json:"user"`
		TeamID              protocol.WorkspaceID  `json:"team_id"`
		UserID              protocol.UserID       `json:"user_id"`
		BotID               protocol.BotID        `json:"bot_id,omitempty"`
		EnterpriseID        protocol.EnterpriseID `json:"enterprise_id,omitempty"`
		IsEnterpriseInstall bool                  `json:"is_enterprise_install"`
	}{true, q.host() + "/", w.Name, q.id.UserName, q.id.Workspace, q.id.User, q.id.Bot, q.id.Enterprise, false}), nil
}

func authRevoke(q *request) ([]byte, protocol.Position, error) {
	if q.args.Bool("test", false) {
		return okAnswer().val("revoked", false).bytes(), 0, nil
	}
	at, err := q.Chat.Revoke(q.ctx, q.id)
	if err != nil {
		return nil, 0, err
	}
	return okAnswer().val("revoked", true).bytes(), at, nil
}

// ticket returns the address of a websocket for the caller.
func (q *request) ticket() (string, error) {
	if q.Sockets == nil {
		return "", &protocol.Error{Code: protocol.CodeUnavailable, Retry: time.Second}
	}
	params := maps.Clone(q.args)
	delete(params, "token")
	return q.Sockets.Ticket(*q.id, params, q.host())
}

// teamCard is the workspace as rtm.connect tells it.
func teamCard(w *protocol.Workspace) []byte {
	return protocol.MustMarshal(struct {
		ID             protocol.WorkspaceID  `json:"id"`
		Name           string                `json:"name"`
		Domain         string                `json:"domain"`
		EnterpriseID   protocol.EnterpriseID `json:"enterprise_id,omitempty"`
		EnterpriseName string                `json:"enterprise_name,omitempty"`
	}{w.ID, w.Name, w.Domain, w.EnterpriseID, w.EnterpriseName})
}

func rtmConnect(q *request) ([]byte, error) {
	w, _, err := q.team()
	if err != nil {
		return nil, err
	}
	url, err := q.ticket()
	if err != nil {
		return nil, err
	}
	self := struct {
		ID   protocol.UserID `json:"id"`
		Name string          `json:"name"`
	}{q.id.User, q.id.UserName}
	return okAnswer().val("url", url).val("self", self).raw("team", teamCard(&w)).bytes(), nil
}

func webSocketURL(q *request) ([]byte, error) {
	url, err := q.ticket()
	if err != nil {
		return nil, err
	}
	second, err := q.ticket()
	if err != nil {
		return nil, err
	}
	return okAnswer().val("primary_websocket_url", url).val("fallback_websocket_url", second).val("ttl_seconds", socketTTL).
		val("routing_context", string(q.id.Workspace)+"-1").bytes(), nil
}

func flannelURL(q *request) ([]byte, error) {
	return okAnswer().val("url", q.host()).val("ttl_seconds", socketTTL).bytes(), nil
}

func userBoot(q *request) ([]byte, error) {
	opts, err := protocol.UserBootArgs(q.args)
	if err != nil {
		return nil, err
	}
	parts := protocol.UserBootParts{Workspaces: q.id.Workspaces, DefaultWorkspace: q.id.Workspace, Now: q.Now().Unix()}
	self, err := q.r.Object(protocol.ObjectID(q.id.User))
	if err != nil {
		return nil, err
	}
	parts.Self = self.Body
	if _, parts.Team, err = q.team(); err != nil {
		return nil, err
	}
	if parts.Memberships, err = q.r.Memberships(q.id.User); err != nil {
		return nil, err
	}
	var ids []protocol.ObjectID
	for i := range parts.Memberships {
		if m := &parts.Memberships[i]; m.InBoot() && m.Updated > opts.MinChannelUpdated {
			ids = append(ids, protocol.ObjectID(m.Channel))
		}
	}
	bodies, err := q.objects(ids)
	if err != nil {
		return nil, err
	}
	parts.Bodies = make([]json.RawMessage, len(parts.Memberships))
	for i := range parts.Memberships {
		if o, ok := bodies[protocol.ObjectID(parts.Memberships[i].Channel)]; ok {
			parts.Bodies[i] = o.Body
		}
	}
	if parts.Prefs, err = q.r.Prefs(q.id.User); err != nil {
		return nil, err
	}
	if parts.Usergroups, err = q.r.Usergroups(q.id.User); err != nil {
		return nil, err
	}
	return protocol.ComposeUserBoot(&parts, opts), nil
}

func counts(q *request) ([]byte, error) {
	ms, err := q.r.Memberships(q.id.User)
	if err != nil {
		return nil, err
	}
	return protocol.ComposeCounts(ms), nil
}

// objects loads objects by id.
func (q *request) objects(ids []protocol.ObjectID) (map[protocol.ObjectID]*protocol.Object, error) {
	found, _, err := q.r.Objects(ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[protocol.ObjectID]*protocol.Object, len(found))
	for i := range found {
		byID[found[i].ID] = &found[i]
	}
	return byID, nil
}
