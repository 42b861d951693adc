package webapi

import (
	"encoding/json"
	"errors"
	"slices"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

// renderUser returns a user or bot as the caller sees it.
func (q *request) renderUser(o *protocol.Object) []byte {
	body := []byte(o.Body)
	if q.view.Stranger(o) {
		body = protocol.AppendFields(nil, body, protocol.StrangerFields)
	}
	if q.args.Bool("include_locale", false) && o.Kind == protocol.KindUser {
		body = withField(body, "locale", "en-US")
	}
	return body
}

func usersInfo(q *request) ([]byte, error) {
	return q.infoOf(protocol.KindUser, "user", "users", protocol.CodeUserNotFound)
}

func botsInfo(q *request) ([]byte, error) {
	return q.infoOf(protocol.KindBot, "bot", "bots", protocol.CodeBotNotFound)
}

// infoOf answers users.info and bots.info: one object, or several of which those that cannot be seen are left out.
func (q *request) infoOf(kind protocol.Kind, one, many string, missing protocol.Code) ([]byte, error) {
	if id := q.args[one]; id != "" || q.args[many] == "" {
		o, err := q.view.Object(protocol.ObjectID(id), kind, missing)
		if err != nil {
			return nil, err
		}
		return okAnswer().raw(one, q.renderUser(&o)).bytes(), nil
	}
	list, err := q.args.List(many)
	if err != nil {
		return nil, err
	}
	if len(list) > protocol.MaxObjectIDs {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "%s names more than %d", many, protocol.MaxObjectIDs)
	}
	var ids []protocol.ObjectID
	for _, id := range list {
		if oid := protocol.ObjectID(id); protocol.KindOf(oid) == kind && !slices.Contains(ids, oid) {
			ids = append(ids, oid)
		}
	}
	bodies, err := q.visible(ids)
	if err != nil {
		return nil, err
	}
	if len(bodies) == 0 {
		return nil, &protocol.Error{Code: missing}
	}
	return okAnswer().list(many, bodies).bytes(), nil
}

// visible renders those of the users or bots that the caller sees, in the order of ids.
func (q *request) visible(ids []protocol.ObjectID) ([][]byte, error) {
	objects, err := q.objects(ids)
	if err != nil {
		return nil, err
	}
	var bodies [][]byte
	for _, id := range ids {
		o := objects[id]
		if o == nil {
			continue
		}
		sees, err := q.view.Sees(o)
		if err != nil {
			return nil, err
		}
		if sees {
			bodies = append(bodies, q.renderUser(o))
		}
	}
	return bodies, nil
}

func usersList(q *request) ([]byte, error) {
	n, err := q.args.Int("limit", 0)
	if err != nil || n < 0 {
		return nil, &protocol.Error{Code: protocol.CodeInvalidLimit}
	}
	all := n == 0
	if all || n > maxPage {
		n = maxPage
	}
	from, err := q.cursor("user")
	if err != nil {
		return nil, err
	}
	ids, err := q.userIDs(protocol.UserID(from), n+1)
	if err != nil {
		return nil, err
	}
	next := protocol.ObjectID("")
	if len(ids) > n {
		if all {
			return nil, &protocol.Error{Code: protocol.CodeLimitRequired}
		}
		next = ids[n]
		ids = ids[:n]
	}
	objects, err := q.objects(ids)
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, 0, len(ids))
	for _, id := range ids {
		if o := objects[id]; o != nil {
			bodies = append(bodies, q.renderUser(o))
		}
	}
	return okAnswer().list("members", bodies).val("cache_ts", q.Now().Unix()).next(nextCursor("user", next)).bytes(), nil
}

// userIDs returns up to n ids of users whom the caller sees, in id order, beginning at from: the workspace's, or for
// guests those who share a channel with them.
func (q *request) userIDs(from protocol.UserID, n int) ([]protocol.ObjectID, error) {
	workspace, err := q.workspace()
	if err != nil {
		return nil, err
	}
	if !q.id.Role.Full() {
		users, err := q.companions()
		if err != nil {
			return nil, err
		}
		start, _ := slices.BinarySearch(users, from)
		var ids []protocol.ObjectID
		for _, u := range users[start:min(len(users), start+n)] {
			ids = append(ids, protocol.ObjectID(u))
		}
		return ids, nil
	}
	var ids []protocol.ObjectID
	cursor := string(before(from))
	for len(ids) < n {
		entries, next, err := q.r.List(protocol.ListRequest{
			Workspace: workspace, Kind: protocol.KindUser, Order: protocol.ByID, Cursor: cursor, Limit: min(n-len(ids), protocol.MaxListLimit),
		})
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		if next == "" {
			break
		}
		cursor = next
	}
	return ids, nil
}

// companions lists the users who share a channel with the caller, themself too, in id order. It is for guests, who are
// in few channels.
func (q *request) companions() ([]protocol.UserID, error) {
	ms, err := q.r.Memberships(q.id.User)
	if err != nil {
		return nil, err
	}
	users := []protocol.UserID{q.id.User}
	for _, m := range ms {
		for after := protocol.UserID(""); ; {
			page, next, _, err := q.r.Members(m.Channel, after, protocol.MaxMembersLimit)
			if err != nil {
				return nil, err
			}
			users = append(users, page...)
			if next == "" {
				break
			}
			after = next
		}
		slices.Sort(users)
		users = slices.Compact(users)
	}
	return users, nil
}

