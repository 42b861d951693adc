package protocol

import "encoding/json"

// Class decides what may happen to an event under pressure.
type Class string

// The classes of events.
const (
	// ClassControl events are never dropped (membership, read markers, revocation, object changes).
	ClassControl Class = "control"
	// ClassMessage events are never dropped silently: on overflow the session is told to resync, then closed.
	ClassMessage Class = "message"
	// ClassEphemeral events (typing, presence) carry no seq and no position and may be coalesced or dropped.
	ClassEphemeral Class = "ephemeral"
)

// Event is one change on one topic. Events are immutable once published.
type Event struct {
	Topic    Topic    `json:"topic"`
	Seq      Seq      `json:"seq,omitempty"`
	Position Position `json:"position,omitempty"`
	// Type is the client-facing event type ("message", "user_change", …), the same as in Payload.
	Type  string `json:"type"`
	Class Class  `json:"class"`
	// Refs names the objects that a receiver needs in order to show the event, the workspace's first.
	Refs []ObjectID `json:"refs,omitempty"`
	// Effects says what the cache does, in order, before anybody hears of the event.
	Effects []Effect `json:"effects,omitempty"`
	// Except names one user whose sessions do not receive the payload (a typist does not see themself type).
	Except UserID `json:"except,omitempty"`
	// Payload is the client-facing JSON, encoded once and forwarded byte for byte. An event without payload is for the
	// cache only.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Op is what an effect does.
type Op string

// The effects, each with the fields that it uses and the topic that carries it.
const (
	// OpUpsert replaces an object: Object. On the object's covering topic.
	OpUpsert Op = "upsert"
	// OpTombstone says that an object is gone: ID, Version (newer than any version it had). On the covering topic.
	OpTombstone Op = "tombstone"
	// OpMemberAdded: User is in Channel from here on. On the channel topic, and with Membership on the user topic.
	OpMemberAdded Op = "member_added"
	// OpMemberRemoved: User is not in Channel any more. On the channel topic and on the user topic.
	OpMemberRemoved Op = "member_removed"
	// OpRead: the user's marker in Channel stands at TS and MentionCount mentions are unread. On the user topic.
	OpRead Op = "read"
	// OpOpen: the conversation Channel is shown (Open) or hidden in the user's list. On the user topic.
	OpOpen Op = "open"
	// OpMessageAdded: a message by User with timestamp TS stands in Channel; Latest is now the channel's newest. It
	// counts as a mention for Mentions, and for every member but the author if Everyone. The author's own marker moves
	// to TS and their mention count to 0. On the channel topic.
	OpMessageAdded Op = "message_added"
	// OpMessageRemoved undoes OpMessageAdded: the same fields; members whose marker stands before TS lose the mention.
	OpMessageRemoved Op = "message_removed"
	// OpPref: the user's preference Name has the JSON value Value. On the user topic.
	OpPref Op = "pref"
	// OpRevoked: the token whose id is Token is dead, or every token of User if Token is empty. On the user topic.
	OpRevoked Op = "revoked"
)

// Ops lists every effect.
var Ops = []Op{OpUpsert, OpTombstone, OpMemberAdded, OpMemberRemoved, OpRead, OpOpen, OpMessageAdded, OpMessageRemoved, OpPref, OpRevoked}

// Effect is one thing that an event does to the cache. Which fields are set depends on Op.
type Effect struct {
	Op           Op              `json:"op"`
	Object       *Object         `json:"object,omitempty"`
	ID           ObjectID        `json:"id,omitempty"`
	Version      Version         `json:"version,omitempty"`
	Channel      ChannelID       `json:"channel,omitempty"`
	User         UserID          `json:"user,omitempty"`
	Membership   *Membership     `json:"membership,omitempty"`
	TS           TS              `json:"ts,omitempty"`
	Latest       TS              `json:"latest,omitempty"`
	Mentions     []UserID        `json:"mentions,omitempty"`
	Everyone     bool            `json:"everyone,omitempty"`
	MentionCount int             `json:"mention_count,omitempty"`
	Open         bool            `json:"open,omitempty"`
	Name         string          `json:"name,omitempty"`
	Value        json.RawMessage `json:"value,omitempty"`
	Token        string          `json:"token,omitempty"`
}

// TS is a message timestamp: 10 digits, a dot, 6 digits; unique and rising within a channel, so it is also the
// message's id, and it sorts as a string. The zero value "" means no message; on the wire to clients it is written as
// ZeroTS.
type TS string

// ZeroTS is what clients are told where there is no message.
const ZeroTS TS = "0000000000.000000"

// OrZero returns ts, or ZeroTS if there is none.
func (ts TS) OrZero() TS {
	if ts == "" {
		return ZeroTS
	}
	return ts
}

// Valid reports whether ts has the form of a timestamp.
func (ts TS) Valid() bool {
	if len(ts) != 17 || ts[10] != '.' {
		return false
	}
	for i := range len(ts) {
		if i != 10 && (ts[i] < '0' || ts[i] > '9') {
			return false
		}
	}
	return true
}
