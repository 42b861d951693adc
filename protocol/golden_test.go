package protocol

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// The people and places of the golden files.
var (
	goldenUser = User{
		ID: "U0000001", TeamID: "T0000001", Name: "ada", RealName: "Ada Lovelace", Color: "9f69e7", TZ: "Europe/London",
		TZLabel: "GMT", Updated: 1500000001,
		Profile: Profile{Title: "Count <ess> & more", RealName: "Ada Lovelace", RealNameNormalized: "Ada Lovelace",
			DisplayName: "ada", DisplayNameNormalized: "ada", Email: "ada@example.com", Team: "T0000001",
			Fields: map[string]ProfileField{"Xf1": {Value: "London"}}},
	}
	goldenChannel = Channel{
		ID: "C0000001", Name: "general", NameNormalized: "general", Created: 1500000000, Creator: "U0000001",
		Updated: 1500000000123, ContextTeamID: "T0000001", IsChannel: true, IsGeneral: true,
		Topic: Purpose{Value: "all <of> us", Creator: "U0000001", LastSet: 1500000000}, Purpose: Purpose{Value: "talk"},
	}
	goldenWorkspace = Workspace{ID: "T0000001", Name: "Engine", Domain: "engine", Icon: map[string]string{}, Plan: "std", Updated: 1500000000}
	goldenMember    = Membership{Channel: "C0000001", Owner: "T0000001", Type: TypePublic, Updated: 1500000000123,
		LastRead: "1500000000.000100", Latest: "1500000001.000100", MentionCount: 2}
	goldenEvent = Event{
		Topic: "C0000001", Seq: 7, Position: 99, Type: "message", Class: ClassMessage, Refs: []ObjectID{"U0000001"},
		Effects: []Effect{{Op: OpMessageAdded, Channel: "C0000001", User: "U0000001", TS: "1500000001.000100",
			Latest: "1500000001.000100", Mentions: []UserID{"U0000002"}}},
		Payload: json.RawMessage(`{"type":"message","text":"a < b"}`),
	}
)

