package protocol

import "strings"

// Shape is a typed object: the client-facing body of one kind, which knows its envelope and its list entry. Bodies are
// made by the backend only; the edge passes them on.
type Shape interface {
	Object() Object
	Entry() ListEntry
}

// User is the body of a user: the 20 fields that the edge API of the dialect gives, with a profile.
type User struct {
	ID                UserID       `json:"id"`
	TeamID            WorkspaceID  `json:"team_id"`
	Name              string       `json:"name"`
	Deleted           bool         `json:"deleted"`
	Color             string       `json:"color,omitempty"`
	RealName          string       `json:"real_name"`
	TZ                string       `json:"tz,omitempty"`
	TZLabel           string       `json:"tz_label,omitempty"`
	TZOffset          int          `json:"tz_offset,omitempty"`
	Profile           Profile      `json:"profile"`
	IsAdmin           bool         `json:"is_admin"`
	IsOwner           bool         `json:"is_owner"`
	IsPrimaryOwner    bool         `json:"is_primary_owner"`
	IsRestricted      bool         `json:"is_restricted"`       // guest in several channels
	IsUltraRestricted bool         `json:"is_ultra_restricted"` // guest in one channel
	IsBot             bool         `json:"is_bot"`
	IsAppUser         bool         `json:"is_app_user,omitempty"`
	EnterpriseID      EnterpriseID `json:"enterprise_id,omitempty"`
	Updated           Version      `json:"updated"` // seconds, strictly rising
}

// Profile is the part of a user that the user edits. Names are always there; of the rest, what is empty is left out.
type Profile struct {
	Title                 string                  `json:"title,omitempty"`
	Phone                 string                  `json:"phone,omitempty"`
	RealName              string                  `json:"real_name"`
	RealNameNormalized    string                  `json:"real_name_normalized"`
	DisplayName           string                  `json:"display_name"`
	DisplayNameNormalized string                  `json:"display_name_normalized"`
	FirstName             string                  `json:"first_name,omitempty"`
	LastName              string                  `json:"last_name,omitempty"`
	Email                 string                  `json:"email,omitempty"`
	StatusText            string                  `json:"status_text,omitempty"`
	StatusEmoji           string                  `json:"status_emoji,omitempty"`
	StatusExpiration      int64                   `json:"status_expiration,omitempty"`
	AvatarHash            string                  `json:"avatar_hash"`
	BotID                 BotID                   `json:"bot_id,omitempty"`
	Fields                map[string]ProfileField `json:"fields,omitempty"`
	Team                  WorkspaceID             `json:"team,omitempty"` // where it is not the user's team_id
}

// ProfileField is a custom field of a profile.
type ProfileField struct {
	Value string `json:"value"`
	Alt   string `json:"alt"`
}

// Guest reports whether the user sees only the channels they are in.
func (u *User) Guest() bool { return u.IsRestricted || u.IsUltraRestricted }

// Role returns the user's role in their workspace.
func (u *User) Role() Role {
	switch {
	case u.IsBot:
		return RoleBot
	case u.Guest():
		return RoleGuest
	case u.IsAdmin || u.IsOwner || u.IsPrimaryOwner:
		return RoleAdmin
	default:
		return RoleMember
	}
}

// Object implements Shape. Users are covered by their workspace's topic.
func (u *User) Object() Object {
	return Object{
		ID: ObjectID(u.ID), Kind: KindUser, Version: u.Updated, Owner: u.TeamID, Topic: Topic(u.TeamID),
		Visibility: Visibility{Workspaces: []WorkspaceID{u.TeamID}, Sharing: true}, Body: MustMarshal(u),
	}
}

// Entry implements Shape.
func (u *User) Entry() ListEntry {
	sort := u.Profile.DisplayName
	if sort == "" {
		sort = u.RealName
	}
	if sort == "" {
		sort = u.Name
	}
	return ListEntry{
		ID: ObjectID(u.ID), Version: u.Updated, SortName: FoldName(sort), Name: u.Name, RealName: u.RealName,
		DisplayName: u.Profile.DisplayName, Email: u.Profile.Email, Deleted: u.Deleted, Guest: u.Guest(),
		Bot: u.IsBot, App: u.IsAppUser,
	}
}

// Channel is the body of a conversation of any type. What depends on the viewer (is_member, last_read, the other user
// of a DM) is not in it but in ChannelViewer.
type Channel struct {
	ID             ChannelID     `json:"id"`
	Name           string        `json:"name,omitempty"` // absent in DMs
	NameNormalized string        `json:"name_normalized,omitempty"`
	Created        int64         `json:"created"` // seconds
	Creator        UserID        `json:"creator,omitempty"`
	Updated        Version       `json:"updated"` // milliseconds, strictly rising
	ContextTeamID  WorkspaceID   `json:"context_team_id"`
	IsChannel      bool          `json:"is_channel"`
	IsGroup        bool          `json:"is_group"`
	IsIM           bool          `json:"is_im"`
	IsMPIM         bool          `json:"is_mpim"`
	IsPrivate      bool          `json:"is_private"`
	IsArchived     bool          `json:"is_archived"`
	IsGeneral      bool          `json:"is_general"`
	IsShared       bool          `json:"is_shared"`
	IsOrgShared    bool          `json:"is_org_shared"`
	IsExtShared    bool          `json:"is_ext_shared"`
	IsFrozen       bool          `json:"is_frozen"`
	Unlinked       int           `json:"unlinked"`
	Topic          Purpose       `json:"topic"`
	Purpose        Purpose       `json:"purpose"`
	PreviousNames  []string      `json:"previous_names,omitempty"`
	SharedTeamIDs  []WorkspaceID `json:"shared_team_ids,omitempty"` // owner included, shared channels only
	Members        []UserID      `json:"members,omitempty"`         // DMs and group DMs only, where it never changes
}

