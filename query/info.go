package query

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"

	"flannel/cache"
	"flannel/protocol"
)

// wanted is one id of a conditional read and the version that the client has; 0 if it has none.
type wanted struct {
	id      protocol.ObjectID
	version protocol.Version
}

// info is one conditional read: users/info, channels/info, emojis/info or usergroups/info. What is in memory goes
// straight into results; the rest is loaded in one go.
type info struct {
	*reader
	kind protocol.Kind
	// results is the array of bodies so far, without brackets.
	results []byte
	missing []wanted
	failed  []protocol.ObjectID
	pending []protocol.ObjectID
	// seen has every id that can be resolved and seen, if the query wants to know more about them.
	keep bool
	seen []protocol.ObjectID
	mute []bool // by seen: deactivated
}

// scratch holds buffers in which results are put together, because their size is known only at the end.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// maxScratch keeps the buffers of unusually large answers out of the pool.
const maxScratch = 1 << 20

func usersInfoQuery(r *reader, args json.RawMessage) ([]byte, error) {
	q := info{reader: r, kind: protocol.KindUser}
	buf := q.begin()
	defer q.end(buf)
	interaction, err := flag(args, "check_interaction")
	if err != nil {
		return nil, err
	}
	q.keep = interaction
	if err := q.updated(args); err != nil {
		return nil, err
	}
	if err := q.loadMissing(); err != nil {
		return nil, err
	}
	b := q.answer()
	if interaction && len(q.seen) > 0 {
		b = append(b, `,"can_interact":{`...)
		for i, id := range q.seen {
			b = append(protocol.AppendString(separated(b), id), ':')
			b = strconv.AppendBool(b, !q.mute[i])
		}
		b = append(b, '}')
	}
	return ok(b), nil
}

func channelsInfoQuery(r *reader, args json.RawMessage) ([]byte, error) {
	q := info{reader: r, kind: protocol.KindChannel}
	buf := q.begin()
	defer q.end(buf)
	check, err := flag(args, "check_membership")
	if err != nil {
		return nil, err
	}
	q.keep = check
	if err := q.updated(args); err != nil {
		return nil, err
	}
	if err := q.loadMissing(); err != nil {
		return nil, err
	}
	b := q.answer()
	if check {
		var mine []protocol.ObjectID
		for _, id := range q.seen {
			if _, member := r.membership(protocol.ChannelID(id)); member && r.fresh {
				mine = append(mine, id)
			}
		}
		b = appendIDs(b, "member_channels", mine)
	}
	return ok(b), nil
}

func emojisInfoQuery(r *reader, args json.RawMessage) ([]byte, error) {
	q := info{reader: r, kind: protocol.KindEmoji}
	buf := q.begin()
	defer q.end(buf)
	if err := q.updated(args); err != nil {
		return nil, err
	}
	if err := q.loadMissing(); err != nil {
		return nil, err
	}
	return ok(q.answer()), nil
}

func usergroupsInfoQuery(r *reader, args json.RawMessage) ([]byte, error) {
	q := info{reader: r, kind: protocol.KindUsergroup}
	buf := q.begin()
	defer q.end(buf)
	if raw := protocol.Field(args, "ids"); raw != nil {
		ids, err := jsonTexts[protocol.ObjectID]("ids", raw, r.s.config.MaxIDs)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			q.read(wanted{id: id})
		}
	}
	if err := q.updated(args); err != nil {
		return nil, err
	}
	if err := q.loadMissing(); err != nil {
		return nil, err
	}
	return ok(q.answer()), nil
}

func flag(args json.RawMessage, name string) (bool, error) {
	raw := protocol.Field(args, name)
	if raw == nil {
		return false, nil
	}
	return jsonFlag(name, raw)
}

func (q *info) begin() *[]byte {
	buf := scratch.Get().(*[]byte)
	q.results = (*buf)[:0]
	return buf
}

func (q *info) end(buf *[]byte) {
	if cap(q.results) <= maxScratch {
		*buf = q.results
		scratch.Put(buf)
	}
}

// updated reads the ids of updated_ids, those in memory at once.
func (q *info) updated(args json.RawMessage) error {
	raw := protocol.Field(args, "updated_ids")
	if raw == nil || string(raw) == "null" {
		return nil
	}
	n := 0
	var err error
	object := protocol.EachField(raw, func(name, value []byte) bool {
		if n++; n > q.s.config.MaxIDs {
			err = badArg("updated_ids", "an object of at most "+strconv.Itoa(q.s.config.MaxIDs)+" ids")
			return false
		}
		var version int64
		if version, err = jsonWhole("updated_ids", value); err != nil {
			return false
		}
		q.read(wanted{q.idOf(name), protocol.Version(version)})
		return true
	})
	if !object {
		return badArg("updated_ids", "an object of ids and versions")
	}
	return err
}

