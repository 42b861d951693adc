package protocol

import (
	"strconv"
	"strings"
)

// Resume of a thin session (flannel=3). The server names a token in hello and in every pong ("resume_token"); a client
// that lost its socket passes the last one as resume= and hears every event of its topics since, then the live ones:
// nothing is lost and the order within each topic holds. Some of what the client had received comes again, and is known
// by its "event_id", which every event with a place in a topic carries in thin mode: TOPIC:SEQ. So a client that remembers
// the highest seq of each topic, and skips what is not above it, hears every event exactly once. (A new token is no reason
// to forget: it may stand below what was received before it.)
const (
	// ResumeReplayed in Hello.Resume: Hello.Count events follow, then the live ones.
	ResumeReplayed = "replayed"
	// ResumeLossless: nothing happened meanwhile.
	ResumeLossless = "lossless"
	// ResumeResync: not everything can be told. Hello.Refetch names the topics of what the client has to fetch again,
	// conditionally; RefetchAll stands for everything. Events of all other topics are replayed.
	ResumeResync = "resync"

	// RefetchAll in Hello.Refetch.
	RefetchAll = "all"

	// MaxResumeToken bounds the length of a token in bytes.
	MaxResumeToken = 64
)

// ResumeToken is the position up to which a session has been served, and whose it is. It is no secret and proves
// nothing: all that it can bring about is that its user hears again what they may hear.
type ResumeToken struct {
	User     UserID
	Position Position
}

// String writes the token: "1", the position in base 36 and the user, parted by dots.
func (t ResumeToken) String() string {
	return "1." + strconv.FormatUint(uint64(t.Position), 36) + "." + string(t.User)
}

// ParseResumeToken reads what String wrote.
func ParseResumeToken(s string) (ResumeToken, error) {
	bad := Errorf(CodeInvalidArgs, "not a resume token")
	if len(s) > MaxResumeToken {
		return ResumeToken{}, bad
	}
	version, rest, _ := strings.Cut(s, ".")
	position, user, ok := strings.Cut(rest, ".")
	if !ok || version != "1" || KindOf(ObjectID(user)) != KindUser {
		return ResumeToken{}, bad
	}
	p, err := strconv.ParseUint(position, 36, 64)
	if err != nil {
		return ResumeToken{}, bad
	}
	return ResumeToken{User: UserID(user), Position: Position(p)}, nil
}

// EventID names an event for clients: TOPIC:SEQ. It is empty for an event without a place in its topic.
func EventID(ev *Event) string {
	if ev.Seq == 0 {
		return ""
	}
	return string(ev.Topic) + ":" + strconv.FormatUint(uint64(ev.Seq), 10)
}

// ParseEventID reads what EventID wrote.
func ParseEventID(s string) (Topic, Seq, bool) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(s[i+1:], 10, 64)
	return Topic(s[:i]), Seq(seq), err == nil && seq > 0
}
