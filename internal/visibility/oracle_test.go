package visibility

import (
	"slices"
	"strings"

	"flannel/protocol"
)

// The rules, as section 7 of the plan has them, at one position:
//
//	"full members see users, public channels, emoji, bots of their workspaces;
//	 private channels, group DMs and DMs only their members;
//	 guests only the channels they are in and the people in them;
//	 users of another workspace are visible where a shared channel joins the two."
//
// The people of an enterprise belong to all its workspaces, guests to one. Usergroups go as emoji do. A workspace is
// seen by its people, and by those who are in a channel that it owns. A bot is seen where its user is.

// alive reports whether a token was good: its user there and not deactivated, and it not revoked.
func (l *ledger) alive(who protocol.UserID, tok string, p protocol.Position) bool {
	u, there := l.user(who, p)
	died, dead := l.revoked[tok]
	return there && !u.deleted && !(dead && died <= p)
}

// belongs reports whether somebody is a full member of one of the workspaces.
func (l *ledger) belongs(who protocol.UserID, p protocol.Position, to ...protocol.WorkspaceID) bool {
	u, there := l.user(who, p)
	return there && u.role != protocol.RoleGuest && slices.ContainsFunc(to, func(w protocol.WorkspaceID) bool {
		return w == u.team || u.org != "" && w != zulu // The enterprise has all workspaces but the foreign one.
	})
}

// meets reports whether two are in a channel together.
func (l *ledger) meets(a, b protocol.UserID, p protocol.Position) bool {
	return slices.ContainsFunc(l.in[a], func(ch protocol.ChannelID) bool { return l.member(ch, a, p) && l.member(ch, b, p) })
}

func (l *ledger) seesUser(who, u protocol.UserID, p protocol.Position) bool {
	other, there := l.user(u, p)
	return there && (who == u || l.belongs(who, p, other.team) || l.meets(who, u, p))
}

func (l *ledger) seesChannel(who protocol.UserID, ch protocol.ChannelID, p protocol.Position) bool {
	c, there := l.channel(ch, p)
	if !there {
		return false
	}
	return l.member(ch, who, p) || c.typ == protocol.TypePublic && l.belongs(who, p, append([]protocol.WorkspaceID{c.owner}, c.shared...)...)
}

func (l *ledger) seesWorkspace(who protocol.UserID, team protocol.WorkspaceID, p protocol.Position) bool {
	u, there := l.user(who, p)
	if !there {
		return false
	}
	return u.team == team || l.belongs(who, p, team) || slices.ContainsFunc(l.in[who], func(ch protocol.ChannelID) bool {
		c, _ := l.channel(ch, p)
		return c.owner == team && l.member(ch, who, p)
	})
}

// thing is something that may be seen or not: a user, channel, bot, workspace, a message or an emoji of a holder.
type thing struct{ what, holder string }

// sees reports whether somebody sees a thing.
func (l *ledger) sees(who protocol.UserID, t thing, p protocol.Position) bool {
	switch t.what {
	case "us":
		return l.seesUser(who, protocol.UserID(t.holder), p)
	case "ch", "ms":
		return l.seesChannel(who, protocol.ChannelID(t.holder), p)
	case "em", "ug":
		return l.belongs(who, p, protocol.WorkspaceID(t.holder))
	case "te":
		return l.seesWorkspace(who, protocol.WorkspaceID(t.holder), p)
	case "bo":
		for user, bot := range bots {
			if string(bot) == t.holder {
				return l.seesUser(who, user, p)
			}
		}
	case "pr":
		return string(who) == t.holder
	}
	return false
}

// thingOf reads a secret or the name of a channel.
func (l *ledger) thingOf(s string) thing {
	if strings.HasPrefix(s, "zz-") {
		return thing{"ch", string(l.named[s])}
	}
	what, rest, _ := strings.Cut(s, "~")
	holder, _, _ := strings.Cut(rest, ".")
	return thing{what, holder}
}

// within reports whether claim holds at some position of a record's window. The ends are tried first: nearly always one
// of them will do.
func within(from, to protocol.Position, claim func(protocol.Position) bool) bool {
	if from > to {
		return false
	}
	if claim(to) || claim(from) {
		return true
	}
	for p := from + 1; p < to; p++ {
		if claim(p) {
			return true
		}
	}
	return false
}
