package synth

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"flannel/protocol"
)

// World says what is made up.
type World struct {
	Users    int
	Channels int // the first one has everybody
	PerUser  int // channels that each user is in
	Seed     uint64
}

// Sized returns a world for so many users of 100 channels each: ten users to a channel, so that a channel has a thousand
// members when it has any choice.
func Sized(users int) World {
	return World{Users: users, Channels: max(users/10, 200), PerUser: 100, Seed: 1}
}

const (
	workspace = protocol.WorkspaceID("T00000001")
	// bodySize is the size of a user's body, which is what look-ups are measured with.
	bodySize = 716
	// madeAt is when everything here was made, in seconds.
	madeAt = 1767603600

	tokenPrefix = "xoxb-bench-"
)

// Token is the token of user n, from 0.
func Token(n int) string { return tokenPrefix + strconv.Itoa(n) }

// User is the id of user n.
func User(n int) protocol.UserID { return protocol.UserID(fmt.Sprintf("U%08d", n)) }

// Channel is the id of channel n; all users are in channel 0.
func Channel(n int) protocol.ChannelID { return protocol.ChannelID(fmt.Sprintf("C%08d", n)) }

// number reads what User or Channel wrote.
func number[T ~string](id T, mark byte, bound int) (int, bool) {
	if len(id) != 9 || id[0] != mark {
		return 0, false
	}
	n, err := strconv.Atoi(string(id[1:]))
	return n, err == nil && n >= 0 && n < bound
}

func (w *World) userOf(token string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(token, tokenPrefix))
	return n, err == nil && strings.HasPrefix(token, tokenPrefix) && n >= 0 && n < w.Users
}

// channelsOf returns the channels of a user, in order: the same each time.
func (w *World) channelsOf(user int) []int {
	want := min(w.PerUser, w.Channels)
	rng := rand.New(rand.NewPCG(w.Seed, uint64(user))) //nolint:gosec // A load, not a secret.
	in := make(map[int]bool, want)
	in[0] = true
	for len(in) < want {
		in[rng.IntN(w.Channels)] = true
	}
	list := make([]int, 0, want)
	for c := range in {
		list = append(list, c)
	}
	slices.Sort(list)
	return list
}

// members returns who is in each channel, in order.
func (w *World) members() [][]int32 {
	all := make([][]int32, w.Channels)
	for u := range w.Users {
		for _, c := range w.channelsOf(u) {
			all[c] = append(all[c], int32(u))
		}
	}
	return all
}

// stamp is a message's timestamp, the n-th of a channel.
func stamp(n int64) protocol.TS {
	return protocol.TS(fmt.Sprintf("%d.%06d", madeAt+n/1_000_000, n%1_000_000))
}

func (w *World) user(n int) *protocol.User {
	name := "user" + strconv.Itoa(n)
	u := &protocol.User{
		ID: User(n), TeamID: workspace, Name: name, RealName: "User Number " + strconv.Itoa(n), TZ: "Europe/Berlin", Updated: madeAt,
		Profile: protocol.Profile{RealName: "User Number " + strconv.Itoa(n), DisplayName: name, DisplayNameNormalized: name, Email: name + "@example.com"},
	}
	// Of one size, so that bytes and objects mean the same.
	if more := bodySize - len(u.Object().Body) - len(`,"status_text":""`) + 1; more > 0 {
		u.Profile.StatusText = strings.Repeat("s", more-1)
	}
	return u
}

func (w *World) channel(n int) *protocol.Channel {
	name := "channel-" + strconv.Itoa(n)
	return &protocol.Channel{
		ID: Channel(n), Name: name, NameNormalized: name, Created: madeAt, Creator: User(0), Updated: madeAt * 1000, ContextTeamID: workspace,
		IsChannel: true, IsGeneral: n == 0, Topic: protocol.Purpose{Value: "What is said in " + name}, Purpose: protocol.Purpose{Value: "To measure with"},
	}
}

// object returns whatever has that id.
func (w *World) object(id protocol.ObjectID) (protocol.Object, bool) {
	if n, ok := number(id, 'U', w.Users); ok {
		return w.user(n).Object(), true
	}
	if n, ok := number(id, 'C', w.Channels); ok {
		return w.channel(n).Object(), true
	}
	if id == protocol.ObjectID(workspace) {
		return (&protocol.Workspace{ID: workspace, Name: "Bench", Domain: "bench", Updated: madeAt}).Object(), true
	}
	return protocol.Object{}, false
}

// boot returns the state of a user when so many messages have been said.
func (w *World) boot(id protocol.UserID, said protocol.Seq) protocol.UserBoot {
	n, ok := number(id, 'U', w.Users)
	if !ok {
		return protocol.UserBoot{User: id, Error: "user_not_found"}
	}
	self := w.user(n).Object()
	boot := protocol.UserBoot{User: id, Workspace: workspace, Role: protocol.RoleMember, Self: &self, Prefs: []byte(`{"theme":"dark"}`)}
	for _, c := range w.channelsOf(n) {
		boot.Memberships = append(boot.Memberships, protocol.Membership{
			Channel: Channel(c), Owner: workspace, Type: protocol.TypePublic, Updated: madeAt * 1000, LastRead: stamp(1), Latest: stamp(2),
		})
	}
	if said > 0 { // In channel 0, by user 0.
		m := &boot.Memberships[0]
		m.Latest = messageTS(said)
		if n == 0 {
			m.LastRead = m.Latest
		}
	}
	return boot
}

// messageTS is the timestamp of the n-th message of channel 0.
func messageTS(n protocol.Seq) protocol.TS { return stamp(int64(n) + 2) }

func (w *World) identity(token string) protocol.Identity {
	n, ok := w.userOf(token)
	if !ok {
		return protocol.Identity{Error: protocol.CodeInvalidAuth}
	}
	return protocol.Identity{
		Token: "token" + strconv.Itoa(n), User: User(n), UserName: "user" + strconv.Itoa(n), Workspace: workspace,
		Workspaces: []protocol.WorkspaceID{workspace}, Role: protocol.RoleMember,
	}
}

// list returns the page behind the cursor, which is the number of the next one.
func (w *World) list(req *protocol.ListRequest) (entries []protocol.ListEntry, next string) {
	of, entry := 0, func(int) protocol.ListEntry { return protocol.ListEntry{} }
	switch req.Kind {
	case protocol.KindUser:
		of, entry = w.Users, func(n int) protocol.ListEntry { return w.user(n).Entry() }
	case protocol.KindChannel:
		of, entry = w.Channels, func(n int) protocol.ListEntry { return w.channel(n).Entry() }
	}
	order := make([]int, of)
	for i := range order {
		order[i] = i
	}
	if req.Order == protocol.ByName {
		// Names are words with a number behind: as bytes, user10 stands before user2.
		slices.SortFunc(order, func(a, b int) int { return strings.Compare(strconv.Itoa(a), strconv.Itoa(b)) })
	}
	words := protocol.SearchWords(req.Query)
	from, _ := strconv.Atoi(req.Cursor) // None, or ours.
	for i := max(from, 0); i < of; i++ {
		e := entry(order[i])
		if !e.Matches(words) {
			continue
		}
		if len(entries) == req.Limit {
			return entries, strconv.Itoa(i)
		}
		entries = append(entries, e)
	}
	return entries, ""
}
