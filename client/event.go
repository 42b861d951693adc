package client

import (
	"encoding/json"
	"slices"

	"flannel/protocol"
)

// Event is one thing that happened. Switch on Data's type:
//
//	switch e := ev.Data.(type) {
//	case *client.Message:
//	case *client.Badge:
//	}
type Event struct {
	// Type is the name on the wire: "message", "reaction_added", …
	Type string
	// Topic and Seq are the event's place: Seq rises with every event of a topic. Zero for what has none (badges, typing,
	// presence): that is not replayed.
	Topic protocol.Topic
	Seq   protocol.Seq
	// Raw is the frame as it came. It is nobody's to change.
	Raw json.RawMessage
	// Data is a pointer to one of the types of this file; nil for types that have none here, and then there is Raw.
	Data any
}

// ephemeral reports whether the event is worth nothing later.
func (e *Event) ephemeral() bool {
	return e.Type == protocol.FrameUserTyping || e.Type == protocol.FramePresenceChange
}

// Message is a new message, or with Subtype "message_changed" or "message_deleted" what became of one.
type Message struct {
	protocol.Message
	// ChannelType is channel, group, mpim or im.
	ChannelType string
	// Changed is the message as it is now; Previous as it was. Of changed and deleted messages.
	Changed  *protocol.Message
	Previous *protocol.Message
	// DeletedTS names the message that is gone.
	DeletedTS protocol.TS
}

// UnmarshalJSON implements json.Unmarshaler: the embedded message has one of its own, which must not win.
func (m *Message) UnmarshalJSON(data []byte) error {
	var rest struct {
		ChannelType string            `json:"channel_type"`
		Changed     *protocol.Message `json:"message"`
		Previous    *protocol.Message `json:"previous_message"`
		DeletedTS   protocol.TS       `json:"deleted_ts"`
	}
	if err := json.Unmarshal(data, &rest); err != nil {
		return err
	}
	m.ChannelType, m.Changed, m.Previous, m.DeletedTS = rest.ChannelType, rest.Changed, rest.Previous, rest.DeletedTS
	return m.Message.UnmarshalJSON(data)
}

// Reaction is one that was added or removed, by Event.Type "reaction_added" or "reaction_removed".
type Reaction struct {
	User     protocol.UserID `json:"user"`
	Name     string          `json:"reaction"`
	ItemUser protocol.UserID `json:"item_user"`
	Item     struct {
		Channel protocol.ChannelID `json:"channel"`
		TS      protocol.TS        `json:"ts"`
	} `json:"item"`
}

// Typing says that a user types.
type Typing struct {
	Channel  protocol.ChannelID `json:"channel"`
	User     protocol.UserID    `json:"user"`
	ThreadTS protocol.TS        `json:"thread_ts"`
}

// Presence says that users of the watch list are active or away.
type Presence struct {
	Presence protocol.Presence
	Users    []protocol.UserID
}

// UnmarshalJSON implements json.Unmarshaler: the wire has one user or several.
func (p *Presence) UnmarshalJSON(data []byte) error {
	var c protocol.PresenceChange
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	p.Presence, p.Users = c.Presence, c.Users
	if c.User != "" {
		p.Users = append(p.Users, c.User)
	}
	return nil
}

// Badge is the state of a channel out of view that has moved: at most one for each channel and second.
type Badge = protocol.BadgeFrame

// Marked says that the user has read up to TS, perhaps with another client: Event.Type is channel_marked, group_marked,
// mpim_marked or im_marked.
type Marked struct {
	Channel      protocol.ChannelID `json:"channel"`
	TS           protocol.TS        `json:"ts"`
	UnreadCount  int                `json:"unread_count_display"`
	MentionCount int                `json:"mention_count"`
}

// Member says that a user is in a channel or is no longer, by Event.Type "member_joined_channel" or
// "member_left_channel".
type Member struct {
	Channel protocol.ChannelID `json:"channel"`
	User    protocol.UserID    `json:"user"`
	Inviter protocol.UserID    `json:"inviter"`
}

