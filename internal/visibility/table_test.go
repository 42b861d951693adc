package visibility

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"flannel/protocol"
)

// The rows of the table: what kind of access it was.
const (
	rowUsers      = "users by id"
	rowChannels   = "channels by id"
	rowLists      = "lists"
	rowSearch     = "search"
	rowMembership = "membership and counts"
	rowBoot       = "boot and badges"
	rowHistory    = "messages"
	rowDelivery   = "events delivered"
	rowReplay     = "events replayed"
	rowObjects    = "just-in-time objects"
	rowPresence   = "presence and typing"
	rowOther      = "bots, emoji, usergroups, workspaces"
)

var rows = []string{
	rowUsers, rowChannels, rowLists, rowSearch, rowMembership, rowBoot, rowHistory, rowDelivery, rowReplay, rowObjects, rowPresence, rowOther,
}

// The columns: what kind of viewer.
const (
	asAdmin    = "admin"
	asMember   = "member"
	asGuest    = "guest"
	asBot      = "bot"
	asOrg      = "enterprise"
	asStranger = "stranger"
	asRemoved  = "removed"
	asInactive = "deactivated"
)

var columns = []string{asAdmin, asMember, asGuest, asBot, asOrg, asStranger, asRemoved, asInactive}

// viewer says which column somebody's look at a thing counts for.
func (l *ledger) viewer(who protocol.UserID, tok string, t thing, p protocol.Position) string {
	u, _ := l.user(who, p)
	switch {
	case !l.alive(who, tok, p):
		return asInactive
	case (t.what == "ch" || t.what == "ms") && l.wasMember(protocol.ChannelID(t.holder), who, p):
		return asRemoved
	case u.team == zulu:
		return asStranger
	case u.role == protocol.RoleGuest:
		return asGuest
	case u.role == protocol.RoleBot:
		return asBot
	case u.team == bravo:
		return asOrg
	case u.role == protocol.RoleAdmin:
		return asAdmin
	default:
		return asMember
	}
}

// tally counts what was checked, per row and column.
type tally struct {
	mu     sync.Mutex
	counts map[[2]string]*figures
	// faults has the first of each kind in words.
	faults []string
	more   int
}

type figures struct{ checks, leaks, hidden int }

func newTally() *tally { return &tally{counts: make(map[[2]string]*figures)} }

// maxFaults bounds what is told in words: the first few tell it all.
const maxFaults = 40

func (t *tally) at(row, column string) *figures {
	f := t.counts[[2]string{row, column}]
	if f == nil {
		f = new(figures)
		t.counts[[2]string{row, column}] = f
	}
	return f
}

func (t *tally) fault(format string, args ...any) {
	if len(t.faults) < maxFaults {
		t.faults = append(t.faults, fmt.Sprintf(format, args...))
		return
	}
	t.more++
}

// check counts one look. ok is false for a leak, told by format.
func (t *tally) check(row, column string, ok bool, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(row, column)
	f.checks++
	if !ok {
		f.leaks++
		t.fault("LEAK ("+column+", "+row+") "+format, args...)
	}
}

// expect counts one thing that must be there. ok is false if it is wrongly hidden.
func (t *tally) expect(row, column string, ok bool, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.at(row, column)
	f.checks++
	if !ok {
		f.hidden++
		t.fault("HIDDEN ("+column+", "+row+") "+format, args...)
	}
}

// sum adds everything up.
func (t *tally) sum() (all figures) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.counts {
		all.checks += f.checks
		all.leaks += f.leaks
		all.hidden += f.hidden
	}
	return all
}

// String is the table: checks/leaks/hidden.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%-36s", "checks/leaks/wrongly hidden")
	for _, c := range columns {
		fmt.Fprintf(&b, "%16s", c)
	}
	for _, r := range rows {
		fmt.Fprintf(&b, "\n%-36s", r)
		for _, c := range columns {
			f := figures{}
			if got := t.counts[[2]string{r, c}]; got != nil {
				f = *got
			}
			fmt.Fprintf(&b, "%16s", fmt.Sprintf("%d/%d/%d", f.checks, f.leaks, f.hidden))
		}
	}
	return b.String()
}

// empty lists the rows that nothing was counted for, refusals apart.
func (t *tally) empty() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for _, r := range rows {
		if !slices.ContainsFunc(columns, func(c string) bool { return c != asInactive && c != asRemoved && t.counts[[2]string{r, c}] != nil }) {
			list = append(list, r)
		}
	}
	return list
}
