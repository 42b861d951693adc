package client

import (
	"encoding/json"
	"slices"
	"strings"

	"flannel/protocol"
)

// listen takes in what the server says until the socket is over, and returns why it is. What changes objects is heard by
// the lazy store before the application can hear of it.
func (c *Client) listen(j *journey, socket *conn) error {
	silence := c.opt.PingInterval + c.opt.PongWait
	for {
		f, err := socket.read(silence)
		if err != nil {
			return err
		}
		switch {
		case f.kind == protocol.FramePong:
			c.pong(j, &f)
		case f.answer():
			socket.answered(f)
		case f.kind == protocol.FrameBoot, f.kind == protocol.FrameCounts:
			if err := c.bootFrame(&f); err != nil {
				socket.end(err)
			}
		case f.kind == protocol.FrameObjects:
			c.objects(&f)
		case f.kind == protocol.FrameRefresh:
			c.asked(socket)
		case f.kind == protocol.FrameResync:
			c.lost(j, &f)
		case f.kind == protocol.FrameError:
			c.opt.Log.Debug("server reported an error", "err", errorOf(f.raw))
		case f.kind == protocol.FrameHello, f.kind == protocol.FrameGoodbye, f.kind == protocol.FrameReconnectURL:
			// The close frame says what to do, and to where.
		default:
			c.event(j, &f)
		}
	}
}

// pong moves the place to resume from. While the client is behind, it stays before what was not taken.
func (c *Client) pong(j *journey, f *frame) {
	var token string
	if raw := protocol.Field(f.raw, "resume_token"); json.Unmarshal(raw, &token) != nil || token == "" || c.queue.lagging() {
		return
	}
	s := step{token: token}
	j.at.admit(&s)
	c.queue.put(s)
}

// event passes an event on, once.
func (c *Client) event(j *journey, f *frame) {
	ev := decode(f)
	c.learn(ev)
	if c.queue.lagging() || j.at.had(ev) {
		return
	}
	s := step{event: ev}
	if !c.queue.put(s) {
		c.opt.Log.Warn("events are not taken fast enough; they will be replayed", "waiting", c.opt.MaxEvents)
		return
	}
	j.at.admit(&s)
}

// lost hears that something was lost on this very connection.
func (c *Client) lost(j *journey, f *frame) {
	var r Resync
	if json.Unmarshal(f.raw, &r) != nil || len(r.Refetch) == 0 || r.All() {
		j.at.Token = "" // The next hello tells the application.
		return
	}
	c.doubt(r.Refetch)
	c.queue.put(step{event: resyncEvent(r.Refetch, r.Reason), must: true})
}

// bootFrame takes in a boot or counts frame.
func (c *Client) bootFrame(f *frame) error {
	if f.kind == protocol.FrameCounts {
		counts, err := decodeCounts(f.raw)
		if err != nil {
			return err
		}
		c.setBoot(nil, counts)
		return nil
	}
	boot, err := decodeBoot(f.raw)
	if err != nil {
		return err
	}
	c.setBoot(boot, nil)
	return nil
}

// objects takes in the objects that the next event needs.
func (c *Client) objects(f *frame) {
	var o protocol.ObjectsFrame
	if json.Unmarshal(f.raw, &o) != nil {
		return
	}
	for _, list := range [][]json.RawMessage{o.Users, o.Channels, o.Bots} {
		for _, raw := range list {
			c.keep(raw)
		}
	}
}

// learn lets the lazy store hear of an event.
func (c *Client) learn(ev *Event) {
	switch e := ev.Data.(type) {
	case *UserChange:
		c.keep(protocol.Field(ev.Raw, "user"))
	case *UserInvalidated:
		c.doubtOne(protocol.ObjectID(e.User.ID))
	case *ChannelChange:
		c.doubtOne(protocol.ObjectID(e.ID)) // What the event carries of a channel is not always all of it.
	case *Message:
		if topical(e.Subtype) {
			c.doubtOne(protocol.ObjectID(e.Channel))
		}
	}
}

// topical reports whether a message of that subtype tells of a change of its channel.
func topical(subtype string) bool {
	kind, what, _ := strings.Cut(subtype, "_")
	return (kind == "channel" || kind == "group") && !slices.Contains([]string{"join", "leave"}, what)
}

// keep puts an object that the server has just sent into the lazy store.
func (c *Client) keep(raw []byte) {
	o := decodeObject(raw)
	if o == nil {
		return
	}
	c.shelf.put(o, true)
	c.onTheWay(o.id)
}

func (c *Client) doubtOne(id protocol.ObjectID) {
	c.shelf.doubt(id)
	c.onTheWay(id)
}

// onTheWay tells the lookups that an answer under way may be older than what is known.
func (c *Client) onTheWay(id protocol.ObjectID) {
	c.users.changed(id)
	c.channels.changed(id)
}

// doubt makes what the topics cover be asked for again.
func (c *Client) doubt(topics []string) {
	for _, t := range topics {
		switch {
		case t == protocol.RefetchAll, protocol.KindOf(protocol.ObjectID(t)) == protocol.KindWorkspace:
			c.shelf.doubtAll()
			c.users.allChanged()
			c.channels.allChanged()
		default:
			c.doubtOne(protocol.ObjectID(t))
		}
	}
}