// goldens has one value of everything that is put on a socket.
func goldens() map[string]any {
	object := goldenUser.Object()
	return map[string]any{
		"hello": Hello{Type: FrameHello, Start: true, Region: "eu", HostID: "edge-1",
			Reconnect: Reconnect{MinMS: 100, MaxMS: 30000, StableMS: 60000, Jitter: "full"}},
		"message_frame":    MessageFrame{Channel: "C0000001", Text: "hi", ThreadTS: "1500000001.000100", ClientMsgID: "x"},
		"ack":              Ack{OK: true, ReplyTo: json.RawMessage("7"), TS: "1500000001.000100", Text: "a < b & c > d"},
		"nack":             Nack{ReplyTo: json.RawMessage("7"), Error: SocketError{Code: SocketErrTooFast, Msg: TooFastText}},
		"error_frame":      ErrorFrame{Type: FrameError, Error: SocketError{Code: SocketErrRateLimited, Msg: "Ratelimited", RetryAfter: 3}},
		"typing_frame":     TypingFrame{Channel: "C0000001"},
		"presence_frame":   PresenceFrame{IDs: []UserID{"U0000001", "U0000002"}},
		"query_frame":      QueryFrame{Method: "users/info", Args: json.RawMessage(`{"updated_ids":{"U0000001":0}}`)},
		"refresh_ask":      RefreshAsk{Type: FrameRefresh, Expires: 1500000060},
		"refresh_frame":    RefreshFrame{Token: "xoxp-new"},
		"refreshed":        Refreshed{OK: true, ReplyTo: json.RawMessage("7"), Expires: 1500003600},
		"presence_change":  PresenceChange{Type: FramePresenceChange, Presence: Active, User: "U0000001"},
		"presence_changes": PresenceChange{Type: FramePresenceChange, Presence: Away, Users: []UserID{"U0000001", "U0000002"}},
		"close_reason":     CloseReason{Reason: "slow", RetryMS: 1500, URL: "wss://other.example"},
		"message": Message{Type: "message", Channel: "C0000001", User: "U0000001", Text: "hi", TS: "1500000001.000100",
			Edited: &Edited{User: "U0000001", TS: "1500000002.000100"}, Reactions: []Reaction{{Name: "tada", Users: []UserID{"U0000001"}, Count: 1}}},
		"user": goldenUser, "channel": goldenChannel, "workspace": goldenWorkspace,
		"channel_viewer": ViewChannel(&Membership{Type: TypeDM, Peer: "U0000002", Open: true}),
		"bot":            Bot{ID: "B0000001", TeamID: "T0000001", Name: "robot", Updated: 5, Icons: &BotIcons{Image36: "https://x/36"}},
		"emoji":          Emoji{Workspace: "T0000001", Name: "parrot", Value: "https://x/p.gif", Updated: 5},
		"usergroup":      Usergroup{ID: "S0000001", TeamID: "T0000001", IsUsergroup: true, Name: "Eng", Handle: "eng", DateUpdate: 5, Users: []UserID{"U0000001"}, UserCount: 1},
		"event":          goldenEvent,
		"channel_counts": CountsOf(&goldenMember),

		"stream_hello":     StreamFrame{Type: StreamHello, Position: 9, ReplayFrom: 2, HeartbeatMS: 10000, Version: UpstreamVersion},
		"stream_subscribe": StreamFrame{Type: StreamSubscribe, Topics: []TopicState{{Topic: "T0000001", Position: new(Position(9))}, {Topic: "C0000001", Seq: new(Seq(0))}, {Topic: PresenceTopic("U0000001")}}},
		"stream_events":    StreamFrame{Type: StreamEvents, Events: []*Event{&goldenEvent}},
		"stream_reset":     StreamFrame{Type: StreamReset, Topics: []TopicState{{Topic: "C0000001", Seq: new(Seq(4)), Position: new(Position(11))}}},
		"stream_watermark": StreamFrame{Type: StreamWatermark, Position: 12},
		"stream_report":    StreamFrame{Type: StreamReport, Present: []UserID{"U0000001"}, Absent: []UserID{"U0000002"}},
		"stream_ping":      StreamFrame{Type: StreamPing, ID: 3},

		"identify_request": IdentifyRequest{Tokens: []string{"xoxp-1"}},
		"identify_answer": IdentifyAnswer{Position: 9, Identities: []Identity{{Token: "k1", User: "U0000001", UserName: "ada",
			Workspace: "T0000001", Workspaces: []WorkspaceID{"T0000001"}, Role: RoleMember}, {Error: CodeInvalidAuth}}},
		"boot_request": BootRequest{Users: []UserID{"U0000001"}, AtLeast: 9},
		"boot_answer": BootAnswer{Position: 9, Users: []UserBoot{{User: "U0000001", Workspace: "T0000001", Role: RoleMember,
			Self: &object, Prefs: json.RawMessage(`{"a":1}`), Memberships: []Membership{goldenMember}, Usergroups: []ObjectID{"S0000001"}}}},
		"objects_request": ObjectsRequest{Workspace: "T0000001", IDs: []ObjectID{"U0000001"}, AtLeast: 9},
		"objects_answer":  ObjectsAnswer{Objects: []Object{object}, Missing: []ObjectID{"U0000009"}, Position: 9},
		"members_request": MembersRequest{Channel: "C0000001", Cursor: "U0000001", Limit: 100},
		"members_answer":  MembersAnswer{Users: []UserID{"U0000001"}, NextCursor: "U0000001", Total: 2, Position: 9},
		"list_request":    ListRequest{Workspace: "T0000001", Kind: KindUser, Order: ByName, Limit: 10},
		"list_answer":     ListAnswer{Entries: []ListEntry{goldenUser.Entry()}, NextCursor: "x", Position: 9},
		"error_answer":    ErrorAnswer{Error: CodeBehind, Message: "not there yet", RetryAfter: 1},
	}
}

