package chat

import (
	"fmt"
	"time"

	"flannel/protocol"
)

// maxRefs bounds the objects that an event names: a message that mentions hundreds of people is shown by names that
// clients look up as they scroll.
const maxRefs = 50

// FormatTS returns t as the dialect writes times of events.
func FormatTS(t time.Time) protocol.TS {
	return protocol.TS(fmt.Sprintf("%010d.%06d", t.Unix(), t.Nanosecond()/1000))
}

// emit appends an event to the log. A nil payload makes it one for caches only.
func (a *act) emit(topic protocol.Topic, class protocol.Class, typ string, payload any, refs []protocol.ObjectID, effects ...protocol.Effect) error {
	e := &protocol.Event{Topic: topic, Type: typ, Class: class, Effects: effects}
	if payload != nil {
		e.Payload = protocol.MustMarshal(payload)
		e.Refs = refs[:min(len(refs), maxRefs)]
	}
	return a.tx.Emit(e)
}

// control emits a control event.
func (a *act) control(topic protocol.Topic, typ string, payload any, refs []protocol.ObjectID, effects ...protocol.Effect) error {
	return a.emit(topic, protocol.ClassControl, typ, payload, refs, effects...)
}

// upsert is the effect of an object's new state.
func upsert(o protocol.Object) protocol.Effect {
	return protocol.Effect{Op: protocol.OpUpsert, Object: &o}
}

// refs gathers the ids that an event's payload names, without empty ones and repeats.
func refs[C ~string](channel C, users ...protocol.UserID) []protocol.ObjectID {
	ids := make([]protocol.ObjectID, 0, len(users)+1)
	for _, u := range users {
		if u != "" && len(ids) < maxRefs-1 {
			ids = append(ids, protocol.ObjectID(u))
		}
	}
	if channel != "" {
		ids = append(ids, protocol.ObjectID(channel))
	}
	return ids
}

// prefixOf is what the names of a channel's own events begin with: channel_marked, group_marked, im_marked, mpim_marked.
func prefixOf(t protocol.ChannelType) string {
	switch t {
	case protocol.TypeDM:
		return "im"
	case protocol.TypeGroupDM:
		return "mpim"
	case protocol.TypePrivate:
		return "group"
	default:
		return "channel"
	}
}

// channelLetter is the channel_type of membership events.
func channelLetter(t protocol.ChannelType) string {
	if t == protocol.TypePublic {
		return "C"
	}
	return "G"
}
