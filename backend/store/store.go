// Package store is the contract for where the reference backend keeps everything: objects, memberships, messages,
// preferences, revoked tokens, and the log of events (the outbox). An implementation lives in a folder of its own
// (sqlite) and passes the suite in storetest. Nothing outside an implementation's folder knows its SQL.
//
// All reads of one View and all reads and writes of one Update are one transaction. Updates are serial: the commit
// order is the order of positions. What Update returned without an error is on disk.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"flannel/protocol"
)

// Errors of the contract. Implementations wrap them.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists: the row is there already (a member, a reaction, a pin, a name).
	ErrExists = errors.New("already exists")
)

// Store is safe for concurrent use.
type Store interface {
	// View runs fn on one snapshot. fn must not keep r.
	View(ctx context.Context, fn func(r Reader) error) error
	// Update runs fn in one transaction and commits it if fn returns nil. It returns the position that the commit
	// produced, or the current one if fn emitted nothing. It calls OnCommit before it returns.
	Update(ctx context.Context, fn func(tx Tx) error) (protocol.Position, error)
	// Load runs fn in one large transaction for generate and import: Emit is refused, indexes may be built at the end.
	// No server may run on the store meanwhile.
	Load(ctx context.Context, fn func(tx Tx) error) error
	// OnCommit registers the one function that is told of every commit that emitted events, in commit order, with no
	// gap, from the commit's goroutine. It must not block. Register before the first Update.
	OnCommit(fn func(position protocol.Position, events []*protocol.Event))
	// Prune forgets events that are older than before, but never the newest of a topic's seq counters.
	Prune(ctx context.Context, before time.Time) error
	// Close waits for running transactions.
	Close() error
}

// Reader reads one snapshot. Every method may return an error of the database; ErrNotFound is said where it matters.
type Reader interface {
	// Position is the snapshot's place in the log.
	Position() (protocol.Position, error)

	// Objects

	// Object returns one object; ErrNotFound if it never was or has a tombstone.
	Object(id protocol.ObjectID) (protocol.Object, error)
	// Objects returns those of ids that exist, in any order, and the rest.
	Objects(ids []protocol.ObjectID) (found []protocol.Object, missing []protocol.ObjectID, err error)
	// EachObject calls fn for every object of kind owned by workspace, in id order, streaming. For channels: every type.
	EachObject(workspace protocol.WorkspaceID, kind protocol.Kind, fn func(o *protocol.Object) error) error
	// List returns a page of list entries; Position is left to the caller. Channels: public ones (shared in ones too).
	// With a query, those that it matches (protocol.ListEntry.Matches).
	List(req protocol.ListRequest) (entries []protocol.ListEntry, next string, err error)
	// Workspaces lists all workspaces in id order.
	Workspaces() ([]protocol.Workspace, error)
	// UserByName and UserByEmail find a user of workspace, deactivated ones too; ErrNotFound.
	UserByName(workspace protocol.WorkspaceID, name string) (protocol.UserID, error)
	UserByEmail(workspace protocol.WorkspaceID, email string) (protocol.UserID, error)
	// ChannelByName finds a public or private channel, archived ones too; ErrNotFound.
	ChannelByName(workspace protocol.WorkspaceID, name string) (protocol.ChannelID, error)
	// Conversation finds the DM or group DM of exactly these users; ErrNotFound.
	Conversation(users []protocol.UserID) (protocol.ChannelID, error)

	// Memberships

	// Memberships returns all channels of a user in channel id order, complete (type, peer, latest, mention count).
	Memberships(user protocol.UserID) ([]protocol.Membership, error)
	// Membership returns one; ErrNotFound if the user is not in the channel.
	Membership(channel protocol.ChannelID, user protocol.UserID) (protocol.Membership, error)
	// Members returns a page of user ids in id order, the id to go on after, and the number of all members.
	Members(channel protocol.ChannelID, after protocol.UserID, limit int) (users []protocol.UserID, next protocol.UserID, total int, err error)
	// EachMembership calls fn for every membership in channels owned by workspace, by channel id then user id, streaming.
	EachMembership(workspace protocol.WorkspaceID, fn func(channel protocol.ChannelID, user protocol.UserID) error) error
	// NumMembers counts the members of channels.
	NumMembers(channels []protocol.ChannelID) (map[protocol.ChannelID]int, error)
	// ShareChannel reports whether the two users are in a channel together.
	ShareChannel(a, b protocol.UserID) (bool, error)

	// Messages

	// Message returns one, replies too, with reactions; ErrNotFound.
	Message(channel protocol.ChannelID, ts protocol.TS) (protocol.Message, error)
	// MessageByKey finds the message that user sent to channel with an idempotency key or client_msg_id; ErrNotFound.
	MessageByKey(channel protocol.ChannelID, user protocol.UserID, key string) (protocol.Message, error)
	// History returns messages of the channel, newest first, without replies that were not broadcast.
	History(q HistoryQuery) (messages []protocol.Message, more bool, err error)
	// Replies returns the thread's parent and replies, oldest first.
	Replies(thread protocol.TS, q HistoryQuery) (messages []protocol.Message, more bool, err error)
	// Latest returns the newest message that History would show, "" if there is none.
	Latest(channel protocol.ChannelID) (protocol.TS, error)
	// UnreadMentions counts the mentions of user in channel after ts, by the rule of protocol.OpMessageAdded.
	UnreadMentions(channel protocol.ChannelID, user protocol.UserID, after protocol.TS) (int, error)
	// MentionsOf returns who a message mentions.
	MentionsOf(channel protocol.ChannelID, ts protocol.TS) (Mentions, error)
	// Pins lists the pinned messages of a channel, newest pin first.
	Pins(channel protocol.ChannelID) ([]protocol.Message, error)

	// Users' own things

	// Prefs returns the user's preferences as one JSON object, {} if there are none.
	Prefs(user protocol.UserID) (json.RawMessage, error)
	// ManualAway reports whether the user set themself away.
	ManualAway(user protocol.UserID) (bool, error)
	// Usergroups lists the usergroups that the user is in.
	Usergroups(user protocol.UserID) ([]protocol.ObjectID, error)
	// Revoked reports whether a token of user with this id, issued at this time (Unix seconds), is revoked.
	Revoked(token string, user protocol.UserID, issued int64) (bool, error)

	// The log

	// Head returns the last seq and position of a topic; zeros if it never had an event.
	Head(topic protocol.Topic) (protocol.Seq, protocol.Position, error)
	// Events returns up to limit events after a position in log order, always whole commits.
	Events(after protocol.Position, limit int) ([]*protocol.Event, error)
	// TopicEvents returns up to limit events of a topic after a seq.
	TopicEvents(topic protocol.Topic, after protocol.Seq, limit int) ([]*protocol.Event, error)
	// ReplayFrom returns the position from which the log is whole: events after it have not been pruned.
	ReplayFrom() (protocol.Position, error)
}

