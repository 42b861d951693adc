package query

import (
	"unsafe"

	"flannel/cache"
	"flannel/protocol"
)

// Ready answers a query from memory, at once and without waiting: it appends the body to dst. ok is false, and dst as it
// was, if that is not all that it takes; then Query answers, and says what is wrong if something is. Today that is
// users/info by people for whom their workspace's users are public, with everything they ask for at hand: what clients ask
// all day. It answers what Query would, and allocates nothing but room in dst.
func (s *Service) Ready(id *protocol.Identity, method, args, dst []byte) (body []byte, ok bool) {
	if string(method) != "users/info" {
		return dst, false
	}
	started := s.now()
	u, freshness := s.cache.User(id.User)
	if freshness != cache.Fresh {
		return dst, false
	}
	floor := u.Floor()
	if floor > s.cache.Applied() || s.enumeration.allowNamed(id.User, "users/info", args) != nil {
		return dst, false
	}
	body = append(dst, `{"results":[`...)
	n, first := 0, true
	all := protocol.QuickVersions(args, func(raw []byte, have protocol.Version) bool {
		if n++; n > s.config.MaxIDs || len(raw) == 0 {
			return false
		}
		// Good for this call: Get keeps nothing of its key.
		oid := protocol.ObjectID(unsafe.String(&raw[0], len(raw)))
		if protocol.KindOf(oid) != protocol.KindUser {
			return false
		}
		o, freshness := s.cache.Get(oid, floor)
		switch {
		case freshness != cache.Fresh, have > o.Version, !ours(id, o.Visibility.Workspaces), strange(id, &o):
			return false
		case have == o.Version:
			return true
		}
		if !first {
			body = append(body, ',')
		}
		first = false
		body = append(body, o.Body...)
		return true
	})
	// The role last: the objects may have been loaded after the user became a guest.
	if !all || !u.Role().Full() {
		return dst, false
	}
	s.metrics.readUsers(n, s.now().Sub(started))
	return append(body, `],"ok":true}`...), true
}
