package cache

import (
	"bytes"
	"encoding/json"
	"slices"

	"flannel/protocol"
)

// DirectoryLoad takes the pages of a list, in the order of ids, and becomes a Directory. It is used by one goroutine.
type DirectoryLoad struct {
	key       dirKey
	rows      *rows
	pages     int
	at, until protocol.Position // of the first page, and the last of all
	buf       []string
}

// LoadDirectory begins the load of a workspace's users or public channels.
func (c *Cache) LoadDirectory(w protocol.WorkspaceID, kind protocol.Kind) *DirectoryLoad {
	return &DirectoryLoad{key: dirKey{w, kind}, rows: newRows(c.numbers.Load()), buf: make([]string, 0, 32)}
}

// Add takes the next page. It keeps nothing of it. Pages may stand at different positions: what has changed since the
// first comes as events.
func (l *DirectoryLoad) Add(a *protocol.ListAnswer) {
	if l.pages == 0 {
		l.at = a.Position
	}
	l.pages++
	l.until = max(l.until, a.Position)
	r := l.rows
	ids := make([]protocol.ObjectID, len(a.Entries))
	for i := range a.Entries {
		ids[i] = a.Entries[i].ID
	}
	numbers := numberAll(r.numbers, nil, ids)
	for i := range a.Entries {
		e := &a.Entries[i]
		names, mails := wordsOf(e, l.buf)
		r.add(row{number: numbers[i], traits: TraitsOf(e), version: e.Version, sum: sumOf(r.numbers, e)}, []byte(e.SortName), names, mails)
	}
}

// Directory returns the directory of a workspace, Fresh or, while the stream is down, Stale for as long as objects are.
func (c *Cache) Directory(w protocol.WorkspaceID, kind protocol.Kind) (*Directory, Freshness) {
	d, ok := c.directories.get(dirKey{w, kind})
	now := c.now().UnixNano()
	down := c.down.Load()
	if !ok || !d.link.valid() || down != 0 && now-down > int64(c.config.StaleFor) {
		c.metrics.looked(directoryKind, resultMiss)
		return nil, Missing
	}
	d.used.Store(now)
	if down != 0 {
		c.metrics.looked(directoryKind, resultStale)
		return d, Stale
	}
	c.metrics.looked(directoryKind, resultHit)
	return d, Fresh
}

// FillDirectory takes a load whose last page has come, and brings it up to the events since. It returns ErrOutrun if
// the log does not reach back: load again. It returns nil if the directory cannot be kept: the workspace's topic is not
// followed from the load on, or the directory is larger than the bound.
func (c *Cache) FillDirectory(l *DirectoryLoad) (*Directory, error) {
	d := newDirectory(l.key, l.rows.distinct().segment(), c.now().UnixNano())
	d.at, d.until = l.at, l.until

	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topic(protocol.Topic(l.key.workspace))
	if t == nil {
		c.metrics.discarded.Inc()
		return nil, nil
	}
	tie, from := t.tie()
	switch {
	case l.at < from:
		c.metrics.discarded.Inc()
		return nil, nil
	case !t.reaches(l.at), d.numbers != c.numbers.Load():
		c.metrics.discarded.Inc()
		c.metrics.outrun.Inc()
		return nil, ErrOutrun
	}
	for _, r := range t.since(l.at) {
		for i := range r.effects {
			d.apply(&r.effects[i], r.position)
		}
	}
	d.link = tie
	c.dropDirectory(d.key)
	if !c.roomForDirectory(int(d.bytes.Load())) {
		c.metrics.discarded.Inc()
		return nil, nil
	}
	c.directories.put(d.key, d)
	return d, nil
}

// distinct leaves the later of two rows of one id, which a list in the order of ids should not have.
func (r *rows) distinct() *rows {
	latest := make(map[uint32]int, len(r.list))
	for i := range r.list {
		latest[r.list[i].number] = i
	}
	if len(latest) < len(r.list) {
		i := -1
		r.list = slices.DeleteFunc(r.list, func(w row) bool {
			i++
			return latest[w.number] != i
		})
	}
	return r
}

// apply brings the directory up to an effect.
func (d *Directory) apply(e *protocol.Effect, p protocol.Position) {
	switch {
	case e.Op == protocol.OpTombstone:
		if protocol.KindOf(e.ID) == d.key.kind {
			d.remove(e.ID, e.Version, p)
		}
	case e.Op != protocol.OpUpsert || e.Object == nil || e.Object.Kind != d.key.kind:
	case !d.lists(e.Object):
		d.remove(e.Object.ID, e.Object.Version, p)
	default:
		if entry, ok := EntryOf(e.Object); ok {
			d.upsert(&entry, p)
		}
	}
}

