package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"flannel/protocol"
)

var accessClauses = []clause{
	{"access: a call without the service key is refused with 401", "every address under /upstream/v1/ wants Authorization: Bearer KEY", func(ctx context.Context, s *suite) error {
		_, err := s.refused(ctx, protocol.CallIdentify, "", []byte(`{"tokens":["x"]}`), http.StatusUnauthorized)
		return err
	}},
	{"access: a wrong service key is refused with 401", "compare the whole key, in constant time", func(ctx context.Context, s *suite) error {
		for _, key := range []string{"wrong", s.target.Key + "x", s.target.Key[:len(s.target.Key)/2]} {
			if _, err := s.refused(ctx, protocol.CallObjects, key, []byte(`{"ids":["U1"]}`), http.StatusUnauthorized); err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
		}
		return nil
	}},
	{"access: an unknown call is answered with 404", "", func(ctx context.Context, s *suite) error {
		_, err := s.refused(ctx, "nonsense", s.target.Key, []byte(`{}`), http.StatusNotFound)
		return err
	}},
	{"access: a body that is not JSON, or has the wrong types, is answered with 400", "errors are {\"error\":CODE,\"message\":…} with a status that is not 200", func(ctx context.Context, s *suite) error {
		for _, body := range []string{``, `nonsense`, `[]`, `{"tokens":7}`} {
			if _, err := s.refused(ctx, protocol.CallIdentify, s.target.Key, []byte(body), http.StatusBadRequest); err != nil {
				return fmt.Errorf("body %q: %w", body, err)
			}
		}
		return nil
	}},
}