// Purpose is a channel's topic or purpose.
type Purpose struct {
	Value   string `json:"value"`
	Creator UserID `json:"creator"`
	LastSet int64  `json:"last_set"`
}

// Type returns the dialect's name for the conversation's type.
func (c *Channel) Type() ChannelType {
	switch {
	case c.IsIM:
		return TypeDM
	case c.IsMPIM:
		return TypeGroupDM
	case c.IsPrivate:
		return TypePrivate
	default:
		return TypePublic
	}
}

// Object implements Shape. A channel is covered by its workspace's topic, unless it is shared: then by its own. Direct
// messages and private channels are covered by their own topic too, so that nobody else's node hears of them.
func (c *Channel) Object() Object {
	o := Object{
		ID: ObjectID(c.ID), Kind: KindChannel, Version: c.Updated, Owner: c.ContextTeamID, Topic: Topic(c.ID),
		Visibility: Visibility{Channel: c.ID}, Body: c.body(),
	}
	if c.Type() == TypePublic {
		o.Visibility.Workspaces = []WorkspaceID{c.ContextTeamID}
		if c.IsShared {
			o.Visibility.Workspaces = c.SharedTeamIDs
		} else {
			o.Topic = Topic(c.ContextTeamID)
		}
	}
	return o
}

// body encodes the channel. Of what a DM cannot be or have (shared, frozen, a name, a creator) directMessage has only
// what clients insist on.
func (c *Channel) body() []byte {
	if !c.IsIM {
		return MustMarshal(c)
	}
	return MustMarshal(directMessage{
		ID: c.ID, Created: c.Created, Updated: c.Updated, ContextTeamID: c.ContextTeamID, IsIM: true, IsPrivate: true, IsArchived: c.IsArchived,
		IsOrgShared: c.IsOrgShared, Topic: c.Topic, Purpose: c.Purpose, Members: c.Members,
	})
}

type directMessage struct {
	ID            ChannelID   `json:"id"`
	Created       int64       `json:"created"`
	Updated       Version     `json:"updated"`
	ContextTeamID WorkspaceID `json:"context_team_id"`
	IsChannel     bool        `json:"is_channel"`
	IsGroup       bool        `json:"is_group"`
	IsIM          bool        `json:"is_im"`
	IsMPIM        bool        `json:"is_mpim"`
	IsPrivate     bool        `json:"is_private"`
	IsArchived    bool        `json:"is_archived"`
	IsGeneral     bool        `json:"is_general"`
	IsOrgShared   bool        `json:"is_org_shared"`
	NameNormal    string      `json:"name_normalized"` // always empty, always there
	Topic         Purpose     `json:"topic"`
	Purpose       Purpose     `json:"purpose"`
	Members       []UserID    `json:"members,omitempty"`
}

// Entry implements Shape. NumMembers is left to the store.
func (c *Channel) Entry() ListEntry {
	return ListEntry{ID: ObjectID(c.ID), Version: c.Updated, SortName: FoldName(c.Name), Name: c.Name, Deleted: c.IsArchived}
}

// ChannelViewer is what a channel object says about the one who looks; AppendFields adds it to the body. The edge and
// the backend both answer with it, so that nobody can tell them apart.
type ChannelViewer struct {
	User       UserID `json:"user,omitempty"` // the other one of a DM
	IsMember   bool   `json:"is_member"`
	IsOpen     *bool  `json:"is_open,omitempty"`   // DMs and group DMs
	LastRead   TS     `json:"last_read,omitempty"` // members only
	NumMembers *int   `json:"num_members,omitempty"`
}

// ViewChannel returns what the channel says to a member with membership m; nil to somebody who is not in it.
func ViewChannel(m *Membership) ChannelViewer {
	if m == nil {
		return ChannelViewer{}
	}
	v := ChannelViewer{User: m.Peer, IsMember: true, LastRead: m.LastRead.OrZero()}
	if m.Type == TypeDM || m.Type == TypeGroupDM {
		open := m.Open
		v.IsOpen = &open
	}
	return v
}

// AppendViewer appends the body with the viewer's fields added.
func (v ChannelViewer) AppendViewer(dst, body []byte) []byte {
	return AppendFields(dst, body, MustMarshal(v))
}

// StrangerFields is added to a user who belongs to none of the viewer's workspaces.
var StrangerFields = []byte(`{"is_stranger":true}`)

