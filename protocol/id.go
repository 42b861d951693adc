package protocol

import "strings"

// Identifiers are distinct types so that they cannot be swapped by accident. All of them are opaque to the edge except
// for their first letter, which tells the kind: T workspace, E enterprise, U or W user, B bot, C channel (public or
// private), G group DM, D direct message, S usergroup.
type (
	// WorkspaceID names a workspace (T…), on the wire "team".
	WorkspaceID string
	// EnterpriseID names an organisation of workspaces (E…).
	EnterpriseID string
	// UserID names a user (U… or W…). Bot users have one too.
	UserID string
	// BotID names a bot (B…).
	BotID string
	// ChannelID names a channel (C…), a group DM (G…) or a direct message (D…).
	ChannelID string
	// ObjectID names any object. Users, channels, bots, usergroups and workspaces use their own id, which is unique
	// everywhere. An emoji is named by EmojiID, because its name is unique only within its workspace.
	ObjectID string
	// Topic is what can be subscribed to: an object id (T…, C…, D…, G…, U…, W…) or PresenceTopic of a user.
	Topic string
)

// MaxIDLength bounds every id that a client may send, in bytes: real ids have 9 to 11 characters; emoji ids carry a
// workspace and a name of up to 100 characters.
const MaxIDLength = 128

const presencePrefix = "presence:"

// PresenceTopic returns the topic on which the presence of user is published.
func PresenceTopic(user UserID) Topic { return Topic(presencePrefix + string(user)) }

// PresenceOf returns the user whose presence t carries, and whether t is a presence topic.
func PresenceOf(t Topic) (UserID, bool) {
	user, ok := strings.CutPrefix(string(t), presencePrefix)
	return UserID(user), ok
}

// EmojiID returns the object id of the custom emoji name of workspace.
func EmojiID(workspace WorkspaceID, name string) ObjectID {
	return ObjectID(string(workspace) + "/emoji/" + name)
}

// EmojiName splits an emoji's object id. ok is false for every other kind of id.
func EmojiName(id ObjectID) (workspace WorkspaceID, name string, ok bool) {
	w, n, ok := strings.Cut(string(id), "/emoji/")
	return WorkspaceID(w), n, ok
}

// KindOf tells the kind of an object by its id. It returns "" for an id that is malformed.
func KindOf(id ObjectID) Kind {
	if !ValidID(string(id)) {
		if _, _, ok := EmojiName(id); ok {
			return KindEmoji
		}
		return ""
	}
	switch id[0] {
	case 'U', 'W':
		return KindUser
	case 'C', 'G', 'D':
		return KindChannel
	case 'B':
		return KindBot
	case 'S':
		return KindUsergroup
	case 'T':
		return KindWorkspace
	default:
		return ""
	}
}

// ValidID reports whether id looks like an identifier: a capital letter followed by capitals and digits, at most
// MaxIDLength bytes. It says nothing about whether the object exists.
func ValidID(id string) bool {
	if len(id) < 2 || len(id) > MaxIDLength || id[0] < 'A' || id[0] > 'Z' {
		return false
	}
	for i := 1; i < len(id); i++ {
		if c := id[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
