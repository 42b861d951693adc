package query

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

const (
	// defaultCount and maxCount are the dialect's page sizes: 20 to 50 are seen, 1,000 is the most.
	defaultCount = 50
	maxCount     = 1000
	// maxChannels bounds "channels" of users/list; one is seen.
	maxChannels = 10
	// maxScan is how many pages of the backend one query reads to find what a filter wants. A query that finds little
	// answers with a short page and a marker.
	maxScan = 5
	// maxMarker bounds a marker in bytes: two sort names of 80 characters, an id, and maxFirstBytes.
	maxMarker = 4096
)

// listArgs are the arguments of users/list and emojis/list.
type listArgs struct {
	channels []protocol.ChannelID
	filter   filter
	present  bool
	order    protocol.ListOrder
	count    int
	marker   marker
}

func (l *listArgs) kinds() cache.Kinds { return cache.KindsOf(l.filter) }

// marker says where a page ended. Sort and ID name the last entry that was served, so that what was added or removed
// meanwhile shifts nothing. Page is the backend's cursor of the page in which it ended, "" for the first, or if the page
// came from a directory. First names those who were listed before all others; if that was the whole page, there is no ID.
type marker struct {
	Order protocol.ListOrder `json:"o,omitempty"`
	Page  string             `json:"p,omitempty"`
	Sort  string             `json:"s,omitempty"`
	ID    protocol.ObjectID  `json:"i,omitempty"`
	First firsts             `json:"f,omitempty"`
}

func (m marker) String() string { return base64.RawURLEncoding.EncodeToString(protocol.MustMarshal(m)) }