// TestGolden pins every frame and answer as it stands on the wire, and that decoding gives the value back.
func TestGolden(t *testing.T) {
	for name, value := range goldens() {
		t.Run(name, func(t *testing.T) {
			wire, err := Marshal(value)
			if err != nil {
				t.Fatal(err)
			}

			compareGolden(t, name, wire)

			back := reflect.New(reflect.TypeOf(value))
			if err := json.Unmarshal(wire, back.Interface()); err != nil {
				t.Fatal(err)
			}
			if again := MustMarshal(back.Interface()); !bytes.Equal(again, wire) {
				t.Errorf("round trip: %s\nwant %s", again, wire)
			}
		})
	}
}

func compareGolden(t *testing.T, name string, wire []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, wire, "", "  "); err != nil {
		t.Fatalf("not JSON: %v in %s", err, wire)
	}
	pretty.WriteByte('\n')
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pretty.Bytes(), want) {
		t.Errorf("%s differs from %s; run with -update if that is meant:\n%s", name, path, pretty.Bytes())
	}
}

// bootParts is a user with one conversation of each kind.
func bootParts() *UserBootParts {
	private := Channel{ID: "C0000002", Name: "öps", Updated: 1500000000456, ContextTeamID: "T0000001", IsPrivate: true, IsGroup: true}
	group := Channel{ID: "G0000001", Name: "mpdm-a--b-1", IsMPIM: true, IsPrivate: true, Members: []UserID{"U0000001", "U0000002"}}
	return &UserBootParts{
		Self: MustMarshal(goldenUser), Team: MustMarshal(goldenWorkspace), Prefs: json.RawMessage(`{"theme":"dark"}`),
		Memberships: []Membership{
			goldenMember,
			{Channel: "C0000002", Owner: "T0000001", Type: TypePrivate, Updated: 1500000000456},
			{Channel: "C0000003", Owner: "T0000001", Type: TypePublic, Updated: 1500000000789, Archived: true},
			{Channel: "C0000004", Owner: "T0000001", Type: TypePublic, Updated: 1500000000999},
			{Channel: "D0000001", Owner: "T0000001", Type: TypeDM, Peer: "U0000002", Updated: 3, Open: true},
			{Channel: "D0000002", Owner: "T0000001", Type: TypeDM, Peer: "U0000003", Updated: 4},
			{Channel: "G0000001", Owner: "T0000001", Type: TypeGroupDM, Updated: 5, Open: true},
		},
		Bodies:     []json.RawMessage{MustMarshal(goldenChannel), MustMarshal(private), nil, nil, nil, nil, MustMarshal(group)},
		Usergroups: []ObjectID{"S0000001"}, Workspaces: []WorkspaceID{"T0000001"}, DefaultWorkspace: "T0000001", Now: 1600000000,
	}
}

func TestComposeUserBoot_Golden(t *testing.T) {
	compareGolden(t, "user_boot", ComposeUserBoot(bootParts(), UserBootOptions{}))
	compareGolden(t, "user_boot_lazy", ComposeUserBoot(bootParts(), UserBootOptions{Lazy: true}))
	compareGolden(t, "user_boot_since", ComposeUserBoot(bootParts(), UserBootOptions{MinChannelUpdated: 1500000000123}))
	compareGolden(t, "user_boot_empty", ComposeUserBoot(&UserBootParts{}, UserBootOptions{}))
	compareGolden(t, "user_counts", ComposeCounts(bootParts().Memberships))
	compareGolden(t, "user_counts_empty", ComposeCounts(nil))
	compareGolden(t, "error_body", ErrorBody(Errorf(CodeUserNotFound, "no such user")))
}

func TestUserBootArgs(t *testing.T) {
	opts, err := UserBootArgs(Args{"lazy_channels": "1", "min_channel_updated": "1500000000123"})
	if err != nil || !opts.Lazy || opts.MinChannelUpdated != 1500000000123 {
		t.Errorf("got %+v, %v", opts, err)
	}
	if _, err := UserBootArgs(Args{"min_channel_updated": "soon"}); AsError(err).Code != CodeInvalidArgs {
		t.Errorf("got %v", err)
	}
}

