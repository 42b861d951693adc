package query

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"flannel/protocol"
)

// Boot returns the answers of client.userBoot and client.counts, both of one state, for the frames of boot=1.
func (s *Service) Boot(ctx context.Context, id protocol.Identity, lazy bool) (userBoot, counts []byte, err error) {
	started := s.now()
	defer func() { s.metrics.answered("client.userBoot", s.now().Sub(started), false, err) }()
	r, err := s.reader(ctx, &id)
	if err != nil {
		return nil, nil, err
	}
	opts := protocol.UserBootOptions{Lazy: lazy}
	parts, err := r.bootParts(opts)
	if err != nil {
		return nil, nil, late(err)
	}
	userBoot = protocol.ComposeUserBoot(parts, opts)
	s.metrics.bootBytes.Observe(float64(len(userBoot)))
	return userBoot, protocol.ComposeCounts(parts.Memberships), nil
}

func clientUserBoot(c *call) ([]byte, error) {
	opts, err := protocol.UserBootArgs(c.args)
	if err != nil {
		return nil, err
	}
	parts, err := c.bootParts(opts)
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

// bootParts collects what a boot says. Which conversations somebody is in is theirs alone, so it needs fresh
// permissions. One load gets all objects that are missing.
func (r *reader) bootParts(opts protocol.UserBootOptions) (*protocol.UserBootParts, error) {
	if err := r.permitted(); err != nil {
		return nil, err
	}
	p := &protocol.UserBootParts{
		Memberships: r.memberships(), Prefs: r.user.Prefs(), Usergroups: r.user.Usergroups(),
		Workspaces: r.id.Workspaces, DefaultWorkspace: r.id.Workspace, Now: r.s.now().Unix(), Slim: r.s.slims.get,
	}
	ids := make([]protocol.ObjectID, 0, len(p.Memberships)+2)
	ids = append(ids, protocol.ObjectID(r.id.User), protocol.ObjectID(r.id.Workspace))
	for i := range p.Memberships {
		if m := &p.Memberships[i]; m.InBoot() && m.Updated > opts.MinChannelUpdated {
			ids = append(ids, protocol.ObjectID(m.Channel))
		}
	}
	objects, err := r.objects(ids)
	if err != nil {
		return nil, err
	}
	p.Self, p.Team = objects[0].Body, objects[1].Body
	p.Bodies = make([]json.RawMessage, len(p.Memberships))
	next := 2
	for i := range p.Memberships {
		if next < len(ids) && ids[next] == protocol.ObjectID(p.Memberships[i].Channel) {
			// Who has left since hears so next; they are not told what became of the channel since.
			if _, member := r.membership(p.Memberships[i].Channel); member {
				p.Bodies[i] = objects[next].Body
			}
			next++
		}
	}
	return p, nil
}

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
