package cache

import (
	"flannel/protocol"
)

// note is what somebody made of a channel's object. It is the same for all, and for as long as the object is.
type note struct {
	version protocol.Version
	link    link // of the object
	text    []byte
}

// NoteKinds is how many notes a channel can have, one of each kind.
const NoteKinds = 2

const (
	// maxNotes bounds the bytes of all notes, but for those of one more: 50,000 channels with what a boot says of them.
	maxNotes = 32 << 20
	// noteOverhead is what a note costs besides its text.
	noteOverhead = 64
)

// Noted returns a user's memberships in id order, appended to list, and the note of each one's channel appended to notes: nil
// where there is none, or where the object may have changed since. That is so for all while the stream is down, while
// somebody may have seen a load that is ahead of the stream, and below floor. Nobody may change a note.
//
// It does not block. With notes a boot needs no look-up for each channel, which costs more than all else in it.
func (c *Cache) Noted(u *User, kind int, floor protocol.Position, list []protocol.Membership, notes [][]byte) ([]protocol.Membership, [][]byte) {
	// Before the notes: what was served ahead of the stream by now may be newer than they are.
	applied := c.Applied()
	sure := c.down.Load() == 0 && c.filled.Load() <= uint64(applied) && floor <= applied
	first, hits := len(list), 0
	u.mu.RLock()
	defer u.mu.RUnlock()
	list = u.appendMemberships(list)
	for i := range u.members {
		var text []byte
		if sure {
			if n := u.channelOf(&u.members[i]).notes[kind].Load(); n != nil && n.version == list[first+i].Updated && n.link.valid() {
				text = n.text
				hits++
			}
		}
		notes = append(notes, text)
	}
	c.metrics.lookedMany(protocol.KindChannel, resultHit, hits)
	return list, notes
}

// Note keeps text, which the caller has made of o and does not change any more, as the note of a channel, if o is what is
// known of the channel, and there is room.
func (c *Cache) Note(kind int, o *protocol.Object, text []byte) {
	c.mu.Lock() // Applying events holds it: none comes between the look and the note.
	defer c.mu.Unlock()
	ch := c.channels[protocol.ChannelID(o.ID)]
	if ch == nil {
		return
	}
	e := c.objects.lookup(o.ID)
	if e == nil || e.gone || e.object.Version != o.Version || !e.link.valid() {
		return
	}
	c.unnote(ch, kind)
	if n := len(text) + noteOverhead; c.noted+n <= maxNotes {
		c.noted += n
		ch.notes[kind].Store(&note{version: o.Version, link: e.link, text: text})
	}
}

// unnote takes a note away. It wants mu.
func (c *Cache) unnote(ch *channel, kind int) {
	if n := ch.notes[kind].Swap(nil); n != nil {
		c.noted -= len(n.text) + noteOverhead
	}
}

// unnoteAll takes the notes of a channel away. It wants mu.
func (c *Cache) unnoteAll(ch *channel) {
	for kind := range ch.notes {
		c.unnote(ch, kind)
	}
}
