package protocol

import "encoding/json"

// The names of the upstream contract between an edge and any backend. Loads are POST with JSON to UpstreamPath + name,
// authenticated by "Authorization: Bearer <service key>". Every load is read in one transaction and answers as of one
// position. AtLeast asks for an answer at that position or later: a backend that cannot reach it within a second
// answers 503 with code CodeBehind. A load that fails answers with a status that is not 200 and an ErrorAnswer.
const (
	UpstreamVersion = 1
	// UpstreamPath is the prefix of every upstream address: /upstream/v1/identify, ….
	UpstreamPath = "/upstream/v1/"

	CallIdentify = "identify"
	CallBoot     = "boot"
	CallObjects  = "objects"
	CallMembers  = "members"
	CallList     = "list"
	CallReplay   = "replay"
	// CallForward is followed by the method's name: /upstream/v1/forward/chat.postMessage.
	CallForward = "forward"
	// CallStream is the websocket.
	CallStream = "stream"
)

// Calls lists the calls of the contract, for closed label sets.
var Calls = []string{CallIdentify, CallBoot, CallObjects, CallMembers, CallList, CallReplay, CallForward, CallStream}

// Headers of a forwarded request and its answer. The body, the query and the content type are the client's, verbatim.
const (
	// HeaderToken carries the client's token on a forwarded request; the body is passed on untouched.
	HeaderToken = "X-Flannel-Token"
	// HeaderIdempotencyKey makes a forwarded write safe to send again.
	HeaderIdempotencyKey = "X-Flannel-Idempotency-Key"
	// HeaderPosition carries the position that a write produced, or the position that a read was answered at.
	HeaderPosition = "X-Flannel-Position"
	// HeaderStale is set by the edge on an answer that may be older than the staleness bound; the value is its age in
	// seconds.
	HeaderStale = "X-Flannel-Stale"
)

// Limits of the contract.
const (
	MaxIdentifyTokens = 500
	MaxBootUsers      = 500
	MaxObjectIDs      = 1000
	MaxMembersLimit   = 10000
	MaxListLimit      = 1000
	MaxReplayTopics   = 1000
	MaxReplayEvents   = 10000
	MaxStreamTopics   = 1000 // topics in one subscribe or unsubscribe frame
)

// IdentifyRequest asks who the bearers of tokens are.
type IdentifyRequest struct {
	Tokens []string `json:"tokens"`
}

// IdentifyAnswer has one identity per token, in order. Position: later revocations arrive on the user topics.
type IdentifyAnswer struct {
	Identities []Identity `json:"identities"`
	Position   Position   `json:"position"`
}

// Identity is what a token stands for. Error is one of the dialect's names (invalid_auth, token_revoked,
// token_expired, account_inactive) and leaves the rest empty.
type Identity struct {
	Error Code `json:"error,omitempty"`
	// Token identifies the token in OpRevoked without being it.
	Token     string      `json:"token,omitempty"`
	User      UserID      `json:"user,omitempty"`
	UserName  string      `json:"user_name,omitempty"`
	Bot       BotID       `json:"bot,omitempty"`
	Workspace WorkspaceID `json:"workspace,omitempty"`
	// Workspaces lists all workspaces of the user in the enterprise, Workspace included.
	Workspaces []WorkspaceID `json:"workspaces,omitempty"`
	Enterprise EnterpriseID  `json:"enterprise,omitempty"`
	Role       Role          `json:"role,omitempty"`
	// Expires is a Unix time in seconds, 0 for never.
	Expires int64 `json:"expires,omitempty"`
}

// BootRequest asks for the private state of users.
type BootRequest struct {
	Users   []UserID `json:"users"`
	AtLeast Position `json:"at_least,omitempty"`
}

// BootAnswer has one entry per user, in order, all as of Position, which holds for every channel that is listed.
type BootAnswer struct {
	Users    []UserBoot `json:"users"`
	Position Position   `json:"position"`
}

// UserBoot is what is private to one user. Error (user_not_found, account_inactive) leaves the rest empty.
type UserBoot struct {
	Error       Code            `json:"error,omitempty"`
	User        UserID          `json:"user"`
	Workspace   WorkspaceID     `json:"workspace,omitempty"`
	Role        Role            `json:"role,omitempty"`
	Self        *Object         `json:"self,omitempty"`
	Prefs       json.RawMessage `json:"prefs,omitempty"`
	Memberships []Membership    `json:"memberships,omitempty"`
	// Usergroups that the user is in.
	Usergroups []ObjectID `json:"usergroups,omitempty"`
}

// ChannelType is one of the dialect's four conversation types.
type ChannelType string

// The conversation types.
const (
	TypePublic  ChannelType = "public_channel"
	TypePrivate ChannelType = "private_channel"
	TypeGroupDM ChannelType = "mpim"
	TypeDM      ChannelType = "im"
)

// ChannelTypes lists the conversation types.
var ChannelTypes = []ChannelType{TypePublic, TypePrivate, TypeGroupDM, TypeDM}

