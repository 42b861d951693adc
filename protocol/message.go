package protocol

import "encoding/json"

// Message is a message as clients see it. Messages are not cached objects: they travel in events and histories.
type Message struct {
	Type            string          `json:"type"` // always "message"
	Subtype         string          `json:"subtype,omitempty"`
	Channel         ChannelID       `json:"channel,omitempty"` // in events, not in histories
	User            UserID          `json:"user,omitempty"`
	BotID           BotID           `json:"bot_id,omitempty"`
	Username        string          `json:"username,omitempty"`
	Text            string          `json:"text"`
	TS              TS              `json:"ts"`
	ThreadTS        TS              `json:"thread_ts,omitempty"`
	ParentUserID    UserID          `json:"parent_user_id,omitempty"`
	ReplyCount      int             `json:"reply_count,omitempty"`
	ReplyUsersCount int             `json:"reply_users_count,omitempty"`
	ReplyUsers      []UserID        `json:"reply_users,omitempty"`
	LatestReply     TS              `json:"latest_reply,omitempty"`
	Team            WorkspaceID     `json:"team,omitempty"`
	ClientMsgID     string          `json:"client_msg_id,omitempty"`
	Edited          *Edited         `json:"edited,omitempty"`
	Reactions       []Reaction      `json:"reactions,omitempty"`
	PinnedTo        []ChannelID     `json:"pinned_to,omitempty"`
	Attachments     json.RawMessage `json:"attachments,omitempty"`
	Blocks          json.RawMessage `json:"blocks,omitempty"`
	Files           json.RawMessage `json:"files,omitempty"`
	// Extra holds the fields of unknown subtypes (imports keep them), as one JSON object that is merged into the
	// message when it is written. Nil for ordinary messages.
	Extra json.RawMessage `json:"-"`
}

// Edited tells who changed a message last and when.
type Edited struct {
	User UserID `json:"user"`
	TS   TS     `json:"ts"`
}

// Reaction is one emoji under a message and who set it. Users may be cut; Count is exact.
type Reaction struct {
	Name  string   `json:"name"`
	Users []UserID `json:"users"`
	Count int      `json:"count"`
}
