package cache

import (
	"strconv"
	"sync/atomic"
	"time"

	"flannel/protocol"
)

// heard is when those who have numbers were heard of last: users when they last spoke, channels when somebody last spoke
// there. Searches rank by it. It is only a hint: it is made of the messages that the node hears, is forgotten with the
// numbering, and knows minutes, in 4 bytes each. Its methods may be called from any goroutine and do not block, but for
// raise.
type heard struct {
	// blocks is replaced, with numbers.mu held, when one is added; they have the numbers in order, and are nil where
	// nothing was heard.
	blocks atomic.Pointer[[]*heardBlock]
	bytes  atomic.Int64
}

// heardBlock has minutes of Unix time by number. Ids of one workspace are numbered in runs.
type heardBlock [1024]atomic.Uint32

// at returns the minute of a number, 0 if it is not known.
func (h heardView) at(number uint32) uint32 {
	if b := int(number / uint32(len(heardBlock{}))); b < len(h) && h[b] != nil {
		return h[b][number%uint32(len(heardBlock{}))].Load()
	}
	return 0
}

// heardView is what heard was at some moment; it knows later minutes too where there were some before.
type heardView []*heardBlock

func (h *heard) view() heardView {
	if blocks := h.blocks.Load(); blocks != nil {
		return *blocks
	}
	return nil
}

// hear notes that the bearer of a number was heard of in a minute. An earlier minute changes nothing.
func (n *numbers) hear(number, minute uint32) {
	b := int(number / uint32(len(heardBlock{})))
	blocks := n.heard.view()
	if b >= len(blocks) || blocks[b] == nil {
		blocks = n.addHeard(b)
	}
	at := &blocks[b][number%uint32(len(heardBlock{}))]
	for old := at.Load(); old < minute && !at.CompareAndSwap(old, minute); old = at.Load() {
	}
}

// addHeard makes a block.
func (n *numbers) addHeard(b int) heardView {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.heard.view()
	if b < len(old) && old[b] != nil {
		return old
	}
	blocks := make([]*heardBlock, max(b+1, len(old)))
	copy(blocks, old)
	blocks[b] = new(heardBlock)
	n.heard.blocks.Store(&blocks)
	n.heard.bytes.Add(4*int64(len(heardBlock{})) + 8*int64(len(blocks)-len(old)))
	return blocks
}

// minuteOf returns the minute of a message, no later than now: a clock that is wrong puts nobody first for ever. It is 0
// for what is no time.
func minuteOf(ts protocol.TS, now time.Time) uint32 {
	if !ts.Valid() {
		return 0
	}
	seconds, err := strconv.ParseInt(string(ts[:10]), 10, 64)
	if err != nil {
		return 0
	}
	return uint32(max(0, min(seconds, now.Unix())) / 60)
}

// hear notes a message: when the channel had it and, in public channels, when its author spoke. What is said in private
// is nobody else's business, not even as a place in what they find. It wants mu.
func (c *Cache) hear(e *protocol.Effect) {
	n := c.numbers.Load()
	minute := minuteOf(e.TS, c.now())
	if number, ok := n.find(string(e.Channel)); ok {
		n.hear(number, minute)
	}
	if !c.public(e.Channel) {
		return
	}
	if number, ok := n.find(string(e.User)); ok {
		n.hear(number, minute)
	}
}

// public reports whether a channel is known to be public. It wants mu.
func (c *Cache) public(id protocol.ChannelID) bool {
	ch := c.channels[id]
	return ch != nil && ch.state.Load().typ == protocol.TypePublic
}

// Places returns the channels of memberships as a set, for Query.Near, and notes when they had their last messages, of
// which the node may have heard nothing.
func (c *Cache) Places(list []protocol.Membership) *People {
	ids := make([]protocol.ObjectID, len(list))
	for i := range list {
		ids[i] = protocol.ObjectID(list[i].Channel)
	}
	p := c.People(ids)
	now := c.now()
	for i := range list {
		if minute := minuteOf(list[i].Latest, now); minute > 0 {
			if number, ok := p.numbers.find(string(ids[i])); ok {
				p.numbers.hear(number, minute)
			}
		}
	}
	return p
}
