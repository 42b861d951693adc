package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// UserBootParts is all that client.userBoot says. The edge takes the parts from its cache and the backend from its
// store; both compose them here, so both say the same.
type UserBootParts struct {
	Self json.RawMessage // body of the user
	Team json.RawMessage // body of the workspace
	// Memberships in id order. Bodies[i] is the body of the channel Memberships[i]; nil if it is not at hand (then the
	// channel is named by its membership alone). Bodies of direct messages are not needed and not looked at.
	Memberships []Membership
	Bodies      []json.RawMessage
	// Slims[i], if there is one and it is not nil, is what AppendSlim says of the body, which is the same for everybody and
	// may be kept. The body is not needed then.
	Slims            [][]byte
	Prefs            json.RawMessage
	Usergroups       []ObjectID
	Workspaces       []WorkspaceID
	DefaultWorkspace WorkspaceID
	// Now is the Unix time of the answer, in seconds. It is the cache version of everything that has none of its own,
	// so that a client which compares versions reloads it.
	Now int64
}

// UserBootOptions are the arguments of client.userBoot.
type UserBootOptions struct {
	// Lazy leaves of a channel only {id, name, updated, is_private}, and of a direct message {id, user, updated, is_open}.
	Lazy bool
	// MinChannelUpdated leaves out the channels whose version is not above it and names them in unchanged_channel_ids.
	MinChannelUpdated Version
}

// UserBootArgs reads the options from the arguments of a call.
func UserBootArgs(args Args) (UserBootOptions, error) {
	since, err := args.Int("min_channel_updated", 0)
	if err != nil {
		return UserBootOptions{}, err
	}
	return UserBootOptions{Lazy: args.Bool("lazy_channels", false), MinChannelUpdated: Version(since)}, nil
}

// InBoot reports whether the boot shows the body of the membership's channel: every conversation that is not archived,
// but for direct messages, which are told by their membership.
func (m *Membership) InBoot() bool { return m.Type != TypeDM && !m.Archived }

// ComposeUserBoot returns the answer of client.userBoot. Bodies are copied field by field, not decoded. Read markers and
// latest are not in it: client.counts tells them, and clients take them from there (63 bytes less for each channel).
func ComposeUserBoot(p *UserBootParts, opts UserBootOptions) []byte {
	perChannel := 480 // A full entry has 375 bytes and the name twice, topic and purpose.
	if opts.Lazy {
		perChannel = 120
	}
	return AppendUserBoot(make([]byte, 0, 1024+len(p.Self)+len(p.Team)+len(p.Prefs)+perChannel*len(p.Memberships)), p, opts)
}

// AppendUserBoot appends what ComposeUserBoot returns.
func AppendUserBoot(b []byte, p *UserBootParts, opts UserBootOptions) []byte {
	b = append(b, `{"ok":true,"self":`...)
	b = append(b, rawOr(p.Self, "{}")...)
	b = append(b, `,"team":`...)
	b = append(b, rawOr(p.Team, "{}")...)
	b = append(b, `,"ims":[`...)
	for i := range p.Memberships {
		if m := &p.Memberships[i]; m.Type == TypeDM {
			b = appendBootDM(comma(b), m, opts.Lazy)
		}
	}
	b = append(b, `],"channels":[`...)
	unchanged := 0
	for i := range p.Memberships {
		m := &p.Memberships[i]
		switch {
		case !m.InBoot():
		case m.Updated <= opts.MinChannelUpdated:
			unchanged++
		default:
			var body, slim []byte
			if i < len(p.Bodies) {
				body = p.Bodies[i]
			}
			if i < len(p.Slims) {
				slim = p.Slims[i]
			}
			b = appendBootChannel(comma(b), m, body, slim, opts.Lazy)
		}
	}
	b = append(b, ']')
	if unchanged > 0 {
		b = append(b, `,"unchanged_channel_ids":[`...)
		for i := range p.Memberships {
			if m := &p.Memberships[i]; m.InBoot() && m.Updated <= opts.MinChannelUpdated {
				b = AppendString(comma(b), m.Channel)
			}
		}
		b = append(b, ']')
	}
	b = append(b, `,"is_open":[`...)
	for i := range p.Memberships {
		if m := &p.Memberships[i]; m.Open && (m.Type == TypeDM || m.Type == TypeGroupDM) {
			b = AppendString(comma(b), m.Channel)
		}
	}
	b = append(b, `],"workspaces":`...)
	b = AppendStrings(b, p.Workspaces)
	b = append(b, `,"default_workspace":`...)
	b = AppendString(b, p.DefaultWorkspace)
	b = append(b, `,"prefs":`...)
	b = append(b, rawOr(p.Prefs, "{}")...)
	b = append(b, `,"subteams":{"self":`...)
	b = AppendStrings(b, p.Usergroups)
	b = append(b, `},"emoji_cache_ts":`...)
	b = strconv.AppendInt(b, p.Now, 10)
	b = append(b, `,"cache_ts":`...)
	b = strconv.AppendInt(b, p.Now, 10)
	return append(b, '}')
}