// ChannelChange says that a channel was created, renamed, archived or unarchived, or that the user joined or left it, by
// Event.Type. Of some of them only the id is told.
type ChannelChange struct {
	ID protocol.ChannelID
	// Channel is nil where only the id is told.
	Channel *protocol.Channel
}

// UnmarshalJSON implements json.Unmarshaler: the wire has an id or an object.
func (c *ChannelChange) UnmarshalJSON(data []byte) error {
	raw := protocol.Field(data, "channel")
	if len(raw) == 0 {
		return nil
	}
	if raw[0] == '"' {
		return json.Unmarshal(raw, &c.ID)
	}
	c.Channel = new(protocol.Channel)
	err := json.Unmarshal(raw, c.Channel)
	c.ID = c.Channel.ID
	return err
}

// UserChange carries the new state of a user. The lazy store has it already.
type UserChange struct {
	User protocol.User `json:"user"`
}

// UserInvalidated says that a user has changed who was not given lately. The lazy store asks again when somebody wants
// them.
type UserInvalidated = protocol.UserInvalidated

// PrefChange is a preference of the user with its new JSON value.
type PrefChange struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// EmojiChange says that a custom emoji came (Subtype "add": Name, Value) or that some went ("remove": Names).
type EmojiChange struct {
	Subtype string   `json:"subtype"`
	Name    string   `json:"name"`
	Value   string   `json:"value"`
	Names   []string `json:"names"`
}

// Resync says that events were lost: what the application shows of the topics in Refetch has to be fetched again. The
// lazy store does its part by itself. Events behind it are newer than it.
type Resync struct {
	// Refetch has topics (a channel's id: its history and members; the user's or a workspace's: Client.Refresh), or
	// protocol.RefetchAll.
	Refetch []string `json:"refetch"`
	// Reason is for logs.
	Reason string `json:"reason"`
}

// All reports whether everything has to be fetched again.
func (r *Resync) All() bool { return slices.Contains(r.Refetch, protocol.RefetchAll) }

// dataOf returns a new value of the type in which an event's data is told; nil if there is none.
func dataOf(name string) any {
	switch name {
	case protocol.FrameMessage:
		return new(Message)
	case "reaction_added", "reaction_removed":
		return new(Reaction)
	case protocol.FrameUserTyping:
		return new(Typing)
	case protocol.FramePresenceChange:
		return new(Presence)
	case protocol.FrameBadge:
		return new(Badge)
	case "channel_marked", "group_marked", "mpim_marked", "im_marked":
		return new(Marked)
	case "member_joined_channel", "member_left_channel":
		return new(Member)
	case "channel_created", "channel_rename", "channel_archive", "channel_unarchive", "channel_deleted", "channel_joined", "channel_left",
		"group_rename", "group_archive", "group_unarchive", "group_joined", "group_left", "group_deleted",
		"im_created", "im_open", "im_close", "mpim_joined", "mpim_open", "mpim_close":
		return new(ChannelChange)
	case "user_change":
		return new(UserChange)
	case protocol.FrameUserInvalidated:
		return new(UserInvalidated)
	case "pref_change":
		return new(PrefChange)
	case "emoji_changed":
		return new(EmojiChange)
	}
	return nil
}

// decode makes an event of a frame. Data of the wrong shape is no reason to lose an event: then there is only Raw.
func decode(f *frame) *Event {
	ev := &Event{Type: f.kind, Topic: f.topic, Seq: f.seq, Raw: f.raw}
	if data := dataOf(f.kind); data != nil && json.Unmarshal(f.raw, data) == nil {
		ev.Data = data
	}
	return ev
}

// resyncEvent tells the application what it has to fetch again.
func resyncEvent(refetch []string, reason string) *Event {
	r := &Resync{Refetch: refetch, Reason: reason}
	return &Event{Type: protocol.FrameResync, Data: r, Raw: protocol.MustMarshal(struct {
		Type string `json:"type"`
		*Resync
	}{protocol.FrameResync, r})}
}
