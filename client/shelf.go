package client

import (
	"container/list"
	"encoding/json"
	"sync"
	"time"

	"flannel/protocol"
)

// shelf holds objects by id, the least recently used going first. An object is current from the server's word until an
// event says otherwise, or for maxAge. It may be used from any goroutine; what it holds is never changed, only replaced.
type shelf struct {
	maxItems, maxBytes int
	maxAge             time.Duration

	mu    sync.Mutex
	byID  map[protocol.ObjectID]*list.Element // of object
	used  list.List                           // most recently used first
	bytes int
}

// object is one object as it was last told. value is a *protocol.User, *protocol.Channel or *protocol.Bot.
type object struct {
	id      protocol.ObjectID
	version protocol.Version
	raw     json.RawMessage
	value   any
	// current until this time; zero if the server has to be asked.
	current time.Time
}

// objectCost is what an object costs besides its bytes; the decoded value has about as many as its JSON.
const objectCost = 400

func (o *object) size() int { return objectCost + 2*len(o.raw) }

func newShelf(maxItems, maxBytes int, maxAge time.Duration) *shelf {
	return &shelf{maxItems: maxItems, maxBytes: maxBytes, maxAge: maxAge, byID: make(map[protocol.ObjectID]*list.Element)}
}

// decodeObject reads an object. It returns nil for what is none.
func decodeObject(raw []byte) *object {
	var head struct {
		ID      protocol.ObjectID `json:"id"`
		Updated protocol.Version  `json:"updated"`
	}
	if json.Unmarshal(raw, &head) != nil {
		return nil
	}
	o := &object{id: head.ID, version: head.Updated, raw: raw}
	switch protocol.KindOf(head.ID) {
	case protocol.KindUser:
		o.value = new(protocol.User)
	case protocol.KindChannel:
		o.value = new(protocol.Channel)
	case protocol.KindBot:
		o.value = new(protocol.Bot)
	default:
		return nil
	}
	if json.Unmarshal(raw, o.value) != nil {
		return nil
	}
	return o
}

// put stores an object unless a newer one is there, and returns the one that is there now. current: the server has just
// said it.
func (s *shelf) put(o *object, current bool) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.byID[o.id]; el != nil {
		if have := el.Value.(*object); have.version > o.version {
			return have
		}
		s.removeLocked(el)
	}
	fresh := *o
	fresh.current = time.Time{}
	if current {
		fresh.current = time.Now().Add(s.maxAge)
	}
	s.byID[o.id] = s.used.PushFront(&fresh)
	s.bytes += fresh.size()
	for s.used.Len() > 1 && (s.used.Len() > s.maxItems || s.bytes > s.maxBytes) {
		s.removeLocked(s.used.Back())
	}
	return &fresh
}

// get returns an object, and whether it is current; nil if it is not there.
func (s *shelf) get(id protocol.ObjectID) (o *object, current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	el := s.byID[id]
	if el == nil {
		return nil, false
	}
	s.used.MoveToFront(el)
	o = el.Value.(*object)
	return o, time.Now().Before(o.current)
}

// confirm makes an object current that has that version.
func (s *shelf) confirm(id protocol.ObjectID, version protocol.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.byID[id]; el != nil && el.Value.(*object).version == version {
		s.replaceLocked(el, time.Now().Add(s.maxAge))
	}
}

// doubt makes an object be asked for again.
func (s *shelf) doubt(id protocol.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.byID[id]; el != nil {
		s.replaceLocked(el, time.Time{})
	}
}

// doubtAll makes every object be asked for again.
func (s *shelf) doubtAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, el := range s.byID {
		s.replaceLocked(el, time.Time{})
	}
}

// remove forgets an object that cannot be seen any more.
func (s *shelf) remove(id protocol.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.byID[id]; el != nil {
		s.removeLocked(el)
	}
}

// clear forgets everything.
func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byID)
	s.used.Init()
	s.bytes = 0
}

// all returns everything, least recently used first.
func (s *shelf) all() []*object {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*object, 0, s.used.Len())
	for el := s.used.Back(); el != nil; el = el.Prev() {
		list = append(list, el.Value.(*object))
	}
	return list
}

// replaceLocked: objects that somebody may hold are not changed.
func (s *shelf) replaceLocked(el *list.Element, current time.Time) {
	o := *el.Value.(*object)
	o.current = current
	el.Value = &o
}

func (s *shelf) removeLocked(el *list.Element) {
	o := el.Value.(*object)
	s.used.Remove(el)
	delete(s.byID, o.id)
	s.bytes -= o.size()
}
