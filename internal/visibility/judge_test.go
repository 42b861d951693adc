package visibility

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"flannel/protocol"
)

// judge looks through records and counts what it finds.
type judge struct {
	l *ledger
	t *tally
}

// one is one record under judgement.
type one struct {
	*judge
	*record
}

// all judges records in the order in which they came.
func (j *judge) all(records []*record) {
	for _, r := range records {
		r.from = max(r.from, j.l.start)
		if !j.l.known(r.to) {
			j.t.fault("%s was made at %d; the ledger stands at %d", r.what, r.to, j.l.head)
			continue
		}
		o := one{j, r}
		if r.session != nil && r.session.first == r {
			r.session.begin()
		}
		o.judge1()
	}
}

func (l *ledger) known(p protocol.Position) bool { return p <= l.head }

// judge1 judges one record.
func (o one) judge1() {
	asked := o.session == nil || o.access != rowDelivery // An answer, not a frame.
	if o.what == protocol.FrameGoodbye || o.what == protocol.FrameError || asked && !bytes.Contains(o.body, []byte(`"ok":true`)) {
		o.refused()
		return
	}
	alive := within(o.from, o.to, func(p protocol.Position) bool { return o.l.alive(o.who.id, o.token, p) })
	o.t.check(o.access, o.column(thing{}), alive, "%s for %s, whose token %s is dead: %s", o.what, o.who.id, o.token, o.excerpt())
	if ev, payload := o.event(); ev != nil {
		o.delivered(ev, payload)
		return
	}
	row := o.access
	switch o.what {
	case protocol.FrameObjects:
		row = rowObjects
	case protocol.FramePresenceChange, protocol.FrameUserTyping:
		row = rowPresence
	case protocol.FrameBoot, protocol.FrameCounts, protocol.FrameBadge:
		row = rowBoot
	case protocol.FrameHello, protocol.FramePong, protocol.FrameReconnectURL, protocol.FrameUserInvalidated, protocol.FrameResync:
	default:
		if o.session != nil && o.access == rowDelivery {
			o.t.fault("UNKNOWN %s gets a frame that no event explains: %s", o.session, o.excerpt())
		}
	}
	o.contents(row, o.body, o.from)
	o.fields(row)
}

// refused judges a refusal, which tells nothing either. Where it is right that somebody is refused who once was not, it
// counts.
func (o one) refused() {
	o.contents(o.access, o.body, o.from)
	var asked struct {
		Channel protocol.ChannelID `json:"channel"`
	}
	if json.Unmarshal([]byte(o.asked), &asked) != nil {
		return
	}
	if column := o.column(thing{"ch", string(asked.Channel)}); column == asRemoved || column == asInactive {
		o.t.check(o.access, column, true, "")
	}
}

func (o one) column(t thing) string { return o.l.viewer(o.who.id, o.token, t, o.to) }

func (o one) excerpt() string {
	if len(o.body) > 300 {
		return string(o.body[:300]) + "…"
	}
	return string(o.body)
}

var channelIDs = regexp.MustCompile(`"([CGD][A-Z0-9]+)"`)

// contents looks for secrets and for channels in what somebody was told. from is the position as of which it was told at
// least.
func (o one) contents(row string, body []byte, from protocol.Position) {
	seen := make(map[string]bool)
	for _, find := range []*regexp.Regexp{secrets, names} {
		for _, s := range find.FindAll(body, -1) {
			if seen[string(s)] {
				continue
			}
			seen[string(s)] = true
			t := o.l.thingOf(string(s))
			ok := within(max(from, o.l.born[string(s)]), o.to, func(p protocol.Position) bool { return o.l.sees(o.who.id, t, p) })
			o.t.check(row, o.column(t), ok, "%s of %s in %s at %d to %d, asked %.120q: %s", s, o.who.id, o.what, from, o.to, o.asked, o.excerpt())
		}
	}
	for _, plain := range unsealed(body) {
		o.contents(row, plain, from)
	}
	for _, m := range channelIDs.FindAllSubmatch(body, -1) {
		id := string(m[1])
		if seen[id] || o.l.channels[protocol.ChannelID(id)] == nil || strings.Contains(o.asked, id) {
			continue
		}
		seen[id] = true
		o.channel(row, protocol.ChannelID(id), from)
	}
}

var cursors = regexp.MustCompile(`"next_(?:marker|cursor)":"([^"]+)"`)