var loadClauses = []clause{
	{"identify: a good token gives user, workspace, workspaces, role and a token id", "role is member, admin, guest or bot; the token id names the token in revocations without being it", func(ctx context.Context, s *suite) error {
		var a protocol.IdentifyAnswer
		if err := s.load(ctx, protocol.CallIdentify, protocol.IdentifyRequest{Tokens: []string{s.target.Token}}, &a); err != nil {
			return err
		}
		if len(a.Identities) != 1 {
			return fmt.Errorf("%d identities for one token", len(a.Identities))
		}
		id := a.Identities[0]
		switch {
		case id.Error != "":
			return fmt.Errorf("the token was refused with %q", id.Error)
		case protocol.KindOf(protocol.ObjectID(id.User)) != protocol.KindUser:
			return fmt.Errorf("user is %q; ids of users are U… or W…", id.User)
		case protocol.KindOf(protocol.ObjectID(id.Workspace)) != protocol.KindWorkspace:
			return fmt.Errorf("workspace is %q; ids of workspaces are T…", id.Workspace)
		case !slices.Contains(id.Workspaces, id.Workspace):
			return fmt.Errorf("workspaces %v lack the workspace %s", id.Workspaces, id.Workspace)
		case id.Role != protocol.RoleMember && id.Role != protocol.RoleAdmin:
			return fmt.Errorf("role is %q; the suite wants the token of a full member", id.Role)
		case id.Token == "" || strings.Contains(s.target.Token, id.Token) && len(id.Token) > len(s.target.Token)/2:
			return fmt.Errorf("the token id %q is empty, or gives the token away", id.Token)
		}
		s.identity = id
		s.saw(a.Position)
		return nil
	}},
	{"identify: bad tokens give an error each, in order", "one identity per token, in the order of the request", func(ctx context.Context, s *suite) error {
		var a protocol.IdentifyAnswer
		tokens := []string{"xoxp-nonsense", s.target.Token, "", s.target.Token + "x", s.target.Token}
		if err := s.load(ctx, protocol.CallIdentify, protocol.IdentifyRequest{Tokens: tokens}, &a); err != nil {
			return err
		}
		if len(a.Identities) != len(tokens) {
			return fmt.Errorf("%d identities for %d tokens", len(a.Identities), len(tokens))
		}
		for i, id := range a.Identities {
			if good := tokens[i] == s.target.Token; good != (id.Error == "") || good != (id.User != "") {
				return fmt.Errorf("identity %d is error %q, user %q", i, id.Error, id.User)
			}
		}
		return nil
	}},
	{"identify: 500 tokens are taken at once, 501 and none are refused", "", func(ctx context.Context, s *suite) error {
		tokens := slices.Repeat([]string{s.target.Token}, protocol.MaxIdentifyTokens+1)
		var a protocol.IdentifyAnswer
		if err := s.load(ctx, protocol.CallIdentify, protocol.IdentifyRequest{Tokens: tokens[1:]}, &a); err != nil {
			return err
		}
		if len(a.Identities) != protocol.MaxIdentifyTokens {
			return fmt.Errorf("%d identities for 500 tokens", len(a.Identities))
		}
		return s.tooMany(ctx, protocol.CallIdentify, protocol.IdentifyRequest{Tokens: tokens}, protocol.IdentifyRequest{Tokens: []string{}})
	}},
	{"boot: a user's private state, memberships in id order", "self is the user's own object; memberships are complete, archived channels included", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		var a protocol.BootAnswer
		if err := s.load(ctx, protocol.CallBoot, protocol.BootRequest{Users: []protocol.UserID{s.identity.User}, AtLeast: s.position}, &a); err != nil {
			return err
		}
		if len(a.Users) != 1 {
			return fmt.Errorf("%d entries for one user", len(a.Users))
		}
		b := a.Users[0]
		switch {
		case b.Error != "":
			return fmt.Errorf("error %q", b.Error)
		case b.User != s.identity.User || b.Self == nil || b.Self.ID != protocol.ObjectID(b.User):
			return fmt.Errorf("user %q with self %v; want %s", b.User, b.Self, s.identity.User)
		case b.Role != s.identity.Role:
			return fmt.Errorf("role %q, but identify says %q", b.Role, s.identity.Role)
		case !slices.IsSortedFunc(b.Memberships, func(a, b protocol.Membership) int { return strings.Compare(string(a.Channel), string(b.Channel)) }):
			return errors.New("memberships are not in the order of channel ids")
		case a.Position < s.position:
			return fmt.Errorf("position %d, but at_least was %d", a.Position, s.position)
		}
		var prefs map[string]json.RawMessage
		if err := json.Unmarshal(b.Prefs, &prefs); err != nil {
			return fmt.Errorf("prefs are no JSON object: %w", err)
		}
		for i := range b.Memberships {
			if err := wellFormed(&b.Memberships[i]); err != nil {
				return err
			}
		}
		s.boot = b
		s.saw(a.Position)
		return nil
	}},
	{"boot: unknown users give user_not_found, in order", "one entry per user, in the order of the request", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		users := []protocol.UserID{"U0NOSUCHUSER", s.identity.User, "W0NOSUCHUSER", s.identity.User}
		var a protocol.BootAnswer
		if err := s.load(ctx, protocol.CallBoot, protocol.BootRequest{Users: users}, &a); err != nil {
			return err
		}
		if len(a.Users) != len(users) {
			return fmt.Errorf("%d entries for %d users", len(a.Users), len(users))
		}
		for i, b := range a.Users {
			want := protocol.Code("")
			if users[i] != s.identity.User {
				want = protocol.CodeUserNotFound
			}
			if b.Error != want || b.User != users[i] {
				return fmt.Errorf("entry %d is user %q, error %q; want %q, %q", i, b.User, b.Error, users[i], want)
			}
		}
		return nil
	}},
	{"boot: 500 users are taken at once, 501 and none are refused", "", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		users := slices.Repeat([]protocol.UserID{"U0NOSUCHUSER"}, protocol.MaxBootUsers+1)
		var a protocol.BootAnswer
		if err := s.load(ctx, protocol.CallBoot, protocol.BootRequest{Users: users[1:]}, &a); err != nil {
			return err
		}
		return s.tooMany(ctx, protocol.CallBoot, protocol.BootRequest{Users: users}, protocol.BootRequest{Users: []protocol.UserID{}})
	}},
	{"objects: workspace, user and channels come in their envelopes", "id, kind, version, owner, topic and visibility are set; body is the client's JSON with the same id", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		ids := []protocol.ObjectID{protocol.ObjectID(s.identity.Workspace), protocol.ObjectID(s.identity.User)}
		for i := range min(len(s.boot.Memberships), 50) {
			ids = append(ids, protocol.ObjectID(s.boot.Memberships[i].Channel))
		}
		a, err := s.objects(ctx, ids...)
		if err != nil {
			return err
		}
		if len(a.Missing) > 0 {
			return fmt.Errorf("missing %v, which identify and boot name", a.Missing)
		}
		for i := range a.Objects {
			if err := s.envelope(&a.Objects[i]); err != nil {
				return err
			}
		}
		return nil
	}},
	{"objects: each id is answered once, found or missing", "ids that cannot exist are missing too, not an error", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		self := protocol.ObjectID(s.identity.User)
		unknown := []protocol.ObjectID{"U0NOSUCHUSER", "C0NOSUCHCHANNEL", "B0NOSUCHBOT", "nonsense", "../etc/passwd", "T0X/emoji/none"}
		a, err := s.objects(ctx, append(slices.Clone(unknown), self, self, unknown[0])...)
		if err != nil {
			return err
		}
		if len(a.Objects) != 1 || a.Objects[0].ID != self {
			return fmt.Errorf("%d objects for one id named twice", len(a.Objects))
		}
		slices.Sort(a.Missing)
		slices.Sort(unknown)
		if !slices.Equal(a.Missing, unknown) {
			return fmt.Errorf("missing %q, want %q", a.Missing, unknown)
		}
		return nil
	}},
	{"objects: 1000 ids are taken at once, 1001 and none are refused", "", func(ctx context.Context, s *suite) error {
		ids := make([]protocol.ObjectID, protocol.MaxObjectIDs+1)
		for i := range ids {
			ids[i] = protocol.ObjectID(fmt.Sprintf("U0NOSUCH%d", i))
		}
		a, err := s.objects(ctx, ids[1:]...)
		if err != nil {
			return err
		}
		if len(a.Missing) != protocol.MaxObjectIDs {
			return fmt.Errorf("%d of 1000 unknown ids are missing", len(a.Missing))
		}
		return s.tooMany(ctx, protocol.CallObjects, protocol.ObjectsRequest{IDs: ids}, protocol.ObjectsRequest{IDs: []protocol.ObjectID{}})
	}},
	{"list: users by id, complete, each once", "after the last page next_cursor is empty; the cursor is yours, but names the last entry of the page", func(ctx context.Context, s *suite) error {
		return s.listed(ctx, protocol.KindUser, protocol.ByID, func(a, b *protocol.ListEntry) bool { return a.ID < b.ID })
	}},
	{"list: users by name, then id", "order by sort_name as bytes: folded to lower case without accents", func(ctx context.Context, s *suite) error {
		return s.listed(ctx, protocol.KindUser, protocol.ByName, func(a, b *protocol.ListEntry) bool {
			return a.SortName < b.SortName || a.SortName == b.SortName && a.ID < b.ID
		})
	}},
	{"list: a query leaves the entries of which each of its words begins a word", "words are what letters and digits make, folded; of name, real_name, display_name, sort_name and email", func(ctx context.Context, s *suite) error { return s.searched(ctx) }},
	{"list: channels, bots, emoji and usergroups", "channels: public ones only, archived included", func(ctx context.Context, s *suite) error {
		for _, kind := range []protocol.Kind{protocol.KindChannel, protocol.KindBot, protocol.KindEmoji, protocol.KindUsergroup} {
			if err := s.listed(ctx, kind, protocol.ByID, func(a, b *protocol.ListEntry) bool { return a.ID < b.ID }); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
		return nil
	}},
	{"list: bad kinds, orders, limits and queries are refused with 400, an unknown workspace with 404", "", func(ctx context.Context, s *suite) error {
		good := protocol.ListRequest{Workspace: s.identity.Workspace, Kind: protocol.KindUser, Order: protocol.ByID, Limit: 10}
		for name, change := range map[string]func(*protocol.ListRequest){
			"kind": func(r *protocol.ListRequest) { r.Kind = "nonsense" }, "order": func(r *protocol.ListRequest) { r.Order = "nonsense" },
			"limit 0": func(r *protocol.ListRequest) { r.Limit = 0 }, "limit -1": func(r *protocol.ListRequest) { r.Limit = -1 },
			"limit 1001": func(r *protocol.ListRequest) { r.Limit = protocol.MaxListLimit + 1 },
			"long query": func(r *protocol.ListRequest) { r.Query = strings.Repeat("a", protocol.MaxQuery+1) },
		} {
			bad := good
			change(&bad)
			if _, err := s.refused(ctx, protocol.CallList, s.target.Key, protocol.MustMarshal(bad), http.StatusBadRequest); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		good.Workspace = "T0NOSUCHTEAM"
		_, err := s.refused(ctx, protocol.CallList, s.target.Key, protocol.MustMarshal(good), http.StatusNotFound)
		return err
	}},
	{"members: pages join to the whole, in id order", "next_cursor is the last id of the page; total counts all members", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		for i := range s.boot.Memberships {
			if m := &s.boot.Memberships[i]; m.Type == protocol.TypePublic {
				return s.paged(ctx, m.Channel)
			}
		}
		if len(s.boot.Memberships) > 0 {
			return s.paged(ctx, s.boot.Memberships[0].Channel)
		}
		return nil // The user is in no channel; the one that the suite makes is looked at later.
	}},
	{"members: bad limits are refused with 400, an unknown channel with 404", "", func(ctx context.Context, s *suite) error {
		for _, limit := range []int{0, -1, protocol.MaxMembersLimit + 1} {
			body := protocol.MustMarshal(protocol.MembersRequest{Channel: "C0NOSUCHCHANNEL", Limit: limit})
			if _, err := s.refused(ctx, protocol.CallMembers, s.target.Key, body, http.StatusBadRequest); err != nil {
				return fmt.Errorf("limit %d: %w", limit, err)
			}
		}
		body := protocol.MustMarshal(protocol.MembersRequest{Channel: "C0NOSUCHCHANNEL", Limit: 10})
		_, err := s.refused(ctx, protocol.CallMembers, s.target.Key, body, http.StatusNotFound)
		return err
	}},
	{"at_least: a position that is far away is answered with 503 and code behind", "wait up to a second for it, then say 503 {\"error\":\"behind\",\"retry_after\":1}", func(ctx context.Context, s *suite) error {
		body := protocol.MustMarshal(protocol.ObjectsRequest{IDs: []protocol.ObjectID{"U0NOSUCHUSER"}, AtLeast: s.position + 1_000_000})
		e, err := s.refused(ctx, protocol.CallObjects, s.target.Key, body, http.StatusServiceUnavailable)
		if err == nil && e.Error != protocol.CodeBehind {
			err = fmt.Errorf("error is %q, want %q", e.Error, protocol.CodeBehind)
		}
		return err
	}},
}