// TestChannelCounts_AppendIsMarshal: the hand-written encoding is the same as the one by reflection.
func TestChannelCounts_AppendIsMarshal(t *testing.T) {
	for _, m := range []Membership{goldenMember, {}, {Channel: `C"\<é`, MentionCount: -1, Latest: "1"}} {
		counts := CountsOf(&m)
		if got, want := appendCounts(nil, &m, false), MustMarshal(counts); !bytes.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		lazy := MustMarshal(struct {
			ID           ChannelID `json:"id"`
			LastRead     TS        `json:"last_read"`
			Latest       TS        `json:"latest"`
			MentionCount int       `json:"mention_count"`
			HasUnreads   bool      `json:"has_unreads"`
		}{counts.ID, counts.LastRead, counts.Latest, counts.MentionCount, counts.HasUnreads})
		if got := appendCounts(nil, &m, true); !bytes.Equal(got, lazy) {
			t.Errorf("lazy: got  %s\nwant %s", got, lazy)
		}
	}
}

func hundredChannels() *UserBootParts {
	p := bootParts()
	p.Memberships, p.Bodies = nil, nil
	for i := range 100 {
		c := goldenChannel
		c.ID = ChannelID("C00000" + string(rune('A'+i/26)) + string(rune('A'+i%26)) + "00")
		c.Name = "project-" + string(c.ID)
		c.NameNormalized = c.Name
		c.Topic.Value, c.Purpose.Value = "what this project is about", "everything about it"
		m := goldenMember
		m.Channel = c.ID
		p.Memberships = append(p.Memberships, m)
		p.Bodies = append(p.Bodies, MustMarshal(c))
	}
	return p
}

// TestComposeUserBoot_Size holds the budget of the boot of 100 channels: 64 KiB for userBoot and counts, 32 KiB with
// lazy channels, of which the counts are 19.
func TestComposeUserBoot_Size(t *testing.T) {
	p := hundredChannels()
	full, lazy, counts := len(ComposeUserBoot(p, UserBootOptions{})), len(ComposeUserBoot(p, UserBootOptions{Lazy: true})), len(ComposeCounts(p.Memberships))
	t.Logf("100 channels: full %d B, lazy %d B, counts %d B", full, lazy, counts)
	if full+counts > 64<<10 || lazy+counts > 32<<10 {
		t.Errorf("too large")
	}
}

func BenchmarkComposeUserBoot(b *testing.B) {
	for name, opts := range map[string]UserBootOptions{"full": {}, "lazy": {Lazy: true}} {
		b.Run(name, func(b *testing.B) {
			p := hundredChannels()
			b.ReportAllocs()
			var n int
			for b.Loop() {
				n = len(ComposeUserBoot(p, opts))
			}
			b.ReportMetric(float64(n), "bytes/boot")
		})
	}
}

func BenchmarkComposeCounts(b *testing.B) {
	p := hundredChannels()
	b.ReportAllocs()
	for b.Loop() {
		ComposeCounts(p.Memberships)
	}
}

func TestTier(t *testing.T) {
	for tier, want := range map[Tier]int{Tier1: 120, Tier2: 400, Tier3: 1200, Tier4: 6000, TierPost: 1200} {
		if got := tier.PerMinute(); got != want {
			t.Errorf("tier %d: %d a minute, want %d", tier, got, want)
		}
	}
	for name, m := range Methods {
		if m.Tier == 0 {
			t.Errorf("%s has no tier", name)
		}
	}
}

func TestError(t *testing.T) {
	e := &Error{Code: CodeUnavailable, Retry: time.Second}
	if e.Error() != "service_unavailable" || Errorf(CodeInvalidArgs, "x %d", 1).Error() != "invalid_arguments: x 1" {
		t.Error("text")
	}
	if !e.Is(&Error{Code: CodeUnavailable}) || e.Is(&Error{Code: CodeBehind}) || e.Is(os.ErrNotExist) {
		t.Error("Is compares codes")
	}
	if AsError(os.ErrNotExist).Code != CodeInternal || AsError(e) != e {
		t.Error("AsError")
	}
}