func parseMarker(text string) (m marker, err error) {
	if text == "" {
		return m, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(text) > maxMarker || json.Unmarshal(raw, &m) != nil || !m.begun() ||
		m.ID != "" && protocol.KindOf(m.ID) == "" || len(m.First) > maxFirst {
		return marker{}, &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	slices.Sort(m.First)
	return m, nil
}

// begun reports whether anything was listed.
func (m *marker) begun() bool { return m.ID != "" || len(m.First) > 0 }

// continues reports a marker that is not of such a list.
func (l *listArgs) continues(kind protocol.Kind) error {
	m := &l.marker
	if m.begun() && m.Order != l.order || m.ID != "" && protocol.KindOf(m.ID) != kind || len(m.First) > 0 && kind != protocol.KindUser {
		return &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	return nil
}

// passed reports whether the marker stands at or behind the entry, which was then served already.
func (m *marker) passed(e *protocol.ListEntry) bool {
	if m.ID == "" {
		return false
	}
	if m.Order == protocol.ByName && e.SortName != m.Sort {
		return e.SortName < m.Sort
	}
	return e.ID <= m.ID
}

func (r *reader) listArgs(args json.RawMessage) (l listArgs, err error) {
	l = listArgs{count: defaultCount, order: protocol.ByName, filter: atoms["everyone"]}
	text := ""
	err = fields(args, func(name string, value []byte) (err error) {
		valid := true
		switch name {
		case "present_first":
			l.present, err = jsonFlag(name, value)
		case "channels":
			l.channels, err = jsonTexts[protocol.ChannelID](name, value, maxChannels)
		case "count":
			var n int64
			if n, err = jsonWhole(name, value); err == nil && (n < 1 || n > maxCount) {
				err = badArg(name, "between 1 and 1000")
			}
			l.count = int(n)
		case "filter":
			if text, valid = jsonText(value); valid {
				l.filter, err = parseFilter(text)
			}
		case "index":
			if text, valid = jsonText(value); valid {
				switch text {
				case "", "users_by_display_name", "users_by_real_name":
				case "users_by_id":
					l.order = protocol.ByID
				default:
					err = badArg(name, "users_by_display_name or users_by_id")
				}
			}
		case "marker":
			if text, valid = jsonText(value); valid {
				l.marker, err = parseMarker(text)
			}
		}
		if !valid {
			err = badArg(name, "a string")
		}
		return err
	})
	return l, err
}

// usersListQuery answers a page of the workspace's users or of the members of channels, by name or id.
func usersListQuery(r *reader, args json.RawMessage) ([]byte, error) {
	l, err := r.listArgs(args)
	if err != nil {
		return nil, err
	}
	if len(l.channels) > 0 {
		return r.channelsUsers(&l)
	}
	d := r.index(protocol.KindUser, false)
	if d == nil && l.presentFirst() && r.full {
		// The backend's pages say nothing of who is active. If it takes too long, this list goes without.
		d = r.waitIndex(protocol.KindUser, r.s.config.PendingAfter)
	}
	if d != nil {
		return r.fromIndex(d, &l)
	}
	return r.directory(protocol.KindUser, &l, func(e *protocol.ListEntry) bool {
		return l.filter(cache.TraitsOf(e)) && !l.marker.First.has(e.ID)
	})
}

func emojisListQuery(r *reader, args json.RawMessage) ([]byte, error) {
	l, err := r.listArgs(args)
	if err != nil {
		return nil, err
	}
	l.order, l.present = protocol.ByID, false
	return r.directory(protocol.KindEmoji, &l, func(*protocol.ListEntry) bool { return true })
}

// directory answers a page of the objects of the workspace that keep wants and the reader may see.
func (r *reader) directory(kind protocol.Kind, l *listArgs, keep func(*protocol.ListEntry) bool) ([]byte, error) {
	if err := l.continues(kind); err != nil {
		return nil, err
	}
	if !r.full {
		if kind != protocol.KindUser {
			return ok(append([]byte(nil), `{"results":[]`...)), nil // Guests see nothing of the kind.
		}
		return r.guestDirectory(l, keep)
	}
	b := append([]byte(nil), `{"results":[`...)
	at := l.marker
	at.Order = l.order
	// Room for what a filter leaves out, in steps that make equal requests of equal queries.
	limit := min(max(2*l.count, 100), protocol.MaxListLimit)
	left, more := l.count, true
	for scan := 0; scan < maxScan && left > 0 && more; scan++ {
		answer, err := r.s.loader.List(r.ctx, protocol.ListRequest{
			Workspace: r.workspace, Kind: kind, Order: l.order, Cursor: at.Page, Limit: limit, AtLeast: r.atLeast()})
		if err != nil {
			return nil, asError(err)
		}
		var ids []protocol.ObjectID
		for i := range answer.Entries {
			if e := &answer.Entries[i]; !at.passed(e) && keep(e) {
				ids = append(ids, e.ID)
			}
		}
		// Batches of what is still wanted: a guest, who sees few of them, goes through more.
		last := protocol.ObjectID("")
		for len(ids) > 0 && left > 0 {
			part := ids[:min(len(ids), left)]
			ids = ids[len(part):]
			last = part[len(part)-1]
			var shown []protocol.ObjectID
			if b, shown, err = r.appendVisible(b, part); err != nil {
				return nil, err
			}
			left -= len(shown)
		}
		if left == 0 && (len(ids) > 0 || answer.NextCursor != "") {
			i := slices.IndexFunc(answer.Entries, func(e protocol.ListEntry) bool { return e.ID == last })
			at.Sort, at.ID = answer.Entries[i].SortName, last
			return ok(r.nextMarker(b, at, l.order)), nil
		}
		if more = answer.NextCursor != ""; more {
			at.Page = answer.NextCursor
			// A marker of a directory has no page: what it has passed is passed from the beginning.
			if n := len(answer.Entries); n > 0 && !at.passed(&answer.Entries[n-1]) {
				at.Sort, at.ID = answer.Entries[n-1].SortName, answer.Entries[n-1].ID
			}
		}
	}
	if more {
		return ok(r.nextMarker(b, at, l.order)), nil
	}
	return ok(append(b, ']')), nil
}

func (r *reader) nextMarker(b []byte, at marker, order protocol.ListOrder) []byte {
	if order != protocol.ByName {
		at.Sort = ""
	}
	b = append(b, `],"next_marker":`...)
	return protocol.AppendString(b, at.String())
}

// appendVisible appends those of the objects that the reader may see, and tells which.
func (r *reader) appendVisible(b []byte, ids []protocol.ObjectID) ([]byte, []protocol.ObjectID, error) {
	objects, err := r.objects(ids)
	if err != nil {
		return nil, nil, err
	}
	shown := make([]protocol.ObjectID, 0, len(ids))
	for i := range objects {
		o := &objects[i]
		if o.ID == "" {
			continue
		}
		sees, err := r.sees(o)
		if err != nil {
			return nil, nil, err
		}
		if !sees {
			continue
		}
		shown = append(shown, o.ID)
		if b = separated(b); o.Kind == protocol.KindUser {
			b = r.appendUser(b, o)
		} else {
			b = append(b, o.Body...)
		}
	}
	return b, shown, nil
}

// channelsUsers answers a page of the users who are in any of the channels, by name or id.
func (r *reader) channelsUsers(l *listArgs) ([]byte, error) {
	if l.marker.begun() {
		if l.marker.Order != protocol.ByID && l.marker.Order != protocol.ByName {
			return nil, &protocol.Error{Code: protocol.CodeInvalidCursor}
		}
		l.order = l.marker.Order // The first page may not have had names.
	}
	if err := l.continues(protocol.KindUser); err != nil {
		return nil, err
	}
	for _, ch := range l.channels {
		if _, err := r.object(protocol.ObjectID(ch), protocol.KindChannel, protocol.CodeChannelNotFound); err != nil {
			return nil, err
		}
	}
	if l.order == protocol.ByName {
		if b, err := r.channelsByName(l); b != nil || err != nil {
			return b, err
		}
		if l.marker.begun() {
			return nil, unavailable("the names are not known now")
		}
	}
	return r.channelsByID(l)
}

// channelsByID answers in id order: member sets know no names.
func (r *reader) channelsByID(l *listArgs) ([]byte, error) {
	b := append([]byte(nil), `{"results":[`...)
	from := protocol.UserID("")
	if l.marker.ID != "" {
		from = protocol.UserID(l.marker.ID) + "0" // the first string behind the id
	}
	first, left := l.marker.First, l.count
	if l.presentFirst() {
		var err error
		if b, first, err = r.presentByID(l, b); err != nil {
			return nil, err
		}
		if left -= len(first); left == 0 {
			return ok(r.nextMarker(b, marker{Order: protocol.ByID, First: first}, protocol.ByID)), nil
		}
	}
	for range maxScan {
		page, next, err := r.unionPage(l.channels, from, min(2*left, maxCount))
		if err != nil {
			return nil, err
		}
		ids := slices.DeleteFunc(objectIDs(page), first.has)
		objects, err := r.objects(ids)
		if err != nil {
			return nil, err
		}
		for i := range objects {
			o := &objects[i]
			if o.ID == "" || !l.filter(traitsOfBody(o.Body)) {
				continue
			}
			if sees, err := r.sees(o); err != nil {
				return nil, err
			} else if !sees {
				continue
			}
			b = r.appendUser(separated(b), o)
			if left--; left == 0 {
				if i == len(objects)-1 && next == "" {
					break
				}
				return ok(r.nextMarker(b, marker{Order: protocol.ByID, ID: o.ID, First: first}, protocol.ByID)), nil
			}
		}
		if next == "" {
			return ok(append(b, ']')), nil
		}
		from = next
	}
	at := marker{Order: protocol.ByID, ID: protocol.ObjectID(strings.TrimSuffix(before(string(from)), "0")), First: first}
	return ok(r.nextMarker(b, at, protocol.ByID)), nil
}

// unionPage returns up to limit users of any of the channels in id order, beginning at from, and where to go on.
func (r *reader) unionPage(channels []protocol.ChannelID, from protocol.UserID, limit int) (page []protocol.UserID, next protocol.UserID, err error) {
	for _, ch := range channels {
		users, after, err := r.memberPage(ch, from, limit)
		if err != nil {
			return nil, "", err
		}
		page = append(page, users...)
		if after != "" && (next == "" || after < next) {
			next = after
		}
	}
	slices.Sort(page)
	page = slices.Compact(page)
	if next != "" { // Beyond it a channel has more that was not read.
		end, _ := slices.BinarySearch(page, next)
		page = page[:end]
	}
	return page, next, nil
}
