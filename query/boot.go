package query

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"sync"

	"flannel/protocol"
)

// Boot finds the answers of client.userBoot and client.counts, both of one state, for the frames of boot=1, and calls use
// with them, which must keep nothing of them: a boot is large, and the next one is written over it.
func (s *Service) Boot(ctx context.Context, id protocol.Identity, lazy bool, use func(userBoot, counts []byte)) (err error) {
	started := s.now()
	defer func() { s.metrics.answered("client.userBoot", s.now().Sub(started), false, err) }()
	r, err := s.reader(ctx, &id)
	if err != nil {
		return err
	}
	room := bootRooms.Get().(*bootRoom)
	defer room.giveBack()
	opts := protocol.UserBootOptions{Lazy: lazy}
	parts, err := r.bootParts(room, opts)
	if err != nil {
		return late(err)
	}
	room.boot = protocol.AppendUserBoot(room.boot[:0], parts, opts)
	room.counts = protocol.AppendCounts(room.counts[:0], parts.Memberships, lazy)
	s.metrics.bootBytes.Observe(float64(len(room.boot)))
	use(room.boot, room.counts)
	return nil
}

// bootRoom is what it takes to make a boot.
type bootRoom struct {
	boot, counts []byte
	memberships  []protocol.Membership
	notes        [][]byte
}

// maxBootRoom keeps the rooms of people in unusually many channels out of the pool.
const maxBootRoom = 256 << 10

var bootRooms = sync.Pool{New: func() any { return new(bootRoom) }}

func (room *bootRoom) giveBack() {
	if cap(room.boot)+cap(room.counts) > maxBootRoom {
		return
	}
	clear(room.memberships)
	clear(room.notes)
	room.memberships, room.notes = room.memberships[:0], room.notes[:0]
	bootRooms.Put(room)
}

func clientUserBoot(c *call) ([]byte, error) {
	opts, err := protocol.UserBootArgs(c.args)
	if err != nil {
		return nil, err
	}
	parts, err := c.bootParts(new(bootRoom), opts)
	if err != nil {
		return nil, err
	}
	body := protocol.ComposeUserBoot(parts, opts)
	c.s.metrics.bootBytes.Observe(float64(len(body)))
	return body, nil
}

func clientCounts(c *call) ([]byte, error) {
	if err := c.permitted(); err != nil {
		return nil, err
	}
	return protocol.ComposeCounts(c.memberships()), nil
}

// bootParts collects what a boot says, some of it in room. Which conversations somebody is in is theirs alone, so it needs
// fresh permissions. What is said of a channel is noted in the cache; one load gets all objects that are missing.
func (r *reader) bootParts(room *bootRoom, opts protocol.UserBootOptions) (*protocol.UserBootParts, error) {
	if err := r.permitted(); err != nil {
		return nil, err
	}
	kind := slimFull
	if opts.Lazy {
		kind = slimLazy
	}
	if r.own == nil {
		room.memberships, room.notes = r.s.cache.Noted(r.user, kind, r.floor, room.memberships, room.notes)
	} else {
		room.memberships, room.notes = append(room.memberships, r.own...), append(room.notes, make([][]byte, len(r.own))...)
	}
	p := &protocol.UserBootParts{
		Memberships: room.memberships, Slims: room.notes, Prefs: r.user.Prefs(), Usergroups: r.user.Usergroups(),
		Workspaces: r.id.Workspaces, DefaultWorkspace: r.id.Workspace, Now: r.s.now().Unix(),
	}
	ids := append(make([]protocol.ObjectID, 0, 16), protocol.ObjectID(r.id.User), protocol.ObjectID(r.id.Workspace))
	var places []int // of the channels among ids, in Memberships
	noted := 0
	for i := range p.Memberships {
		if m := &p.Memberships[i]; m.InBoot() && m.Updated > opts.MinChannelUpdated {
			if p.Slims[i] != nil {
				noted++
				continue
			}
			ids, places = append(ids, protocol.ObjectID(m.Channel)), append(places, i)
		}
	}
	r.s.metrics.objects[sourceCache].Add(float64(noted))
	objects, err := r.objects(ids)
	if err != nil {
		return nil, err
	}
	p.Self, p.Team = objects[0].Body, objects[1].Body
	for n, i := range places {
		o := &objects[2+n]
		// Who has left since hears so next; they are not told what became of the channel since.
		if _, member := r.membership(p.Memberships[i].Channel); !member || len(o.Body) == 0 {
			continue
		}
		p.Slims[i] = protocol.AppendSlim(nil, o.Body, opts.Lazy)
		if p.Slims[i] != nil {
			r.s.cache.Note(kind, o, p.Slims[i])
		}
	}
	return p, nil
}