// Bot is the body of a bot.
type Bot struct {
	ID      BotID       `json:"id"`
	TeamID  WorkspaceID `json:"team_id"`
	Deleted bool        `json:"deleted"`
	Name    string      `json:"name"`
	Updated Version     `json:"updated"` // seconds
	AppID   string      `json:"app_id"`
	UserID  UserID      `json:"user_id,omitempty"`
	Icons   *BotIcons   `json:"icons,omitempty"`
}

// BotIcons holds the addresses of a bot's picture.
type BotIcons struct {
	Image36 string `json:"image_36"`
	Image48 string `json:"image_48"`
	Image72 string `json:"image_72"`
}

// Object implements Shape.
func (b *Bot) Object() Object {
	return Object{
		ID: ObjectID(b.ID), Kind: KindBot, Version: b.Updated, Owner: b.TeamID, Topic: Topic(b.TeamID),
		Visibility: Visibility{Workspaces: []WorkspaceID{b.TeamID}, Sharing: true}, Body: MustMarshal(b),
	}
}

// Entry implements Shape.
func (b *Bot) Entry() ListEntry {
	return ListEntry{ID: ObjectID(b.ID), Version: b.Updated, SortName: FoldName(b.Name), Name: b.Name, Deleted: b.Deleted, Bot: true}
}

// Emoji is the body of a custom emoji. Value is an address or "alias:other".
type Emoji struct {
	Workspace WorkspaceID `json:"-"`
	Name      string      `json:"name"`
	Value     string      `json:"value"`
	Updated   Version     `json:"updated"` // seconds
	Creator   UserID      `json:"user_id,omitempty"`
}

// Object implements Shape.
func (e *Emoji) Object() Object {
	return Object{
		ID: EmojiID(e.Workspace, e.Name), Kind: KindEmoji, Version: e.Updated, Owner: e.Workspace, Topic: Topic(e.Workspace),
		Visibility: Visibility{Workspaces: []WorkspaceID{e.Workspace}}, Body: MustMarshal(e),
	}
}

// Entry implements Shape.
func (e *Emoji) Entry() ListEntry {
	return ListEntry{ID: EmojiID(e.Workspace, e.Name), Version: e.Updated, SortName: strings.ToLower(e.Name), Name: e.Name}
}

// Usergroup is the body of a usergroup. Users are in it, because clients show them together.
type Usergroup struct {
	ID          ObjectID       `json:"id"`
	TeamID      WorkspaceID    `json:"team_id"`
	IsUsergroup bool           `json:"is_usergroup"`
	Name        string         `json:"name"`
	Handle      string         `json:"handle"`
	Description string         `json:"description"`
	IsExternal  bool           `json:"is_external"`
	DateCreate  int64          `json:"date_create"`
	DateUpdate  Version        `json:"date_update"` // seconds
	DateDelete  int64          `json:"date_delete"`
	CreatedBy   UserID         `json:"created_by"`
	UpdatedBy   UserID         `json:"updated_by"`
	Prefs       UsergroupPrefs `json:"prefs"`
	Users       []UserID       `json:"users"`
	UserCount   int            `json:"user_count"`
}

// UsergroupPrefs names the channels that members of a usergroup are put in.
type UsergroupPrefs struct {
	Channels []ChannelID `json:"channels"`
	Groups   []ChannelID `json:"groups"`
}

// Object implements Shape.
func (g *Usergroup) Object() Object {
	return Object{
		ID: g.ID, Kind: KindUsergroup, Version: g.DateUpdate, Owner: g.TeamID, Topic: Topic(g.TeamID),
		Visibility: Visibility{Workspaces: []WorkspaceID{g.TeamID}}, Body: MustMarshal(g),
	}
}

// Entry implements Shape.
func (g *Usergroup) Entry() ListEntry {
	return ListEntry{ID: g.ID, Version: g.DateUpdate, SortName: FoldName(g.Name), Name: g.Handle, Deleted: g.DateDelete != 0}
}

// Workspace is the body of a workspace, the dialect's "team".
type Workspace struct {
	ID             WorkspaceID       `json:"id"`
	Name           string            `json:"name"`
	Domain         string            `json:"domain"`
	EmailDomain    string            `json:"email_domain"`
	Icon           map[string]string `json:"icon"`
	AvatarBaseURL  string            `json:"avatar_base_url"`
	EnterpriseID   EnterpriseID      `json:"enterprise_id,omitempty"`
	EnterpriseName string            `json:"enterprise_name,omitempty"`
	Plan           string            `json:"plan"`
	DateCreated    int64             `json:"date_created"`
	Updated        Version           `json:"updated"` // seconds
}

// Object implements Shape.
func (w *Workspace) Object() Object {
	return Object{
		ID: ObjectID(w.ID), Kind: KindWorkspace, Version: w.Updated, Owner: w.ID, Topic: Topic(w.ID),
		Visibility: Visibility{Workspaces: []WorkspaceID{w.ID}, Sharing: true}, Body: MustMarshal(w),
	}
}

// Entry implements Shape.
func (w *Workspace) Entry() ListEntry {
	return ListEntry{ID: ObjectID(w.ID), Version: w.Updated, SortName: FoldName(w.Name), Name: w.Domain}
}