func appendBootDM(b []byte, m *Membership, lazy bool) []byte {
	b = append(b, `{"id":`...)
	b = AppendString(b, m.Channel)
	b = append(b, `,"user":`...)
	b = AppendString(b, m.Peer)
	b = append(b, `,"updated":`...)
	b = strconv.AppendInt(b, int64(m.Updated), 10)
	b = append(b, `,"is_open":`...)
	b = strconv.AppendBool(b, m.Open)
	if !lazy {
		b = append(b, `,"is_im":true,"is_archived":`...)
		b = strconv.AppendBool(b, m.Archived)
		b = append(b, `,"context_team_id":`...)
		b = AppendString(b, m.Owner)
	}
	return append(b, '}')
}

func appendBootChannel(b []byte, m *Membership, body, slim []byte, lazy bool) []byte {
	b = append(b, `{"id":`...)
	b = AppendString(b, m.Channel)
	b = append(b, `,"is_private":`...)
	b = strconv.AppendBool(b, m.Type != TypePublic)
	own := len(b)
	if slim != nil {
		b = append(b, slim...)
	} else {
		b = AppendSlim(b, body, lazy)
	}
	if !bytes.HasPrefix(b[own:], []byte(slimUpdated)) {
		b = append(b, slimUpdated...)
		b = strconv.AppendInt(b, int64(m.Updated), 10)
	}
	if !lazy {
		b = append(b, `,"is_member":true`...)
	}
	return append(b, '}')
}

const slimUpdated = `,"updated":`

// AppendSlim appends what a boot says of a channel's body, each field behind a comma: its version first, if it has one. The
// body may be newer than the membership, and a version stands for one body.
func AppendSlim(b, body []byte, lazy bool) []byte {
	if updated := Field(body, "updated"); updated != nil && string(updated) != "0" {
		b = append(b, slimUpdated...)
		b = append(b, updated...)
	}
	EachField(body, func(name, value []byte) bool {
		switch string(name) {
		case "name":
			if lazy { // Nothing else is wanted of the body.
				b = append(b, `,"name":`...)
				b = append(b, value...)
				return false
			}
		case "name_normalized", "created", "context_team_id", "is_channel", "is_group", "is_im", "is_mpim", "is_archived",
			"is_general", "is_shared", "is_org_shared", "is_ext_shared", "members":
			if lazy {
				return true
			}
		case "topic", "purpose":
			if lazy {
				return true
			}
			text := Field(value, "value")
			if text == nil {
				text = []byte(`""`)
			}
			b = append(b, `,"`...)
			b = append(b, name...)
			b = append(b, `":{"value":`...)
			b = append(b, text...)
			b = append(b, '}')
			return true
		default:
			return true
		}
		b = append(b, `,"`...)
		b = append(b, name...)
		b = append(b, `":`...)
		b = append(b, value...)
		return true
	})
	return b
}

// ComposeCounts returns the answer of client.counts for memberships in id order: every conversation that is not
// archived.
func ComposeCounts(memberships []Membership) []byte {
	return AppendCounts(make([]byte, 0, 128+210*len(memberships)), memberships, false) // One entry has about 200 bytes.
}

// AppendCounts appends what ComposeCounts returns. For a lazy boot it leaves out what says nothing: updated, which is latest, and
// history_invalid, which is always zero. That is a third of it.
func AppendCounts(b []byte, memberships []Membership, lazy bool) []byte {
	b = append(b, `{"ok":true,"threads":{"has_unreads":false,"mention_count":0}`...)
	for _, list := range []struct {
		name string
		has  func(ChannelType) bool
	}{
		{"channels", func(t ChannelType) bool { return t != TypeDM && t != TypeGroupDM }},
		{"mpims", func(t ChannelType) bool { return t == TypeGroupDM }},
		{"ims", func(t ChannelType) bool { return t == TypeDM }},
	} {
		b = append(b, `,"`...)
		b = append(b, list.name...)
		b = append(b, `":[`...)
		for i := range memberships {
			if m := &memberships[i]; !m.Archived && list.has(m.Type) {
				b = appendCounts(comma(b), m, lazy)
			}
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendCounts appends CountsOf a membership as JSON, the same as Marshal writes them but for what lazy leaves out.
func appendCounts(b []byte, m *Membership, lazy bool) []byte {
	b = append(b, `{"id":`...)
	b = AppendString(b, m.Channel)
	b = append(b, `,"last_read":`...)
	b = AppendString(b, m.LastRead.OrZero())
	b = append(b, `,"latest":`...)
	latest := len(b)
	b = AppendString(b, m.Latest.OrZero())
	if !lazy {
		text := b[latest:]
		b = append(b, `,"updated":`...)
		b = append(b, text...)
		b = append(b, `,"history_invalid":"`+string(ZeroTS)+`"`...)
	}
	b = append(b, `,"mention_count":`...)
	b = strconv.AppendInt(b, int64(m.MentionCount), 10)
	b = append(b, `,"has_unreads":`...)
	b = strconv.AppendBool(b, m.Latest > m.LastRead)
	return append(b, '}')
}

// AppendStrings appends a JSON array of strings, [] for none.
func AppendStrings[S ~string](b []byte, list []S) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, s)
	}
	return append(b, ']')
}

// comma appends a comma unless b stands at the beginning of an array.
func comma(b []byte) []byte {
	if b[len(b)-1] == '[' {
		return b
	}
	return append(b, ',')
}