func usersLookupByEmail(q *request) ([]byte, error) {
	missing := &protocol.Error{Code: chat.CodeUsersNotFound}
	workspace, err := q.workspace()
	if err != nil {
		return nil, err
	}
	email := q.args["email"]
	if email == "" || len(email) > 320 { // the longest address there can be
		return nil, missing
	}
	id, err := q.r.UserByEmail(workspace, email)
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	o, err := q.view.Object(protocol.ObjectID(id), protocol.KindUser, chat.CodeUsersNotFound)
	if err != nil {
		return nil, err
	}
	var u struct {
		Deleted bool `json:"deleted"`
	}
	if err := json.Unmarshal(o.Body, &u); err != nil {
		return nil, err
	}
	if u.Deleted {
		return nil, missing
	}
	return okAnswer().raw("user", q.renderUser(&o)).bytes(), nil
}

// self is the user whom a call names, by default the caller.
func (q *request) self() protocol.UserID {
	if u := q.args["user"]; u != "" {
		return protocol.UserID(u)
	}
	return q.id.User
}

func profileGet(q *request) ([]byte, error) {
	u, _, err := q.view.User(q.self())
	if err != nil {
		return nil, err
	}
	return okAnswer().val("profile", u.Profile).bytes(), nil
}

// profileSet takes a JSON object in "profile", or one field as "name" and "value".
func profileSet(q *request) ([]byte, protocol.Position, error) {
	patch := rawJSON(q.args, "profile")
	if patch == nil {
		name, ok := q.args["name"]
		if !ok || name == "" {
			return nil, 0, &protocol.Error{Code: chat.CodeInvalidProfile}
		}
		value := protocol.MustMarshal(q.args["value"])
		if name == "status_expiration" || name == "fields" {
			value = []byte(q.args["value"])
		}
		if !json.Valid(value) {
			return nil, 0, &protocol.Error{Code: chat.CodeInvalidProfile}
		}
		patch = protocol.MustMarshal(map[string]json.RawMessage{name: value})
	}
	profile, at, err := q.Chat.SetProfile(q.ctx, q.id, q.self(), patch)
	if err != nil {
		return nil, 0, err
	}
	return okAnswer().val("username", q.id.UserName).val("profile", profile).bytes(), at, nil
}

func getPresence(q *request) ([]byte, error) {
	u, _, err := q.view.User(q.self())
	if err != nil {
		return nil, err
	}
	s := Status{Presence: protocol.Away}
	if q.Presence != nil {
		s = q.Presence.Presence(u.ID)
	}
	a := okAnswer().val("presence", s.Presence)
	if u.ID == q.id.User {
		a.val("online", s.Online).val("auto_away", s.AutoAway).val("manual_away", s.ManualAway).val("connection_count", s.Connections)
		if s.LastActivity > 0 {
			a.val("last_activity", s.LastActivity)
		}
	}
	return a.bytes(), nil
}

// setActive says that the caller is at their client. It is a read to the store.
func setActive(q *request) ([]byte, error) {
	if q.Presence != nil {
		q.Presence.Touch(q.id.User)
	}
	return done(), nil
}

func setPresence(q *request) ([]byte, protocol.Position, error) {
	var away bool
	switch q.args["presence"] {
	case "away":
		away = true
	case "auto", "active": // clients of old say active
	default:
		return nil, 0, &protocol.Error{Code: chat.CodeInvalidPresence}
	}
	at, err := q.Chat.SetManualAway(q.ctx, q.id, away)
	if err != nil {
		return nil, 0, err
	}
	if q.Presence != nil {
		q.Presence.SetManual(q.id.User, away)
	}
	return done(), at, nil
}

// prefsGet answers all preferences, or those in "prefs" or "names".
func prefsGet(q *request) ([]byte, error) {
	prefs, err := q.r.Prefs(q.id.User)
	if err != nil {
		return nil, err
	}
	names, err := q.args.List("prefs")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if names, err = q.args.List("names"); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return okAnswer().raw("prefs", prefs).bytes(), nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(prefs, &all); err != nil {
		return nil, err
	}
	some := make(map[string]json.RawMessage)
	for _, name := range names {
		if v, ok := all[name]; ok {
			some[name] = v
		}
	}
	return okAnswer().val("prefs", some).bytes(), nil
}

// prefsSet takes one preference as "name" and "value", or several as a JSON object in "prefs". A value that is not
// JSON is a string.
func prefsSet(q *request) ([]byte, protocol.Position, error) {
	prefs := make(map[string]json.RawMessage)
	if err := q.args.JSON("prefs", &prefs); err != nil {
		return nil, 0, err
	}
	if name := q.args["name"]; name != "" {
		if prefs == nil { // "prefs" was null
			prefs = make(map[string]json.RawMessage)
		}
		value := json.RawMessage(q.args["value"])
		if !json.Valid(value) {
			value = protocol.MustMarshal(q.args["value"])
		}
		prefs[name] = value
	}
	at, err := q.Chat.SetPrefs(q.ctx, q.id, prefs)
	if err != nil {
		return nil, 0, err
	}
	return done(), at, nil
}
