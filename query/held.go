package query

import (
	"slices"

	"flannel/cache"
	"flannel/internal/numset"
	"flannel/protocol"
)

// held is what is followed for whom. Topics are told by numbers: thousands of users are in the same channels. The zero
// value is not ready: see newHeld. Guarded by Service.mu.
type held struct {
	of      map[protocol.UserID]*holding
	numbers map[protocol.Topic]uint32
	topics  numset.Slots[heldTopic]
}

// heldTopic is a topic that is in holdings, and in how many.
type heldTopic struct {
	name     protocol.Topic
	holdings int
}

// holding is what is followed for one user.
type holding struct {
	topics  []uint32    // sorted numbers, without the user's own topic
	user    *cache.User // the state that needs them; nil before the first load
	own     bool        // the user's own topic too: nobody else's holding has it
	loading bool        // a load uses them: Drop must leave them alone
}

func newHeld() held {
	return held{of: make(map[protocol.UserID]*holding), numbers: make(map[protocol.Topic]uint32)}
}

func (s *held) has(h *holding, t protocol.Topic) bool {
	if isUser(t) {
		return h.own
	}
	x, ok := s.numbers[t]
	if ok {
		_, ok = slices.BinarySearch(h.topics, x)
	}
	return ok
}

// add reports whether t was not there.
func (s *held) add(h *holding, t protocol.Topic) (added bool) {
	if isUser(t) {
		added = !h.own
		h.own = true
		return added
	}
	x, ok := s.numbers[t]
	if !ok {
		x = s.topics.Add(heldTopic{name: t})
		s.numbers[t] = x
	}
	if h.topics, added = numset.Insert(h.topics, x); added {
		s.count(x, 1)
	}
	return added
}

// remove reports whether t, which is no user's, was there.
func (s *held) remove(h *holding, t protocol.Topic) (removed bool) {
	x, ok := s.numbers[t]
	if !ok {
		return false
	}
	if h.topics, removed = numset.Delete(h.topics, x); removed {
		s.count(x, -1)
	}
	return removed
}

func (s *held) count(x uint32, n int) {
	t := s.topics.At(x)
	t.holdings += n
	if t.holdings > 0 {
		s.topics.Set(x, t)
		return
	}
	delete(s.numbers, t.name)
	s.topics.Free(x)
}

// keep takes the channels out of a holding that are not among those given, and returns them. missing are those given
// that are not in it.
func (s *held) keep(h *holding, channels []protocol.ChannelID) (gone, missing []protocol.Topic) {
	wanted := make([]uint32, 0, len(channels))
	for _, ch := range channels {
		t := protocol.Topic(ch)
		if !s.has(h, t) {
			missing = append(missing, t)
			continue
		}
		wanted = append(wanted, s.numbers[t])
	}
	slices.Sort(wanted)
	for _, x := range h.topics {
		if _, ok := slices.BinarySearch(wanted, x); !ok && isChannel(s.topics.At(x).name) {
			gone = append(gone, s.topics.At(x).name)
		}
	}
	for _, t := range gone {
		s.remove(h, t)
	}
	return gone, missing
}

// forget takes all topics out of a user's holding, and the holding away. It returns the topics.
func (s *held) forget(user protocol.UserID, h *holding) []protocol.Topic {
	topics := make([]protocol.Topic, 0, len(h.topics)+1)
	if h.own {
		topics = append(topics, protocol.Topic(user))
	}
	for _, x := range h.topics {
		topics = append(topics, s.topics.At(x).name)
		s.count(x, -1)
	}
	h.own, h.topics = false, nil
	delete(s.of, user)
	return topics
}

// isChannel reports whether t is the topic of a channel.
func isChannel(t protocol.Topic) bool {
	return protocol.KindOf(protocol.ObjectID(t)) == protocol.KindChannel
}

// isUser reports whether t is a user's own topic.
func isUser(t protocol.Topic) bool {
	return protocol.KindOf(protocol.ObjectID(t)) == protocol.KindUser
}
