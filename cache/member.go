package cache

import (
	"slices"
	"strings"

	"flannel/protocol"
)

// member is a user's place in a channel, in 12 bytes without a pointer: a node has millions. What all members have in
// common is the channel's. Its fields change under User.mu.
type member struct {
	channel uint32 // in User.table
	own     [2]uint32
}

func (m *member) word() ownPlace { return ownPlace(m.own[0]) | ownPlace(m.own[1])<<32 }

func (m *member) setWord(p ownPlace) { m.own = [2]uint32{uint32(p), uint32(p >> 32)} }

// channelOf wants mu or Cache.mu.
func (u *User) channelOf(m *member) *channel { return u.table.at(m.channel) }

// ownPlace packs what is the user's own: the marker, the count of mentions, whether the channel is open. What it cannot
// hold stands in User.odd, and odd says so: a marker of another form, very many mentions, a peer that is not the
// channel's.
type ownPlace uint64

const (
	markerMask   ownPlace = 1<<54 - 1 // 0 for none, else 1 and the marker's 16 digits as a number: that is below 2^54
	openFlag     ownPlace = 1 << 54
	oddFlag      ownPlace = 1 << 55
	mentionShift          = 56
	maxMentions           = 255 // what 8 bits hold
)

// oddPlace is what an ownPlace cannot hold.
type oddPlace struct {
	lastRead protocol.TS
	mentions int
	peer     protocol.UserID
}

// packTS returns a marker as in an ownPlace; ok is false if it is none that fits.
func packTS(ts protocol.TS) (packed ownPlace, ok bool) {
	if ts == "" {
		return 0, true
	}
	if !ts.Valid() {
		return 0, false
	}
	for i := range len(ts) {
		if i != 10 { // the dot
			packed = 10*packed + ownPlace(ts[i]-'0')
		}
	}
	return packed + 1, true
}

// appendTS undoes packTS.
func appendTS(b []byte, packed ownPlace) []byte {
	if packed == 0 {
		return b
	}
	var text [17]byte
	packed--
	for i := len(text) - 1; i >= 0; i-- {
		if i == 10 {
			text[i] = '.'
			continue
		}
		text[i] = byte('0' + packed%10)
		packed /= 10
	}
	return append(b, text[:]...)
}

// placeOf returns what is the user's own in a place, with a marker made for the caller. It wants mu or Cache.mu.
func (u *User) placeOf(m *member) oddPlace {
	own, ch := m.word(), u.channelOf(m)
	if own&oddFlag != 0 {
		return u.odd[ch]
	}
	return oddPlace{lastRead: protocol.TS(appendTS(nil, own&markerMask)), mentions: int(own >> mentionShift), peer: ch.peerOf(u.id)}
}

// setPlace wants mu and Cache.mu.
func (u *User) setPlace(m *member, p oddPlace) {
	own, ch := m.word(), u.channelOf(m)
	packed, ok := packTS(p.lastRead)
	if ok && 0 <= p.mentions && p.mentions <= maxMentions && p.peer == ch.peerOf(u.id) {
		if own&oddFlag != 0 {
			delete(u.odd, ch)
		}
		m.setWord(own&openFlag | packed | ownPlace(p.mentions)<<mentionShift)
		return
	}
	if u.odd == nil {
		u.odd = make(map[*channel]oddPlace)
	}
	u.odd[ch] = p
	m.setWord(own&openFlag | oddFlag)
}

// setMark moves the marker and sets the count of mentions. It wants mu and Cache.mu.
func (u *User) setMark(m *member, lastRead protocol.TS, mentions int) {
	ch := u.channelOf(m)
	p := oddPlace{lastRead, mentions, ch.peerOf(u.id)}
	if m.word()&oddFlag != 0 {
		p.peer = u.odd[ch].peer
	}
	u.setPlace(m, p)
}

// setMentions wants mu and Cache.mu.
func (u *User) setMentions(m *member, n int) {
	if own := m.word(); own&oddFlag == 0 && n <= maxMentions {
		m.setWord(own&(1<<mentionShift-1) | ownPlace(n)<<mentionShift)
		return
	}
	p := u.placeOf(m)
	p.mentions = n
	u.setPlace(m, p)
}

// mentions wants mu or Cache.mu.
func (u *User) mentions(m *member) int {
	own := m.word()
	if own&oddFlag != 0 {
		return u.odd[u.channelOf(m)].mentions
	}
	return int(own >> mentionShift)
}

// compareRead compares a place's marker with ts. It wants mu or Cache.mu.
func (u *User) compareRead(m *member, ts protocol.TS) int {
	own := m.word()
	if own&oddFlag != 0 {
		return strings.Compare(string(u.odd[u.channelOf(m)].lastRead), string(ts))
	}
	var text [17]byte
	return strings.Compare(string(appendTS(text[:0], own&markerMask)), string(ts))
}

func (m *member) setOpen(open bool) {
	own := m.word() &^ openFlag
	if open {
		own |= openFlag
	}
	m.setWord(own)
}

// snapshot wants User.mu. text has the marker, if it is not in u.odd.
func (u *User) snapshot(p *protocol.Membership, m *member, text string) {
	own, ch := m.word(), u.channelOf(m)
	s := ch.state.Load()
	p.Channel, p.Owner, p.Type, p.Updated, p.Archived, p.Latest = ch.id, s.owner, s.typ, s.updated, s.archived, s.latest
	p.Open = own&openFlag != 0
	if own&oddFlag != 0 {
		odd := u.odd[ch]
		p.LastRead, p.MentionCount, p.Peer = odd.lastRead, odd.mentions, odd.peer
		return
	}
	p.LastRead, p.MentionCount, p.Peer = protocol.TS(text), int(own>>mentionShift), ch.peerOf(u.id)
}

// detach lets a state that the cache gives up, and that somebody may still read, have its channels for itself: their
// numbers may be given to others from now on. It wants Cache.mu.
func (u *User) detach() {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make([]*channel, len(u.members))
	for i := range u.members {
		all[i] = u.channelOf(&u.members[i])
		u.members[i].channel = uint32(i)
	}
	u.table = new(channelTable)
	u.table.all.Store(&all)
}

// apart is up to where events are in a place: up to at in all of it; marker and mention count are as of readAt, and of
// the channel's messages above it that have come. For most places both are the position of the user's load, and they
// have no apart.
type apart struct {
	channel    *channel
	at, readAt protocol.Position
	waits      bool // for the channel's topic to be followed
}

// apartOf wants Cache.mu.
func (u *User) apartOf(ch *channel) apart {
	for i := range u.aparts {
		if u.aparts[i].channel == ch {
			return u.aparts[i]
		}
	}
	return apart{channel: ch, at: u.at, readAt: u.at}
}

// setApart wants Cache.mu.
func (u *User) setApart(a apart) {
	i := slices.IndexFunc(u.aparts, func(other apart) bool { return other.channel == a.channel })
	usual := a == apart{channel: a.channel, at: u.at, readAt: u.at}
	switch {
	case i < 0 && !usual:
		u.aparts = append(u.aparts, a)
	case i >= 0 && !usual:
		u.aparts[i] = a
	case i >= 0:
		u.aparts = slices.Delete(u.aparts, i, i+1)
	}
}

// enteredAt returns the position up to which events are in a user's place in a channel. It wants Cache.mu.
func (u *User) enteredAt(id protocol.ChannelID) (at protocol.Position, in bool) {
	i, in := u.find(id)
	if !in {
		return 0, false
	}
	return u.apartOf(u.channelOf(&u.members[i])).at, true
}
