package protocol

import "encoding/json"

// Kind is the kind of an object.
type Kind string

// The kinds of objects.
const (
	KindUser      Kind = "user"
	KindChannel   Kind = "channel"
	KindBot       Kind = "bot"
	KindEmoji     Kind = "emoji"
	KindUsergroup Kind = "usergroup"
	KindWorkspace Kind = "workspace"
)

// Kinds lists every kind, for closed label sets and tables.
var Kinds = []Kind{KindUser, KindChannel, KindBot, KindEmoji, KindUsergroup, KindWorkspace}

// Object is the envelope in which the backend hands over anything that clients may look up. Body is the client-facing
// JSON without anything that depends on who looks (see AppendFields), and is passed on byte for byte. Objects are
// immutable: nobody may change the bytes of Body.
type Object struct {
	ID      ObjectID `json:"id"`
	Kind    Kind     `json:"kind"`
	Version Version  `json:"version"`
	// Owner is the workspace that the object belongs to, which need not be the workspace of the one who looks.
	Owner WorkspaceID `json:"owner"`
	// Topic is the covering topic: the one whose events change this object. The object may be kept as fresh only while
	// that topic is followed.
	Topic      Topic           `json:"topic"`
	Visibility Visibility      `json:"visibility"`
	Body       json.RawMessage `json:"body"`
}

// Visibility tells who may see an object; any clause that holds is enough. The zero value hides it from everybody.
type Visibility struct {
	// Workspaces: full members (not guests) of any of these see the object.
	Workspaces []WorkspaceID `json:"workspaces,omitempty"`
	// Channel: members of this channel see the object (private channels, group DMs and DMs name themselves).
	Channel ChannelID `json:"channel,omitempty"`
	// Sharing: whoever is in a channel together with this user or bot sees it (guests, strangers in shared channels).
	Sharing bool `json:"sharing,omitempty"`
}

// Role is what a user may do in a workspace.
type Role string

// The roles.
const (
	RoleMember Role = "member"
	RoleAdmin  Role = "admin"
	RoleGuest  Role = "guest"
	RoleBot    Role = "bot"
)

// Full reports whether the role sees the workspace's public things without being in them.
func (r Role) Full() bool { return r == RoleMember || r == RoleAdmin || r == RoleBot }