// tooMany checks that requests over a limit are refused.
func (s *suite) tooMany(ctx context.Context, call string, requests ...any) error {
	for _, r := range requests {
		if _, err := s.refused(ctx, call, s.target.Key, protocol.MustMarshal(r), http.StatusBadRequest, http.StatusRequestEntityTooLarge); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) objects(ctx context.Context, ids ...protocol.ObjectID) (*protocol.ObjectsAnswer, error) {
	var a protocol.ObjectsAnswer
	err := s.load(ctx, protocol.CallObjects, protocol.ObjectsRequest{Workspace: s.identity.Workspace, IDs: ids, AtLeast: s.position}, &a)
	if err == nil && a.Position < s.position {
		err = fmt.Errorf("objects answered as of %d, but at_least was %d", a.Position, s.position)
	}
	s.saw(a.Position)
	return &a, err
}

// envelope checks one object.
func (s *suite) envelope(o *protocol.Object) error {
	var body struct {
		ID      protocol.ObjectID `json:"id"`
		Updated protocol.Version  `json:"updated"`
	}
	if err := json.Unmarshal(o.Body, &body); err != nil {
		return fmt.Errorf("body of %s is no JSON object: %w", o.ID, err)
	}
	v := o.Visibility
	switch {
	case o.Kind != protocol.KindOf(o.ID):
		return fmt.Errorf("%s has kind %q", o.ID, o.Kind)
	case o.Version <= 0:
		return fmt.Errorf("%s has version %d", o.ID, o.Version)
	case protocol.KindOf(protocol.ObjectID(o.Owner)) != protocol.KindWorkspace:
		return fmt.Errorf("%s has owner %q, which is no workspace", o.ID, o.Owner)
	case !protocol.ValidID(string(o.Topic)):
		return fmt.Errorf("%s has topic %q; it names the workspace or the channel whose events change it", o.ID, o.Topic)
	case len(v.Workspaces) == 0 && v.Channel == "" && !v.Sharing:
		return fmt.Errorf("%s is visible to nobody", o.ID)
	case body.ID != o.ID:
		return fmt.Errorf("body of %s has id %q", o.ID, body.ID)
	case body.Updated != o.Version && o.Kind != protocol.KindUsergroup:
		return fmt.Errorf("%s has version %d, but its body says updated %d", o.ID, o.Version, body.Updated)
	}
	return nil
}

func wellFormed(m *protocol.Membership) error {
	switch {
	case protocol.KindOf(protocol.ObjectID(m.Channel)) != protocol.KindChannel:
		return fmt.Errorf("membership of %q, which is no channel", m.Channel)
	case !slices.Contains(protocol.ChannelTypes, m.Type):
		return fmt.Errorf("membership of %s has type %q", m.Channel, m.Type)
	case protocol.KindOf(protocol.ObjectID(m.Owner)) != protocol.KindWorkspace:
		return fmt.Errorf("membership of %s has owner %q", m.Channel, m.Owner)
	case m.Updated <= 0:
		return fmt.Errorf("membership of %s has no version of the channel", m.Channel)
	case m.Type == protocol.TypeDM && m.Peer == "":
		return fmt.Errorf("the direct message %s has no peer", m.Channel)
	case m.LastRead != "" && !m.LastRead.Valid(), m.Latest != "" && !m.Latest.Valid():
		return fmt.Errorf("membership of %s has a bad timestamp", m.Channel)
	case m.MentionCount < 0:
		return fmt.Errorf("membership of %s has %d mentions", m.Channel, m.MentionCount)
	}
	return nil
}

// listed reads up to 20 pages of a list and checks that their entries rise strictly, page after page.
func (s *suite) listed(ctx context.Context, kind protocol.Kind, order protocol.ListOrder, less func(a, b *protocol.ListEntry) bool) error {
	if s.identity.Workspace == "" {
		return errNobody
	}
	const limit = 7
	req := protocol.ListRequest{Workspace: s.identity.Workspace, Kind: kind, Order: order, Limit: limit}
	var all []protocol.ListEntry
	for range 20 {
		var a protocol.ListAnswer
		if err := s.load(ctx, protocol.CallList, req, &a); err != nil {
			return err
		}
		if len(a.Entries) > limit {
			return fmt.Errorf("%d entries for limit %d", len(a.Entries), limit)
		}
		all = append(all, a.Entries...)
		if req.Cursor = a.NextCursor; req.Cursor == "" {
			break
		}
	}
	for i := range all {
		if protocol.KindOf(all[i].ID) != kind || all[i].Version <= 0 {
			return fmt.Errorf("entry %q has kind %q, version %d", all[i].ID, protocol.KindOf(all[i].ID), all[i].Version)
		}
		if i > 0 && !less(&all[i-1], &all[i]) {
			return fmt.Errorf("%s (%q) comes before %s (%q)", all[i-1].ID, all[i-1].SortName, all[i].ID, all[i].SortName)
		}
	}
	if req.Cursor == "" && kind == protocol.KindUser && !slices.ContainsFunc(all, func(e protocol.ListEntry) bool { return e.ID == protocol.ObjectID(s.identity.User) }) {
		return errors.New("the token's own user is not in the list")
	}
	return nil
}

// paged reads the members of a channel by small pages and compares them with one large one.
func (s *suite) paged(ctx context.Context, channel protocol.ChannelID) error {
	var whole protocol.MembersAnswer
	if err := s.load(ctx, protocol.CallMembers, protocol.MembersRequest{Channel: channel, Limit: protocol.MaxMembersLimit, AtLeast: s.position}, &whole); err != nil {
		return err
	}
	if len(whole.Users) < protocol.MaxMembersLimit && whole.Total != len(whole.Users) {
		return fmt.Errorf("%s has %d members, but total says %d", channel, len(whole.Users), whole.Total)
	}
	if !slices.IsSorted(whole.Users) {
		return errors.New("members are not in id order")
	}
	if !slices.Contains(whole.Users, s.identity.User) && whole.NextCursor == "" {
		return fmt.Errorf("%s lacks the token's user, who is in it", channel)
	}
	limit := max(2, len(whole.Users)/10)
	var joined []protocol.UserID
	req := protocol.MembersRequest{Channel: channel, Limit: limit}
	for range 20 {
		var a protocol.MembersAnswer
		if err := s.load(ctx, protocol.CallMembers, req, &a); err != nil {
			return err
		}
		if len(a.Users) > limit {
			return fmt.Errorf("%d members for limit %d", len(a.Users), limit)
		}
		joined = append(joined, a.Users...)
		if req.Cursor = a.NextCursor; req.Cursor == "" {
			break
		}
	}
	if n := min(len(joined), len(whole.Users)); !slices.Equal(joined[:n], whole.Users[:n]) || req.Cursor == "" && len(joined) != len(whole.Users) {
		return fmt.Errorf("pages of %d join to %d members, one page has %d, and they differ", limit, len(joined), len(whole.Users))
	}
	return nil
}
