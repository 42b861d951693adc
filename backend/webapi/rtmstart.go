package webapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// maxListed is where the dialect cuts the members of a channel.
	maxListed = 1500
	// startTimeout bounds how long a client may take to read the whole workspace: the snapshot is held meanwhile. The
	// largest published one, 118 MB, takes this long at 400 KB/s.
	startTimeout = 5 * time.Minute
	// startBuffer is how much is written at once, in bytes.
	startBuffer = 64 << 10
)

// rtmStart answers with the whole workspace, as a chat product without an edge does: one query for each kind of
// thing, streamed as it is read. The address of the socket comes first, so that who passes the answer on can change
// it without reading the rest.
func rtmStart(q *request) (*protocol.Reply, error) {
	url, err := q.ticket()
	if err != nil {
		return nil, err
	}
	// The stream outlives the call.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.ctx), startTimeout)
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	s := &startStream{PipeReader: r, cancel: cancel}
	s.running.Go(func() {
		defer stop()
		out := bufio.NewWriterSize(w, startBuffer)
		err := q.Store.View(ctx, func(r store.Reader) error {
			return (&starter{request: q, r: r, view: chat.NewViewer(r, q.id), out: out}).write(url)
		})
		if err == nil {
			err = out.Flush()
		}
		if err != nil && !errors.Is(err, io.ErrClosedPipe) && ctx.Err() == nil {
			q.Log.Error("rtm.start broke off", "err", err)
		}
		w.CloseWithError(err)
	})
	return &protocol.Reply{Status: 200, Stream: s}, nil
}