// What a boot says of channels is noted in two kinds: with all of it, and for lazy boots.
const (
	slimFull = iota
	slimLazy
)

// url returns a new socket address for the caller.
func (c *call) url(fallback bool) (string, error) {
	params := maps.Clone(map[string]string(c.args))
	delete(params, "token")
	url, err := c.s.sockets.URL(*c.id, params, c.host, fallback)
	if err != nil {
		return "", asError(err)
	}
	return url, nil
}

func rtmConnect(c *call) ([]byte, error) {
	o, err := c.object(protocol.ObjectID(c.id.Workspace), protocol.KindWorkspace, protocol.CodeTeamNotFound)
	if err != nil {
		return nil, err
	}
	url, err := c.url(false)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"ok":true,"url":`...)
	b = protocol.AppendString(b, url)
	b = append(b, `,"self":{"id":`...)
	b = protocol.AppendString(b, c.id.User)
	b = append(b, `,"name":`...)
	b = protocol.AppendString(b, c.id.UserName)
	b = append(b, `},"team":{`...)
	protocol.EachField(o.Body, func(name, value []byte) bool {
		switch string(name) {
		case "id", "name", "domain", "enterprise_id", "enterprise_name":
			b = append(separated(b), '"')
			b = append(b, name...)
			b = append(b, `":`...)
			b = append(b, value...)
		}
		return true
	})
	return append(b, `}}`...), nil
}

func webSocketURL(c *call) ([]byte, error) {
	primary, err := c.url(false)
	if err != nil {
		return nil, err
	}
	fallback, err := c.url(true)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"ok":true,"primary_websocket_url":`...)
	b = protocol.AppendString(b, primary)
	b = append(b, `,"fallback_websocket_url":`...)
	b = protocol.AppendString(b, fallback)
	b = c.appendTTL(b)
	b = append(b, `,"routing_context":`...)
	b = protocol.AppendString(b, string(c.id.Workspace)+"-1")
	return append(b, '}'), nil
}

func flannelURL(c *call) ([]byte, error) {
	b := append([]byte(nil), `{"ok":true,"url":`...)
	b = protocol.AppendString(b, c.s.sockets.Home(*c.id, c.host))
	return append(c.appendTTL(b), '}'), nil
}

func (c *call) appendTTL(b []byte) []byte {
	b = append(b, `,"ttl_seconds":`...)
	return strconv.AppendInt(b, int64(c.s.config.SocketTTL.Seconds()), 10)
}

// prefsGet answers all preferences, or those in "prefs" or "names".
func prefsGet(c *call) ([]byte, error) {
	names, err := c.args.List("prefs")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if names, err = c.args.List("names"); err != nil {
			return nil, err
		}
	}
	prefs := c.user.Prefs()
	if len(prefs) == 0 {
		prefs = json.RawMessage("{}")
	}
	b := append([]byte(nil), `{"ok":true,"prefs":`...)
	if len(names) == 0 {
		b = append(b, prefs...)
		return append(b, '}'), nil
	}
	b = append(b, '{')
	protocol.EachField(prefs, func(name, value []byte) bool {
		if slices.Contains(names, string(name)) {
			b = append(separated(b), '"')
			b = append(b, name...)
			b = append(b, `":`...)
			b = append(b, value...)
		}
		return true
	})
	return append(b, `}}`...), nil
}
