package protocol

import (
	"encoding/json"
	"unicode/utf8"
)

// Limits on client sockets.
const (
	// MaxFrame is the largest client frame in bytes; a larger one closes the socket (the dialect's 16 KB).
	MaxFrame = 16 << 10
	// MaxText is the longest message text in characters that the socket takes; over HTTP it is 40,000.
	MaxText = 4000
	// MaxPresenceIDs is the most users that one session may follow or ask for.
	MaxPresenceIDs = 500
	// MaxView is the most channels that a session may have in view.
	MaxView = 100
	// ThinVersion is the value of flannel= in a socket URL that asks for thin mode.
	ThinVersion = "3"
)

// Types of the frames that clients send, and those that have no event of their own.
const (
	FrameMessage       = "message"
	FrameTyping        = "typing"
	FrameUserTyping    = "user_typing" // what some clients send instead of typing; also the event
	FramePing          = "ping"
	FramePong          = "pong"
	FramePresenceSub   = "presence_sub"
	FramePresenceQuery = "presence_query"
	FrameQuery         = "query"
	FrameView          = "view"

	FrameHello           = "hello"
	FrameError           = "error"
	FrameGoodbye         = "goodbye"
	FrameReconnectURL    = "reconnect_url"
	FramePresenceChange  = "presence_change"
	FrameBoot            = "boot"
	FrameCounts          = "counts"
	FrameObjects         = "objects"
	FrameBadge           = "badge"
	FrameResync          = "resync"
	FrameUserInvalidated = "user_invalidated"
)

// Error codes inside socket frames, as the dialect has them.
const (
	SocketErrURLExpired  = 1
	SocketErrTextMissing = 2
	SocketErrBadFrame    = 3 // no JSON object, or no type
	SocketErrUnknownType = 4
	SocketErrMessage     = 5 // the write was refused; msg is the Web API's error name
	SocketErrRateLimited = 17
	SocketErrTooFast     = -1
)

// TooFastText is the exact text that slack-go looks for in the nack with SocketErrTooFast.
const TooFastText = "slow down, too many messages..."

// ClientFrame is the envelope of a frame that a client sent. Raw is the whole frame.
type ClientFrame struct {
	// ID is the client's number for the frame as it was written, so that it can be echoed; nil if it sent none.
	ID   json.RawMessage `json:"id"`
	Type string          `json:"type"`
	Raw  []byte          `json:"-"`
}

// DecodeFrame reads the envelope of a client frame: a JSON object in UTF-8 of at most MaxFrame bytes with a string
// "type". ID is nil, a number or a string.
func DecodeFrame(raw []byte) (ClientFrame, error) {
	f := ClientFrame{Raw: raw}
	if len(raw) > MaxFrame {
		return f, Errorf(CodeTooLarge, "the frame has %d bytes; the limit is %d", len(raw), MaxFrame)
	}
	if !utf8.Valid(raw) {
		return f, Errorf(CodeInvalidCharset, "the frame is not UTF-8")
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		if json.Valid(raw) {
			return f, Errorf(CodeJSONNotObject, "a frame is a JSON object with a string \"type\"")
		}
		return f, Errorf(CodeInvalidJSON, "the frame is not JSON")
	}
	if f.Type == "" {
		return f, Errorf(CodeInvalidArgs, "the frame has no \"type\"")
	}
	if len(f.ID) > 0 {
		switch c := f.ID[0]; {
		case len(f.ID) > MaxIDLength, c == '{', c == '[', c == 't', c == 'f':
			return f, Errorf(CodeInvalidArgs, "the frame's \"id\" is neither a number nor a short string")
		case c == 'n':
			f.ID = nil
		}
	}
	return f, nil
}

// Hello is the first frame of the server.
type Hello struct {
	Type          string    `json:"type"`
	FastReconnect bool      `json:"fast_reconnect"`
	Start         bool      `json:"start"`
	Region        string    `json:"region"`
	HostID        string    `json:"host_id"`
	Reconnect     Reconnect `json:"reconnect"`
	// Of thin sessions. ResumeToken continues from before what follows this hello. Resume, Count and Refetch answer
	// resume=.
	ResumeToken string   `json:"resume_token,omitempty"`
	Resume      string   `json:"resume,omitempty"`
	Count       int      `json:"count,omitempty"`
	Refetch     []string `json:"refetch,omitempty"`
}

// Reconnect is the policy for clients that lose the connection: wait a random time between 0 and a bound that starts
// at MinMS, doubles up to MaxMS and starts over after StableMS of connection.
type Reconnect struct {
	MinMS    int    `json:"min_ms"`
	MaxMS    int    `json:"max_ms"`
	StableMS int    `json:"stable_ms"`
	Jitter   string `json:"jitter"` // "full"
}