// startStream is the reading end; Close ends the writer and waits for it.
type startStream struct {
	*io.PipeReader
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Close implements io.Closer.
func (s *startStream) Close() error {
	err := s.PipeReader.Close()
	s.cancel()
	s.running.Wait()
	return err
}

// starter writes one rtm.start.
type starter struct {
	*request
	r       store.Reader
	view    *chat.Viewer
	out     *bufio.Writer
	mine    []protocol.Membership
	users   []protocol.UserID              // written as users, in id order
	members map[protocol.ChannelID]*roster // of channels whose members are told
}

// roster is the beginning of a channel's member list: indexes into users, because a workspace of 148,170 has millions
// of memberships.
type roster struct {
	users []uint32
	total int
}

func (s *starter) write(url string) error {
	var err error
	if s.mine, err = s.r.Memberships(s.id.User); err != nil {
		return err
	}
	s.text(`{"ok":true,"url":`)
	s.value(url)
	for _, part := range []func() error{s.writeSelf, s.writeUsers, s.readMembers, s.writeChannels, s.writeBots, s.writeGroups} {
		if err := part(); err != nil {
			return err
		}
	}
	now := strconv.FormatInt(s.Now().Unix(), 10)
	s.text(`,"dnd":{"dnd_enabled":false,"next_dnd_start_ts":1,"next_dnd_end_ts":1,"snooze_enabled":false},"read_only_channels":[]`)
	s.text(`,"latest_event_ts":"` + now + `.000000","cache_ts":` + now + `,"cache_version":"v1","cache_ts_version":"v1"`)
	if slices.ContainsFunc(s.rosters(), func(r *roster) bool { return r.total > maxListed }) {
		s.text(`,"warning":"member_list_truncated"`)
	}
	s.text("}")
	return s.out.Flush() // bufio keeps the first error of all that was written
}

func (s *starter) rosters() []*roster {
	list := make([]*roster, 0, len(s.members))
	for _, r := range s.members {
		list = append(list, r)
	}
	return list
}

// text, value and body write and leave errors to the last Flush.
func (s *starter) text(t string) { s.out.WriteString(t) } //nolint:errcheck // see write
func (s *starter) body(b []byte) { s.out.Write(b) }       //nolint:errcheck // see write
func (s *starter) value(v any)   { s.body(protocol.MustMarshal(v)) }

// broken reports the writer's error early, so that nothing more is read for a client that is gone.
func (s *starter) broken() error {
	_, err := s.out.Write(nil)
	return err
}

func (s *starter) writeSelf() error {
	prefs, err := s.r.Prefs(s.id.User)
	if err != nil {
		return err
	}
	away, err := s.r.ManualAway(s.id.User)
	if err != nil {
		return err
	}
	presence := protocol.Active
	if away {
		presence = protocol.Away
	}
	s.text(`,"self":`)
	s.value(struct {
		ID             protocol.UserID   `json:"id"`
		Name           string            `json:"name"`
		ManualPresence protocol.Presence `json:"manual_presence"`
		Prefs          json.RawMessage   `json:"prefs"`
	}{s.id.User, s.id.UserName, presence, prefs})
	team, err := s.r.Object(protocol.ObjectID(s.id.Workspace))
	if err != nil {
		return err
	}
	s.text(`,"team":`)
	s.body(team.Body)
	return nil
}

// writeUsers writes the users of the workspace; for a guest, those who share a channel with them.
func (s *starter) writeUsers() error {
	s.text(`,"users":[`)
	each := func(o *protocol.Object) error {
		if len(s.users) > 0 {
			s.text(",")
		}
		s.users = append(s.users, protocol.UserID(o.ID))
		s.body(o.Body)
		return s.broken()
	}
	if s.id.Role.Full() {
		if err := s.r.EachObject(s.id.Workspace, protocol.KindUser, each); err != nil {
			return err
		}
	} else if err := s.eachCompanion(each); err != nil {
		return err
	}
	s.text("]")
	return nil
}

func (s *starter) eachCompanion(fn func(o *protocol.Object) error) error {
	q := *s.request
	q.r, q.view = s.r, s.view
	users, err := q.companions()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(users, protocol.MaxObjectIDs) {
		ids := make([]protocol.ObjectID, len(chunk))
		for i, u := range chunk {
			ids[i] = protocol.ObjectID(u)
		}
		objects, err := q.objects(ids)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if o := objects[id]; o != nil {
				if err := fn(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// readMembers reads who is in which channel, in one query for the workspace. Members that are not among the users
// written (strangers) are counted but not named.
func (s *starter) readMembers() error {
	index := make(map[protocol.UserID]uint32, len(s.users))
	for i, u := range s.users {
		index[u] = uint32(i)
	}
	s.members = make(map[protocol.ChannelID]*roster)
	add := func(channel protocol.ChannelID, user protocol.UserID) error {
		r := s.members[channel]
		if r == nil {
			r = new(roster)
			s.members[channel] = r
		}
		r.total++
		if i, ok := index[user]; ok && len(r.users) < maxListed {
			r.users = append(r.users, i)
		}
		return nil
	}
	if s.id.Role.Full() {
		return s.r.EachMembership(s.id.Workspace, add)
	}
	for i := range s.mine {
		users, _, total, err := s.r.Members(s.mine[i].Channel, "", maxListed)
		if err != nil {
			return err
		}
		for _, u := range users {
			add(s.mine[i].Channel, u) //nolint:errcheck // It returns none.
		}
		if r := s.members[s.mine[i].Channel]; r != nil {
			r.total = total
		}
	}
	return nil
}

// writeChannels writes public channels as they come, and after them what is private to the caller, which is little.
func (s *starter) writeChannels() error {
	rest := map[protocol.ChannelType][][]byte{}
	seen := make(map[protocol.ChannelID]bool, len(s.mine))
	first := true
	s.text(`,"channels":[`)
	each := func(o *protocol.Object) error {
		id := protocol.ChannelID(o.ID)
		m := findMembership(s.mine, id)
		public := len(o.Visibility.Workspaces) > 0
		if m == nil && (!public || !s.id.Role.Full()) {
			return nil
		}
		seen[id] = true
		body := s.channel(o, m)
		if m != nil && m.Type != protocol.TypePublic {
			rest[m.Type] = append(rest[m.Type], body)
			return nil
		}
		if !first {
			s.text(",")
		}
		first = false
		s.body(body)
		return s.broken()
	}
	if s.id.Role.Full() {
		if err := s.r.EachObject(s.id.Workspace, protocol.KindChannel, each); err != nil {
			return err
		}
	}
	// What a guest is in, and what other workspaces share with this one.
	var others []protocol.ObjectID
	for i := range s.mine {
		if !seen[s.mine[i].Channel] {
			others = append(others, protocol.ObjectID(s.mine[i].Channel))
		}
	}
	found, _, err := s.r.Objects(others)
	if err != nil {
		return err
	}
	for i := range found {
		if err := each(&found[i]); err != nil {
			return err
		}
	}
	s.text("]")
	for _, kind := range []struct {
		name string
		typ  protocol.ChannelType
	}{{"groups", protocol.TypePrivate}, {"mpims", protocol.TypeGroupDM}, {"ims", protocol.TypeDM}} {
		s.text(`,"` + kind.name + `":[`)
		for i, body := range rest[kind.typ] {
			if i > 0 {
				s.text(",")
			}
			s.body(body)
		}
		s.text("]")
	}
	return nil
}

// channel renders a channel with its members and, for one who is in it, where they stand.
func (s *starter) channel(o *protocol.Object, m *protocol.Membership) []byte {
	v := protocol.ViewChannel(m)
	r := s.members[protocol.ChannelID(o.ID)]
	if r != nil {
		v.NumMembers = &r.total
	}
	body := v.AppendViewer(nil, o.Body)
	extra := &answer{buf: []byte("{")}
	if m == nil || (m.Type != protocol.TypeDM && m.Type != protocol.TypeGroupDM) { // theirs are in the body
		extra.key("members")
		extra.buf = append(extra.buf, '[')
		if r != nil {
			for i, u := range r.users {
				if i > 0 {
					extra.buf = append(extra.buf, ',')
				}
				extra.buf = protocol.AppendString(extra.buf, s.users[u])
			}
		}
		extra.buf = append(extra.buf, ']')
	}
	if m != nil && !s.args.Bool("no_latest", false) {
		extra.val("latest", m.Latest.OrZero()) // simple_latest is all there is: the message itself would be a query for each channel
		if !s.args.Bool("no_unreads", false) {
			extra.val("has_unreads", m.Latest > m.LastRead).val("mention_count", m.MentionCount)
		}
	}
	return protocol.AppendFields(nil, body, extra.bytes())
}

func (s *starter) writeBots() error {
	first := true
	s.text(`,"bots":[`)
	err := s.r.EachObject(s.id.Workspace, protocol.KindBot, func(o *protocol.Object) error {
		if sees, err := s.view.Sees(o); err != nil || !sees {
			return err
		}
		if !first {
			s.text(",")
		}
		first = false
		s.body(o.Body)
		return s.broken()
	})
	s.text("]")
	return err
}

func (s *starter) writeGroups() error {
	first := true
	s.text(`,"subteams":{"all":[`)
	err := s.r.EachObject(s.id.Workspace, protocol.KindUsergroup, func(o *protocol.Object) error {
		if sees, err := s.view.Sees(o); err != nil || !sees {
			return err
		}
		if !first {
			s.text(",")
		}
		first = false
		s.body(o.Body)
		return nil
	})
	if err != nil {
		return err
	}
	own, err := s.r.Usergroups(s.id.User)
	if err != nil {
		return err
	}
	s.text(`],"self":`)
	s.value(orEmpty(own))
	s.text("}")
	return nil
}