// lists reports whether an object belongs into the directory: a user of the workspace, or a public channel that is seen
// in it.
func (d *Directory) lists(o *protocol.Object) bool {
	if o.Kind == protocol.KindUser {
		return o.Owner == d.key.workspace
	}
	return slices.Contains(o.Visibility.Workspaces, d.key.workspace)
}

// EntryOf makes the list entry of a user or a channel from its body, as the backend does. It is not ok for anything else.
// The size of a channel is not known from it.
func EntryOf(o *protocol.Object) (e protocol.ListEntry, ok bool) {
	switch o.Kind {
	case protocol.KindUser:
		var u protocol.User
		ok = protocol.EachField(o.Body, func(name, value []byte) bool {
			switch string(name) {
			case "name":
				u.Name = text(value)
			case "real_name":
				u.RealName = text(value)
			case "deleted":
				u.Deleted = isTrue(value)
			case "is_restricted":
				u.IsRestricted = isTrue(value)
			case "is_ultra_restricted":
				u.IsUltraRestricted = isTrue(value)
			case "is_bot":
				u.IsBot = isTrue(value)
			case "is_app_user":
				u.IsAppUser = isTrue(value)
			case "profile":
				u.Profile.DisplayName, u.Profile.Email = text(protocol.Field(value, "display_name")), text(protocol.Field(value, "email"))
			}
			return true
		})
		e = u.Entry()
	case protocol.KindChannel:
		ch := protocol.Channel{Name: text(protocol.Field(o.Body, "name")), IsArchived: isTrue(protocol.Field(o.Body, "is_archived"))}
		e, ok = ch.Entry(), len(o.Body) > 0
	}
	e.ID, e.Version = o.ID, o.Version
	return e, ok
}

func isTrue(raw []byte) bool { return string(raw) == "true" }

// text decodes a JSON string; anything else is empty.
func text(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// toDirectories brings all directories up to an effect. It wants mu.
func (c *Cache) toDirectories(e *protocol.Effect, p protocol.Position) {
	if c.directories.len() == 0 {
		return
	}
	kind := protocol.KindOf(e.ID)
	if e.Object != nil {
		kind = e.Object.Kind
	}
	if kind != protocol.KindUser && kind != protocol.KindChannel {
		return
	}
	var full []dirKey
	c.directories.each(func(key dirKey, d *Directory) {
		if key.kind != kind {
			return
		}
		if d.apply(e, p); d.overfull() {
			full = append(full, key)
		}
	})
	for _, key := range full {
		c.dropDirectory(key)
		c.metrics.evictions[evictBound].Inc()
	}
}

// directoryBytes returns what directories and the numbering cost. It wants mu.
func (c *Cache) directoryBytes() int {
	n := c.numbers.Load().bytes()
	c.directories.each(func(_ dirKey, d *Directory) { n += int(d.bytes.Load()) })
	return n
}

// roomForDirectory drops the directories that were not used for longest until there is room, and reports whether there
// is. It wants mu.
func (c *Cache) roomForDirectory(bytes int) bool {
	if bytes > c.config.DirectoryBytes {
		return false
	}
	for c.directoryBytes()+bytes > c.config.DirectoryBytes {
		key, _, ok := c.directories.oldest(func(*Directory) bool { return false })
		if !ok {
			return false // The numbering takes it all; it is begun anew at the next Expire.
		}
		c.dropDirectory(key)
		c.metrics.evictions[evictBound].Inc()
	}
	return true
}

// dropDirectory gives a directory up. It wants mu.
func (c *Cache) dropDirectory(key dirKey) { c.directories.remove(key) }

// dropDirectories gives up what hangs on a workspace's topic. It wants mu.
func (c *Cache) dropDirectories(w protocol.WorkspaceID) {
	c.dropDirectory(dirKey{w, protocol.KindUser})
	c.dropDirectory(dirKey{w, protocol.KindChannel})
}

// expireDirectories gives up the directories that nobody has used for a while, and begins a new numbering when the old
// one, which never forgets an id, has taken half of the room: then all sets and directories are loaded again when they
// are needed. It wants mu.
func (c *Cache) expireDirectories(now int64) {
	var idle []dirKey
	c.directories.each(func(key dirKey, d *Directory) {
		if now-d.lastUse() > int64(c.config.DirectoryIdle) {
			idle = append(idle, key)
		}
	})
	for _, key := range idle {
		c.dropDirectory(key)
		c.metrics.evictions[evictGrace].Inc()
	}
	if c.numbers.Load().bytes() <= c.config.DirectoryBytes/2 {
		return
	}
	c.numbers.Store(newNumbers())
	for c.sets.len() > 0 {
		id, _, _ := c.sets.oldest(func(*Set) bool { return false })
		c.dropSet(id)
		c.metrics.evictions[evictBound].Inc()
	}
	for c.directories.len() > 0 {
		key, _, _ := c.directories.oldest(func(*Directory) bool { return false })
		c.dropDirectory(key)
		c.metrics.evictions[evictBound].Inc()
	}
}
