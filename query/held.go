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
	topics  numset.List // without the user's own
	user    *cache.User // the state that needs them; nil before the first load
	own     bool        // the user's own topic too: nobody else's holding has it
	loading bool        // a load uses them: Drop must leave them alone
}

func newHeld() held {
	return held{of: make(map[protocol.UserID]*holding), numbers: make(map[protocol.Topic]uint32)}
}

// missing returns those of topics that are not in a holding.
func (s *held) missing(h *holding, topics []protocol.TopicState) (missing []protocol.TopicState) {
	all := h.topics.Append(nil)
	for _, t := range topics {
		if isUser(t.Topic) && h.own {
			continue
		}
		if x, ok := s.numbers[t.Topic]; ok {
			if _, ok := slices.BinarySearch(all, x); ok {
				continue
			}
		}
		missing = append(missing, t)
	}
	return missing
}

// add reports whether t was not there.
func (s *held) add(h *holding, t protocol.Topic) (added bool) {
	return len(s.addAll(h, []protocol.TopicState{{Topic: t}})) == 0
}

// addAll returns the topics that were there.
func (s *held) addAll(h *holding, topics []protocol.TopicState) (twice []protocol.Topic) {
	all := h.topics.Append(make([]uint32, 0, len(topics)+len(h.topics)))
	for _, t := range topics {
		if isUser(t.Topic) {
			if h.own {
				twice = append(twice, t.Topic)
			}
			h.own = true
			continue
		}
		x, ok := s.numbers[t.Topic]
		if !ok {
			x = s.topics.Add(heldTopic{name: t.Topic})
			s.numbers[t.Topic] = x
		}
		i, again := slices.BinarySearch(all, x)
		if again {
			twice = append(twice, t.Topic)
			continue
		}
		all = slices.Insert(all, i, x)
		s.count(x, 1)
	}
	h.topics = numset.Pack(all)
	return twice
}

// remove reports whether t, which is no user's, was there.
func (s *held) remove(h *holding, t protocol.Topic) (removed bool) {
	x, ok := s.numbers[t]
	if !ok {
		return false
	}
	if h.topics, removed = h.topics.Without(x); removed {
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
	all := h.topics.Append(nil)
	stay := make([]bool, len(all))
	for _, ch := range channels {
		x, ok := s.numbers[protocol.Topic(ch)]
		i := 0
		if ok {
			i, ok = slices.BinarySearch(all, x)
		}
		if ok {
			stay[i] = true
		} else {
			missing = append(missing, protocol.Topic(ch))
		}
	}
	for i, x := range all {
		if t := s.topics.At(x).name; !stay[i] && isChannel(t) {
			gone = append(gone, t)
		}
	}
	for _, t := range gone {
		s.remove(h, t)
	}
	return gone, missing
}

// forget takes all topics out of a user's holding, and the holding away. It returns the topics.
func (s *held) forget(user protocol.UserID, h *holding) []protocol.Topic {
	var topics []protocol.Topic
	if h.own {
		topics = append(topics, protocol.Topic(user))
	}
	for x := range h.topics.All() {
		topics = append(topics, s.topics.At(x).name)
		s.count(x, -1)
	}
	h.own, h.topics = false, ""
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