// unsealed returns what markers and cursors say to somebody who looks into them: a name in there is told, too. Names are
// folded there; ids are given quotes, so that they are found.
func unsealed(body []byte) (plain [][]byte) {
	for _, m := range cursors.FindAllSubmatch(body, -1) {
		for _, base64 := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding} {
			if text, err := base64.DecodeString(string(m[1])); err == nil {
				text = foldedSecrets.ReplaceAllFunc(text, func(s []byte) []byte {
					what, rest, _ := bytes.Cut(s, []byte("~"))
					return slices.Concat(what, []byte("~"), bytes.ToUpper(rest))
				})
				plain = append(plain, inCursor.ReplaceAll(text, []byte(`"$1"`)))
				break
			}
		}
	}
	return plain
}

var (
	foldedSecrets = regexp.MustCompile(`(us|ch|em|ug|te|bo)~[a-z0-9]+\.\d+~`)
	inCursor      = regexp.MustCompile(`\b([CGD][A-Z0-9]{5,})\b`)
)

func (o one) channel(row string, ch protocol.ChannelID, from protocol.Position) {
	ok := within(from, o.to, func(p protocol.Position) bool { return o.l.seesChannel(o.who.id, ch, p) })
	o.t.check(row, o.column(thing{"ch", string(ch)}), ok, "channel %s is named to %s in %s at %d to %d: %s", ch, o.who.id, o.what, from, o.to, o.excerpt())
}

func (o one) user(row string, u protocol.UserID) {
	ok := within(o.from, o.to, func(p protocol.Position) bool { return o.l.seesUser(o.who.id, u, p) })
	o.t.check(row, o.column(thing{}), ok, "%s is named to %s in %s at %d to %d: %s", u, o.who.id, o.what, o.from, o.to, o.excerpt())
}

// member: u is said to be in ch, or not to be.
func (o one) member(row string, ch protocol.ChannelID, u protocol.UserID, in bool) {
	ok := within(o.from, o.to, func(p protocol.Position) bool { return o.l.member(ch, u, p) == in })
	o.t.check(row, o.column(thing{"ch", string(ch)}), ok, "%s tells %s that %s is in %s: %t, at %d to %d", o.what, o.who.id, u, ch, in, o.from, o.to)
}

// answer has the fields that tell something by an id alone.
type answer struct {
	Channel  json.RawMessage   `json:"channel"`
	Channels []json.RawMessage `json:"channels"`
	MPIMs    []json.RawMessage `json:"mpims"`
	IMs      []json.RawMessage `json:"ims"`
	User     json.RawMessage   `json:"user"`
	Users    []json.RawMessage `json:"users"`
	Members  []protocol.UserID `json:"members"`
	NoMember []protocol.UserID `json:"non_members"`
	Active   []protocol.UserID `json:"presence_active_ids"`
	Interact map[string]bool   `json:"can_interact"`
}

// idOf reads an id, or that of an object.
func idOf(raw json.RawMessage) string {
	var id string
	if json.Unmarshal(raw, &id) == nil {
		return id
	}
	var object struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(raw, &object) == nil {
		return object.ID
	}
	return ""
}

// fields judges what an answer tells by ids alone.
func (o one) fields(row string) {
	var a answer
	if o.what == "users.list" { // Whose members are objects.
		return
	}
	if o.what == "users.getPresence" {
		var asked struct {
			User protocol.UserID `json:"user"`
		}
		if json.Unmarshal([]byte(o.asked), &asked) == nil {
			o.user(row, asked.User)
		}
		return
	}
	if err := json.Unmarshal(o.body, &a); err != nil {
		o.t.fault("UNKNOWN %s: %v in %s", o.what, err, o.excerpt())
		return
	}
	var asked struct {
		Channel protocol.ChannelID `json:"channel"`
	}
	if o.asked != "" && json.Unmarshal([]byte(o.asked), &asked) == nil && asked.Channel != "" {
		o.channel(row, asked.Channel, o.from)
	}
	for _, u := range a.Members {
		o.member(row, asked.Channel, u, true)
	}
	for _, u := range a.NoMember {
		o.member(row, asked.Channel, u, false)
	}
	for _, u := range a.Active {
		o.user(row, u)
	}
	for u := range a.Interact {
		o.user(row, protocol.UserID(u))
	}
	switch o.what {
	case protocol.FramePresenceChange, protocol.FrameUserInvalidated, protocol.FrameUserTyping:
		for _, raw := range append(a.Users, a.User) {
			if id := idOf(raw); id != "" {
				o.user(row, protocol.UserID(id))
			}
		}
	}
	switch o.what {
	case protocol.FrameBadge, protocol.FrameCounts, protocol.FrameUserTyping, "client.counts":
		for _, raw := range slices.Concat(a.Channels, a.MPIMs, a.IMs, []json.RawMessage{a.Channel}) {
			if id := idOf(raw); id != "" {
				o.member(row, protocol.ChannelID(id), o.who.id, true)
			}
		}
	}
}