// MessageFrame is a client's message over the socket.
type MessageFrame struct {
	Channel        ChannelID       `json:"channel"`
	Text           string          `json:"text"`
	ThreadTS       TS              `json:"thread_ts"`
	ReplyBroadcast bool            `json:"reply_broadcast"`
	ClientMsgID    string          `json:"client_msg_id"`
	Attachments    json.RawMessage `json:"attachments"`
	Blocks         json.RawMessage `json:"blocks"`
}

// Ack answers a MessageFrame that is on disk. It has no type, as the dialect wants it.
type Ack struct {
	OK      bool            `json:"ok"`
	ReplyTo json.RawMessage `json:"reply_to,omitempty"`
	TS      TS              `json:"ts"`
	Text    string          `json:"text"`
}

// Nack answers a frame that was refused.
type Nack struct {
	OK      bool            `json:"ok"`
	ReplyTo json.RawMessage `json:"reply_to,omitempty"`
	Error   SocketError     `json:"error"`
}

// ErrorFrame tells of an error that belongs to no frame, or to a frame without an id.
type ErrorFrame struct {
	Type    string          `json:"type"` // "error"
	ReplyTo json.RawMessage `json:"reply_to,omitempty"`
	Error   SocketError     `json:"error"`
}

// SocketError is the dialect's error object on sockets.
type SocketError struct {
	Code   int    `json:"code"`
	Msg    string `json:"msg"`
	Source string `json:"source,omitempty"`
	// RetryAfter in seconds.
	RetryAfter int `json:"retry_after,omitempty"`
}

// TypingFrame is a client's "I am typing"; no answer.
type TypingFrame struct {
	Channel  ChannelID `json:"channel"`
	ThreadTS TS        `json:"thread_ts"`
}

// PresenceFrame is presence_sub (the full list each time) or presence_query.
type PresenceFrame struct {
	IDs []UserID `json:"ids"`
}

// QueryFrame is an edge query on the socket: {"id":7,"type":"query","method":"users/info","args":{…}}. The answer is
// the HTTP answer with "reply_to" in front.
type QueryFrame struct {
	Method string          `json:"method"`
	Args   json.RawMessage `json:"args"`
}

// ViewFrame is a thin client's word on what is on its screen: the full list each time. Events of other channels come as
// BadgeFrame. A session that never sent one, nor named view= in its URL, gets everything.
type ViewFrame struct {
	Channels []ChannelID `json:"channels"`
}

// BadgeFrame tells a thin session that a channel out of view moved: at most one per channel and second, with the last
// state.
type BadgeFrame struct {
	Type         string    `json:"type"` // "badge"
	Channel      ChannelID `json:"channel"`
	Latest       TS        `json:"latest"`
	LastRead     TS        `json:"last_read"`
	MentionCount int       `json:"mention_count"`
	HasUnreads   bool      `json:"has_unreads"`
}

// ObjectsFrame carries the objects that the next event needs and the session was not recently given.
type ObjectsFrame struct {
	Type     string            `json:"type"` // "objects"
	Users    []json.RawMessage `json:"users,omitempty"`
	Channels []json.RawMessage `json:"channels,omitempty"`
	Bots     []json.RawMessage `json:"bots,omitempty"`
}

// UserInvalidated tells a thin session to drop a user that it was not recently given: fetch it again if it matters.
type UserInvalidated struct {
	Type string `json:"type"` // "user_invalidated"
	User struct {
		ID UserID `json:"id"`
	} `json:"user"`
	EventTS string `json:"event_ts,omitempty"`
	EventID string `json:"event_id,omitempty"`
}

// PresenceChange tells the presence of one user (User), or of several if the client is batch_presence_aware (Users).
type PresenceChange struct {
	Type     string   `json:"type"`
	Presence Presence `json:"presence"`
	User     UserID   `json:"user,omitempty"`
	Users    []UserID `json:"users,omitempty"`
}

// Presence is active or away.
type Presence string

// The presences.
const (
	Active Presence = "active"
	Away   Presence = "away"
)

// EchoPong returns the pong for a ping frame: every field of the ping, with type changed and reply_to in place of id.
func EchoPong(ping ClientFrame) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(ping.Raw, &fields); err != nil {
		return nil, err
	}
	delete(fields, "id")
	delete(fields, "reply_to")
	fields["type"] = json.RawMessage(`"pong"`)
	if ping.ID != nil {
		fields["reply_to"] = ping.ID
	}
	return Marshal(fields)
}