// idOf makes an object id of a raw JSON name: for an emoji of its name in the workspace.
func (q *info) idOf(name []byte) protocol.ObjectID {
	text := string(name)
	if slices.Contains(name, '\\') {
		text, _ = jsonText(append(append([]byte{'"'}, name...), '"'))
	}
	if q.kind == protocol.KindEmoji {
		return protocol.EmojiID(q.workspace, text)
	}
	return protocol.ObjectID(text)
}

// read answers one id from memory, or leaves it for loadMissing.
func (q *info) read(w wanted) {
	if len(w.id) > protocol.MaxIDLength+64 || protocol.KindOf(w.id) != q.kind { // 64: emoji ids are longer than others
		q.failed = append(q.failed, w.id)
		return
	}
	o, freshness := q.look(w.id)
	switch {
	case freshness == cache.Absent:
		q.failed = append(q.failed, w.id)
	case freshness == cache.Missing, freshness == cache.Fresh && w.version > o.Version:
		// The client has seen a newer one elsewhere: ask the backend rather than show it an older one.
		q.missing = append(q.missing, w)
	case w.version > o.Version: // stale: what the client has is better
	default:
		q.put(&o, w.version)
	}
}

// put adds an object to the answer if it may be seen and is not what the client has.
func (q *info) put(o *protocol.Object, have protocol.Version) {
	sees, err := q.sees(o)
	switch {
	case err != nil:
		q.pending = append(q.pending, o.ID)
		return
	case !sees:
		q.failed = append(q.failed, o.ID)
		return
	}
	if q.keep {
		q.seen = append(q.seen, o.ID)
		q.mute = append(q.mute, string(protocol.Field(o.Body, "deleted")) == "true")
	}
	if o.Version == have {
		return
	}
	if len(q.results) > 0 {
		q.results = append(q.results, ',')
	}
	switch q.kind {
	case protocol.KindUser:
		q.results = q.appendUser(q.results, o)
	case protocol.KindChannel:
		q.results = q.appendChannel(q.results, o, nil)
	default:
		q.results = append(q.results, o.Body...)
	}
}

// loadMissing loads what was not in memory. Ids that do not come in time are pending: the client asks again. It fails
// only if the backend cannot be reached and nothing at all can be answered.
func (q *info) loadMissing() error {
	if len(q.missing) == 0 {
		return nil
	}
	ids := make([]protocol.ObjectID, len(q.missing))
	have := make(map[protocol.ObjectID]protocol.Version, len(q.missing))
	for i, w := range q.missing {
		ids[i], have[w.id] = w.id, w.version
	}
	found, err := q.load(ids, q.s.config.PendingAfter)
	for i := range found {
		o := &found[i]
		if version, asked := have[o.ID]; asked {
			delete(have, o.ID)
			q.put(o, version)
		}
	}
	if err != nil && !errors.Is(err, errPending) && len(q.results) == 0 && len(q.seen) == 0 && len(q.failed) == 0 && len(found) == 0 {
		return err
	}
	for _, id := range ids { // In the order of the request.
		if _, left := have[id]; !left {
			continue
		}
		delete(have, id)
		if err != nil {
			q.pending = append(q.pending, id)
		} else {
			q.failed = append(q.failed, id)
		}
	}
	return nil
}

// answer returns the answer so far, an object that is not closed.
func (q *info) answer() []byte {
	q.s.metrics.pending.Add(float64(len(q.pending)))
	b := make([]byte, 0, len(q.results)+64+20*(len(q.failed)+len(q.pending)+2*len(q.seen)))
	b = append(b, `{"results":[`...)
	b = append(b, q.results...)
	b = append(b, ']')
	if q.kind == protocol.KindEmoji {
		plainNames(q.failed)
		plainNames(q.pending)
	}
	b = appendIDs(b, "failed_ids", q.failed)
	return appendIDs(b, "pending_ids", q.pending)
}

// plainNames turns the object ids of emoji back into the names that clients know.
func plainNames(ids []protocol.ObjectID) {
	for i, id := range ids {
		_, name, _ := protocol.EmojiName(id)
		ids[i] = protocol.ObjectID(name)
	}
}

// appendIDs appends a field with a list of ids; nothing for an empty one.
func appendIDs[S ~string](b []byte, name string, ids []S) []byte {
	if len(ids) == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	return protocol.AppendStrings(b, ids)
}

// ok ends an answer.
func ok(b []byte) []byte { return append(b, `,"ok":true}`...) }