// Tx is a Reader that writes. Reads see the writes.
type Tx interface {
	Reader

	// Put creates or replaces an object. The caller has raised its version (NextVersion). A name that another channel,
	// user, emoji or usergroup of the workspace has gives ErrExists.
	Put(s protocol.Shape) error
	// Bury leaves a tombstone with a version: the object is gone.
	Bury(id protocol.ObjectID, version protocol.Version) error
	// LastVersion returns the object's or tombstone's version, 0 if there never was one.
	LastVersion(id protocol.ObjectID) (protocol.Version, error)

	// AddMember puts a user in a channel; ErrExists. DMs get Open and Peer from m.
	AddMember(user protocol.UserID, m protocol.Membership) error
	// RemoveMember takes a user out; ErrNotFound.
	RemoveMember(channel protocol.ChannelID, user protocol.UserID) error
	// SetRead moves the marker and sets the mention count; ErrNotFound.
	SetRead(channel protocol.ChannelID, user protocol.UserID, ts protocol.TS, mentions int) error
	// SetOpen shows or hides a DM in the user's list; ErrNotFound.
	SetOpen(channel protocol.ChannelID, user protocol.UserID, open bool) error

	// NextTS returns the timestamp for a new message: now, or just above the channel's last one ever.
	NextTS(channel protocol.ChannelID, now time.Time) (protocol.TS, error)
	// InsertMessage writes a message with key ("" for none) and its mentions, and moves counts and the author's marker
	// by the rule of protocol.OpMessageAdded, unless it is a reply that was not broadcast.
	InsertMessage(m *protocol.Message, key string, mentions Mentions) error
	// UpdateMessage replaces the body of a message, keeping reactions; ErrNotFound.
	UpdateMessage(m *protocol.Message) error
	// DeleteMessage removes a message with its reactions and pins and undoes its mentions; ErrNotFound.
	DeleteMessage(channel protocol.ChannelID, ts protocol.TS) error
	// AddReaction and RemoveReaction; ErrExists, ErrNotFound.
	AddReaction(channel protocol.ChannelID, ts protocol.TS, user protocol.UserID, name string) error
	RemoveReaction(channel protocol.ChannelID, ts protocol.TS, user protocol.UserID, name string) error
	// AddPin and RemovePin; ErrExists, ErrNotFound.
	AddPin(channel protocol.ChannelID, ts protocol.TS, user protocol.UserID, at time.Time) error
	RemovePin(channel protocol.ChannelID, ts protocol.TS) error

	// SetPref sets one preference to a JSON value.
	SetPref(user protocol.UserID, name string, value json.RawMessage) error
	// SetManualAway stores the user's own choice.
	SetManualAway(user protocol.UserID, away bool) error
	// Revoke kills one token (by id), or all tokens of the user issued up to at if token is "".
	Revoke(token string, user protocol.UserID, at time.Time) error

	// Emit appends an event to the log: it sets Seq and Position. Ephemeral events are refused.
	Emit(e *protocol.Event) error
}

// HistoryQuery selects messages of a channel.
type HistoryQuery struct {
	Channel   protocol.ChannelID
	Oldest    protocol.TS // "" for no bound
	Latest    protocol.TS // "" for no bound
	Inclusive bool        // the bounds themselves too
	Limit     int
}

// Mentions says whom a message mentions.
type Mentions struct {
	Users    []protocol.UserID
	Everyone bool
}

// NextVersion returns the version after prev: the time in its unit, but at least one more than prev.
func NextVersion(prev protocol.Version, now time.Time, unit time.Duration) protocol.Version {
	return max(prev+1, protocol.Version(now.UnixNano()/int64(unit)))
}
