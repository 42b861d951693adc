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

// knownSubtypes are the subtypes whose fields Message has. Others keep what else they carry in Extra.
var knownSubtypes = map[string]bool{
	"": true, "bot_message": true, "me_message": true, "thread_broadcast": true, "channel_join": true, "channel_leave": true,
	"group_join": true, "group_leave": true, "file_share": true,
}

type plainMessage Message // Message without its methods

// MarshalJSON implements json.Marshaler: the fields of Extra that Message does not have itself stand at the end.
func (m Message) MarshalJSON() ([]byte, error) {
	body, err := Marshal(plainMessage(m))
	if err != nil || len(m.Extra) <= 2 {
		return body, err
	}
	var own, extra map[string]json.RawMessage
	if err := json.Unmarshal(body, &own); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(m.Extra, &extra); err != nil {
		return nil, err
	}
	for name := range extra {
		if _, ok := own[name]; ok || name == "" {
			delete(extra, name)
		}
	}
	rest, err := Marshal(extra)
	if err != nil {
		return nil, err
	}
	return AppendFields(nil, body, rest), nil
}

// UnmarshalJSON implements json.Unmarshaler. Only messages with a subtype that Message does not know pay for Extra.
func (m *Message) UnmarshalJSON(data []byte) error {
	*m = Message{}
	if err := json.Unmarshal(data, (*plainMessage)(m)); err != nil {
		return err
	}
	if knownSubtypes[m.Subtype] {
		return nil
	}
	var all, own map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	body, err := Marshal(plainMessage(*m))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &own); err != nil {
		return err
	}
	for name := range own {
		delete(all, name)
	}
	if len(all) == 0 {
		return nil
	}
	m.Extra, err = Marshal(all)
	return err
}