// Membership is one user's place in one channel.
type Membership struct {
	Channel ChannelID   `json:"channel"`
	Owner   WorkspaceID `json:"owner"`
	Type    ChannelType `json:"type"`
	// Peer is the other user of a direct message.
	Peer UserID `json:"peer,omitempty"`
	// Updated is the version of the channel object, so that a boot can name it without its body.
	Updated      Version `json:"updated"`
	Archived     bool    `json:"archived,omitempty"`
	Open         bool    `json:"open,omitempty"`
	LastRead     TS      `json:"last_read,omitempty"`
	Latest       TS      `json:"latest,omitempty"`
	MentionCount int     `json:"mention_count,omitempty"`
}

// ObjectsRequest asks for objects by id. Workspace is the one that asks; it matters only for errors and metrics.
type ObjectsRequest struct {
	Workspace WorkspaceID `json:"workspace"`
	IDs       []ObjectID  `json:"ids"`
	AtLeast   Position    `json:"at_least,omitempty"`
}

// ObjectsAnswer has each requested id once, in Objects or in Missing.
type ObjectsAnswer struct {
	Objects  []Object   `json:"objects"`
	Missing  []ObjectID `json:"missing,omitempty"`
	Position Position   `json:"position"`
}

// MembersRequest asks for a page of a channel's members in id order. Cursor is the last id of the previous page.
type MembersRequest struct {
	Channel ChannelID `json:"channel"`
	Cursor  UserID    `json:"cursor,omitempty"`
	Limit   int       `json:"limit"`
	AtLeast Position  `json:"at_least,omitempty"`
}

// MembersAnswer is one page; NextCursor is empty on the last. Total counts all members. Pages of one channel may
// stand at different positions: a set is whole as of the first page's position once the events since are applied.
type MembersAnswer struct {
	Users      []UserID `json:"users"`
	NextCursor UserID   `json:"next_cursor,omitempty"`
	Total      int      `json:"total"`
	Position   Position `json:"position"`
}

// ListOrder is the order of a list.
type ListOrder string

// The orders.
const (
	// ByID orders by id, as bytes.
	ByID ListOrder = "id"
	// ByName orders by SortName, then id, as bytes.
	ByName ListOrder = "name"
)

// ListRequest asks for a page of a workspace's objects of one kind. Channels: public ones only, archived included.
// Users: all, deactivated and bots included. After is the Cursor of the last entry of the previous page.
type ListRequest struct {
	Workspace WorkspaceID `json:"workspace"`
	Kind      Kind        `json:"kind"`
	Order     ListOrder   `json:"order"`
	// Query leaves only the entries of which each word of it begins a word (ListEntry.Matches), if it is not empty. A
	// query without words matches everything.
	Query   string   `json:"query,omitempty"`
	Cursor  string   `json:"cursor,omitempty"`
	Limit   int      `json:"limit"`
	AtLeast Position `json:"at_least,omitempty"`
}

// ListAnswer is one page; NextCursor is empty on the last.
type ListAnswer struct {
	Entries    []ListEntry `json:"entries"`
	NextCursor string      `json:"next_cursor,omitempty"`
	Position   Position    `json:"position"`
}

// ListEntry names an object and carries the fields that lists filter by and searches match.
type ListEntry struct {
	ID      ObjectID `json:"id"`
	Version Version  `json:"version"`
	// SortName is the display name (or real name, or handle; for channels the name), folded by FoldName.
	SortName    string `json:"sort_name"`
	Name        string `json:"name"`
	RealName    string `json:"real_name,omitempty"`
	DisplayName string `json:"display_name,omitempty"`
	Email       string `json:"email,omitempty"`
	Deleted     bool   `json:"deleted,omitempty"` // deactivated user, archived channel
	Guest       bool   `json:"guest,omitempty"`
	Bot         bool   `json:"bot,omitempty"`
	App         bool   `json:"app,omitempty"`
	NumMembers  int    `json:"num_members,omitempty"`
}

// ReplayRequest asks for the events of topics above a position each (TopicState.Position, which must be set), for
// sessions that were elsewhere meanwhile. At most Limit events (MaxReplayEvents if 0).
type ReplayRequest struct {
	Topics  []TopicState `json:"topics"`
	Limit   int          `json:"limit,omitempty"`
	AtLeast Position     `json:"at_least,omitempty"`
}

// ReplayAnswer has, of every topic that is not in Gone, all events above its position and up to Position, in order of
// position, and in seq order per topic. Gone lists the topics whose replay does not reach back that far, or that had to
// be left out because of the limit; none of their events is in Events.
type ReplayAnswer struct {
	Events   []*Event `json:"events"`
	Gone     []Topic  `json:"gone,omitempty"`
	Position Position `json:"position"`
}

// ErrorAnswer is the body of an upstream answer whose status is not 200.
type ErrorAnswer struct {
	Error   Code   `json:"error"`
	Message string `json:"message,omitempty"`
	// RetryAfter in seconds; 0 if the caller may choose.
	RetryAfter int `json:"retry_after,omitempty"`
}
