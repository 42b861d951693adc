package suite_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/slack-go/slack"

	"flannel/backend/token"
	"flannel/protocol"
)

// behaviours are what a client may rely on, wherever it is connected.
var behaviours = []struct {
	name string
	run  func(t *testing.T, w *world, base string)
}{
	{"hello and ping", pingIsAnswered},
	{"a message over RTM reaches another client", messageOverRTM},
	{"a message over HTTP reaches another client", messageOverHTTP},
	{"a message sent twice is one message", messageTwice},
	{"typing", typing},
	{"edit and delete", editAndDelete},
	{"reactions", reactions},
	{"threads", threads},
	{"create, invite, leave, join, archive", channelLife},
	{"direct messages", directMessages},
	{"mark as read", markRead},
	{"presence", presence},
	{"users", users},
	{"conversations", conversations},
	{"a profile change is seen", profileChange},
	{"read your writes", readYourWrites},
	{"emoji and bots", emojiAndBots},
	{"invalid token", invalidToken},
	{"revoked token", revokedToken},
	{"rate limit", rateLimit},
	{"a private channel stays private", privateStaysPrivate},
}

func TestBehaviours(t *testing.T) {
	w := newWorld(t, 12)
	for _, at := range []struct{ name, base string }{{"edge", w.edgeURL()}, {"backend", w.backendURL()}} {
		t.Run(at.name, func(t *testing.T) {
			for _, b := range behaviours {
				t.Run(b.name, func(t *testing.T) { b.run(t, w, at.base) })
			}
		})
	}
}

func general(t *testing.T, api *slack.Client) string {
	t.Helper()
	channels, _, err := api.GetConversationsContext(t.Context(), &slack.GetConversationsParameters{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range channels {
		if c.IsGeneral {
			return c.ID
		}
	}
	t.Fatal("there is no general channel")
	return ""
}

func pingIsAnswered(t *testing.T, w *world, base string) {
	p := connect(t, base, w.member(0))
	await(p, func(l *slack.LatencyReport) bool { return l.Value > 0 && l.Value < time.Minute })
}

func messageOverRTM(t *testing.T, w *world, base string) {
	a, b := connect(t, base, w.member(0)), connect(t, base, w.member(1))
	channel := general(t, a.api)

	a.rtm.SendMessage(a.rtm.NewOutgoingMessage("over RTM "+t.Name(), channel))

	ack := await(a, func(m *slack.AckMessage) bool { return m.Text == "over RTM "+t.Name() })
	got := await(b, func(m *slack.MessageEvent) bool { return m.Text == "over RTM "+t.Name() })
	if got.Timestamp != ack.Timestamp || got.User != string(w.member(0).id) || got.Channel != channel {
		t.Errorf("sent %+v, heard %+v", ack, got.Msg)
	}
}

func messageOverHTTP(t *testing.T, w *world, base string) {
	b := connect(t, base, w.member(1))
	api := client(base, w.member(0))
	channel := general(t, api)

	_, ts, err := api.PostMessageContext(t.Context(), channel, slack.MsgOptionText("a < b & c > d "+t.Name(), false))
	if err != nil {
		t.Fatal(err)
	}

	got := await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == ts })
	if got.Text != "a < b & c > d "+t.Name() {
		t.Errorf("heard %q", got.Text)
	}
	history, err := api.GetConversationHistoryContext(t.Context(), &slack.GetConversationHistoryParameters{ChannelID: channel, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(history.Messages) != 1 || history.Messages[0].Timestamp != ts || !history.HasMore {
		t.Errorf("history begins with %+v", history.Messages)
	}
}

func messageTwice(t *testing.T, w *world, base string) {
	b := connect(t, base, w.member(1))
	channel := general(t, b.api)
	args := url.Values{"channel": {channel}, "text": {"once " + t.Name()}, "client_msg_id": {fmt.Sprintf("00000000-0000-4000-8000-%012d", time.Now().UnixNano()%1e12)}}

	_, _, first := call(t, base, "chat.postMessage", w.member(0).token, args)
	_, _, second := call(t, base, "chat.postMessage", w.member(0).token, args)

	if first["ok"] != true || second["ok"] != true || first["ts"] != second["ts"] || second["is_duplicate"] != true {
		t.Errorf("first %v, second %v", first, second)
	}
	_, _, last := call(t, base, "chat.postMessage", w.member(0).token, url.Values{"channel": {channel}, "text": {"after " + t.Name()}})
	await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == last["ts"] })
	if n := count(b, func(m *slack.MessageEvent) bool { return m.Timestamp == first["ts"] }); n != 1 {
		t.Errorf("the message was delivered %d times", n)
	}
}

func typing(t *testing.T, w *world, base string) {
	a, b := connect(t, base, w.member(0)), connect(t, base, w.member(1))
	channel := general(t, a.api)

	a.rtm.SendMessage(a.rtm.NewTypingMessage(channel))

	await(b, func(e *slack.UserTypingEvent) bool { return e.User == string(w.member(0).id) && e.Channel == channel })
	a.rtm.SendMessage(a.rtm.NewOutgoingMessage("done "+t.Name(), channel))
	await(a, func(m *slack.AckMessage) bool { return m.Text == "done "+t.Name() })
	if n := count(a, func(e *slack.UserTypingEvent) bool { return e.User == string(w.member(0).id) }); n != 0 {
		t.Error("the typist heard themself type")
	}
}

func editAndDelete(t *testing.T, w *world, base string) {
	b := connect(t, base, w.member(1))
	api := client(base, w.member(0))
	channel := general(t, api)
	_, ts, err := api.PostMessageContext(t.Context(), channel, slack.MsgOptionText("before "+t.Name(), false))
	if err != nil {
		t.Fatal(err)
	}

	if _, _, _, err := api.UpdateMessageContext(t.Context(), channel, ts, slack.MsgOptionText("after", false)); err != nil {
		t.Fatal(err)
	}
	changed := await(b, func(m *slack.MessageEvent) bool {
		return m.SubType == "message_changed" && m.SubMessage != nil && m.SubMessage.Timestamp == ts
	})
	if changed.SubMessage.Text != "after" || changed.SubMessage.Edited == nil || !changed.Hidden {
		t.Errorf("heard %+v", changed.SubMessage)
	}
	if _, _, err := client(base, w.member(1)).DeleteMessageContext(t.Context(), channel, ts); err == nil || err.Error() != "cant_delete_message" {
		t.Errorf("somebody else's message was deleted: %v", err)
	}
	if _, _, err := api.DeleteMessageContext(t.Context(), channel, ts); err != nil {
		t.Fatal(err)
	}
	await(b, func(m *slack.MessageEvent) bool { return m.SubType == "message_deleted" && m.DeletedTimestamp == ts })
	if _, _, err := api.DeleteMessageContext(t.Context(), channel, ts); err == nil || err.Error() != "message_not_found" {
		t.Errorf("deleted twice: %v", err)
	}
}

func reactions(t *testing.T, w *world, base string) {
	b := connect(t, base, w.member(1))
	api := client(base, w.member(0))
	channel := general(t, api)
	_, ts, err := api.PostMessageContext(t.Context(), channel, slack.MsgOptionText("like me "+t.Name(), false))
	if err != nil {
		t.Fatal(err)
	}
	item := slack.NewRefToMessage(channel, ts)

	if err := api.AddReactionContext(t.Context(), "tada", item); err != nil {
		t.Fatal(err)
	}
	added := await(b, func(e *slack.ReactionAddedEvent) bool { return e.Item.Timestamp == ts })
	if added.Reaction != "tada" || added.User != string(w.member(0).id) {
		t.Errorf("heard %+v", added)
	}
	if err := api.AddReactionContext(t.Context(), "tada", item); err == nil || err.Error() != "already_reacted" {
		t.Errorf("reacted twice: %v", err)
	}
	if err := api.RemoveReactionContext(t.Context(), "tada", item); err != nil {
		t.Fatal(err)
	}
	await(b, func(e *slack.ReactionRemovedEvent) bool { return e.Item.Timestamp == ts })
}

func threads(t *testing.T, w *world, base string) {
	b := connect(t, base, w.member(1))
	api := client(base, w.member(0))
	channel := general(t, api)
	_, parent, err := api.PostMessageContext(t.Context(), channel, slack.MsgOptionText("parent "+t.Name(), false))
	if err != nil {
		t.Fatal(err)
	}

	_, reply, err := api.PostMessageContext(t.Context(), channel, slack.MsgOptionText("reply", false), slack.MsgOptionTS(parent))
	if err != nil {
		t.Fatal(err)
	}

	got := await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == reply })
	if got.ThreadTimestamp != parent {
		t.Errorf("heard %+v", got.Msg)
	}
	messages, _, _, err := api.GetConversationRepliesContext(t.Context(), &slack.GetConversationRepliesParameters{ChannelID: channel, Timestamp: parent})
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) != 2 || messages[0].ReplyCount != 1 || messages[1].Timestamp != reply {
		t.Errorf("the thread is %+v", messages)
	}
}

func channelLife(t *testing.T, w *world, base string) {
	other := connect(t, base, w.member(1))
	api := client(base, w.member(0))
	name := fmt.Sprintf("life-%s-%d", strings.ToLower(t.Name()[len("TestBehaviours/"):][:4]), time.Now().UnixNano()%1e9)

	c, err := api.CreateConversationContext(t.Context(), slack.CreateConversationParams{ChannelName: name})
	if err != nil {
		t.Fatal(err)
	}
	await(other, func(e *slack.ChannelCreatedEvent) bool { return e.Channel.ID == c.ID })
	if _, err := api.CreateConversationContext(t.Context(), slack.CreateConversationParams{ChannelName: name}); err == nil || err.Error() != "name_taken" {
		t.Errorf("the name was taken twice: %v", err)
	}
	if _, err := api.InviteUsersToConversationContext(t.Context(), c.ID, string(w.member(1).id)); err != nil {
		t.Fatal(err)
	}
	await(other, func(e *slack.ChannelJoinedEvent) bool { return e.Channel.ID == c.ID })
	if _, ts, err := api.PostMessageContext(t.Context(), c.ID, slack.MsgOptionText("welcome", false)); err != nil {
		t.Fatal(err)
	} else {
		await(other, func(m *slack.MessageEvent) bool { return m.Timestamp == ts })
	}
	if _, err := other.api.LeaveConversationContext(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	await(other, func(e *slack.ChannelLeftEvent) bool { return e.Channel == c.ID })
	if _, _, err := api.PostMessageContext(t.Context(), c.ID, slack.MsgOptionText("gone?", false)); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := other.api.JoinConversationContext(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	await(other, func(e *slack.ChannelJoinedEvent) bool { return e.Channel.ID == c.ID })
	if n := count(other, func(m *slack.MessageEvent) bool { return m.Text == "gone?" }); n != 0 {
		t.Error("somebody who had left heard a message")
	}
	if err := api.ArchiveConversationContext(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	await(other, func(e *slack.ChannelArchiveEvent) bool { return e.Channel == c.ID })
	if _, _, err := api.PostMessageContext(t.Context(), c.ID, slack.MsgOptionText("too late", false)); err == nil || err.Error() != "is_archived" {
		t.Errorf("posted to an archived channel: %v", err)
	}
}

func directMessages(t *testing.T, w *world, base string) {
	b := connect(t, base, w.member(3))
	api := client(base, w.member(2))

	c, _, _, err := api.OpenConversationContext(t.Context(), &slack.OpenConversationParameters{Users: []string{string(w.member(3).id)}, ReturnIM: true})
	if err != nil {
		t.Fatal(err)
	}
	_, ts, err := api.PostMessageContext(t.Context(), c.ID, slack.MsgOptionText("between us", false))
	if err != nil {
		t.Fatal(err)
	}

	got := await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == ts })
	if got.Channel != c.ID || c.ID[0] != 'D' {
		t.Errorf("heard %+v in %s", got.Msg, c.ID)
	}
	again, _, already, err := api.OpenConversationContext(t.Context(), &slack.OpenConversationParameters{Users: []string{string(w.member(3).id)}, ReturnIM: true})
	if err != nil || again.ID != c.ID || !already {
		t.Errorf("opened again: %v, %v, %v", again, already, err)
	}
	if _, err := client(base, w.member(1)).GetConversationHistoryContext(t.Context(), &slack.GetConversationHistoryParameters{ChannelID: c.ID}); err == nil || err.Error() != "channel_not_found" {
		t.Errorf("somebody else reads it: %v", err)
	}
}

func markRead(t *testing.T, w *world, base string) {
	other := connect(t, base, w.member(1))
	api := client(base, w.member(0))
	channel := general(t, api)
	_, ts, err := api.PostMessageContext(t.Context(), channel, slack.MsgOptionText(fmt.Sprintf("<@%s> read me", w.member(1).id), false))
	if err != nil {
		t.Fatal(err)
	}
	await(other, func(m *slack.MessageEvent) bool { return m.Timestamp == ts })
	if c := counts(t, base, w.member(1), channel); c["has_unreads"] != true || c["mention_count"].(float64) < 1 || c["latest"] != ts {
		t.Errorf("before: %v", c)
	}

	if err := other.api.MarkConversationContext(t.Context(), channel, ts); err != nil {
		t.Fatal(err)
	}

	await(other, func(e *slack.ChannelMarkedEvent) bool { return e.Channel == channel && e.Timestamp == ts })
	if c := counts(t, base, w.member(1), channel); c["has_unreads"] != false || c["mention_count"] != 0.0 || c["last_read"] != ts {
		t.Errorf("after: %v", c)
	}
	info, err := other.api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: channel})
	if err != nil || info.LastRead != ts {
		t.Errorf("conversations.info says %v, %v", info.LastRead, err)
	}
}

func counts(t *testing.T, base string, a account, channel string) map[string]any {
	t.Helper()
	_, _, answer := call(t, base, "client.counts", a.token, nil)
	for _, list := range []string{"channels", "ims", "mpims"} {
		entries, _ := answer[list].([]any)
		for _, e := range entries {
			if c := e.(map[string]any); c["id"] == channel {
				return c
			}
		}
	}
	t.Fatalf("client.counts says nothing of %s: %v", channel, answer)
	return nil
}

func presence(t *testing.T, w *world, base string) {
	a := connect(t, base, w.member(0))
	connect(t, base, w.member(4))

	a.rtm.SendMessage(a.rtm.NewSubscribeUserPresence([]string{string(w.member(4).id), string(w.member(5).id)}))

	is := func(user protocol.UserID, state string) func(*slack.PresenceChangeEvent) bool {
		return func(e *slack.PresenceChangeEvent) bool {
			return e.Presence == state && (e.User == string(user) || len(e.Users) > 0 && e.Users[0] == string(user))
		}
	}
	await(a, is(w.member(4).id, "active"))
	await(a, is(w.member(5).id, "away"))
	connect(t, base, w.member(5))
	await(a, is(w.member(5).id, "active"))
	got, err := a.api.GetUserPresenceContext(t.Context(), string(w.member(4).id))
	if err != nil || got.Presence != "active" {
		t.Errorf("users.getPresence says %+v, %v", got, err)
	}
}

func users(t *testing.T, w *world, base string) {
	api := client(base, w.member(0))

	all, err := api.GetUsersContext(t.Context(), slack.GetUsersOptionLimit(5))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != w.seed.Users+w.seed.Bots {
		t.Errorf("users.list gives %d of %d", len(all), w.seed.Users+w.seed.Bots)
	}
	u, err := api.GetUserInfoContext(t.Context(), string(w.member(1).id))
	if err != nil || u.Name != w.member(1).name || u.Profile.Email == "" {
		t.Errorf("users.info gives %+v, %v", u, err)
	}
	several, err := api.GetUsersInfoContext(t.Context(), string(w.member(1).id), string(w.member(2).id))
	if err != nil || len(*several) != 2 {
		t.Errorf("users.info of two gives %v, %v", several, err)
	}
	found, err := api.GetUserByEmailContext(t.Context(), u.Profile.Email)
	if err != nil || found.ID != u.ID {
		t.Errorf("users.lookupByEmail gives %v, %v", found, err)
	}
	if _, err := api.GetUserInfoContext(t.Context(), "U0NOBODY0"); err == nil || err.Error() != "user_not_found" {
		t.Errorf("nobody is found: %v", err)
	}
}

func conversations(t *testing.T, w *world, base string) {
	api := client(base, w.member(0))
	channel := general(t, api)

	members, next, err := api.GetUsersInConversationContext(t.Context(), &slack.GetUsersInConversationParameters{ChannelID: channel, Limit: 4})
	if err != nil || len(members) != 4 || next == "" {
		t.Errorf("the first page of members is %v, %q, %v", members, next, err)
	}
	rest, next, err := api.GetUsersInConversationContext(t.Context(), &slack.GetUsersInConversationParameters{ChannelID: channel, Limit: 1000, Cursor: next})
	if err != nil || next != "" || len(rest) == 0 || rest[0] <= members[3] {
		t.Errorf("the rest is %v, %q, %v", rest, next, err)
	}
	mine, _, err := api.GetConversationsForUserContext(t.Context(), &slack.GetConversationsForUserParameters{Types: []string{"public_channel", "private_channel", "mpim", "im"}, Limit: 100})
	if err != nil || len(mine) == 0 {
		t.Fatalf("users.conversations gives %v, %v", mine, err)
	}
	for _, c := range mine {
		info, err := api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: c.ID})
		if err != nil || info.ID != c.ID || !info.IsMember {
			t.Errorf("conversations.info of %s gives %+v, %v", c.ID, info, err)
		}
	}
	counted, err := api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: channel, IncludeNumMembers: true})
	if err != nil || counted.NumMembers != len(members)+len(rest) {
		t.Errorf("%d members counted, %d listed, %v", counted.NumMembers, len(members)+len(rest), err)
	}
	if _, err := api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: "C0NOWHERE"}); err == nil || err.Error() != "channel_not_found" {
		t.Errorf("nowhere is found: %v", err)
	}
}

func profileChange(t *testing.T, w *world, base string) {
	a := connect(t, base, w.member(0))
	api := client(base, w.member(6))
	status := fmt.Sprintf("at it since %d", time.Now().UnixNano())

	if err := api.SetUserCustomStatusContext(t.Context(), status, ":rocket:", 0); err != nil {
		t.Fatal(err)
	}

	await(a, func(e *slack.UserChangeEvent) bool {
		return e.User.ID == string(w.member(6).id) && e.User.Profile.StatusText == status
	})
	u, err := a.api.GetUserInfoContext(t.Context(), string(w.member(6).id))
	if err != nil || u.Profile.StatusText != status {
		t.Errorf("after the event users.info still says %q, %v", u.Profile.StatusText, err)
	}
}

func readYourWrites(t *testing.T, w *world, base string) {
	api := client(base, w.member(0))
	for i := range 20 {
		name := fmt.Sprintf("mine-%d-%d", i, time.Now().UnixNano()%1e12)
		c, err := api.CreateConversationContext(t.Context(), slack.CreateConversationParams{ChannelName: name, IsPrivate: i%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		info, err := api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: c.ID})
		if err != nil || info.Name != name || !info.IsMember {
			t.Fatalf("right after its creation: %+v, %v", info, err)
		}
		if _, err := api.SetTopicOfConversationContext(t.Context(), c.ID, "new topic"); err != nil {
			t.Fatal(err)
		}
		if info, err = api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: c.ID}); err != nil || info.Topic.Value != "new topic" {
			t.Fatalf("right after a new topic: %+v, %v", info, err)
		}
	}
}

func emojiAndBots(t *testing.T, w *world, base string) {
	api := client(base, w.member(0))

	emoji, err := api.GetEmojiContext(t.Context())
	if err != nil || len(emoji) < w.seed.Emoji {
		t.Errorf("emoji.list gives %d of %d, %v", len(emoji), w.seed.Emoji, err)
	}
	self, err := client(base, w.bot()).AuthTestContext(t.Context())
	if err != nil || self.BotID == "" || self.URL == "" {
		t.Fatalf("auth.test of a bot gives %+v, %v", self, err)
	}
	bot, err := api.GetBotInfoContext(t.Context(), slack.GetBotInfoParameters{Bot: self.BotID})
	if err != nil || bot.ID != self.BotID || bot.UserID != string(w.bot().id) {
		t.Errorf("bots.info gives %+v, %v", bot, err)
	}
	team, err := api.GetTeamInfoContext(t.Context())
	if err != nil || team.ID != string(w.seed.Workspace.ID) {
		t.Errorf("team.info gives %+v, %v", team, err)
	}
}

func invalidToken(t *testing.T, w *world, base string) {
	for tok, want := range map[string]string{
		"": "not_authed", "xoxp-nonsense": "invalid_auth", w.member(0).token[:len(w.member(0).token)-3]: "invalid_auth", "xoxb-" + strings.Repeat("A", 5000): "invalid_auth",
	} {
		if _, _, answer := call(t, base, "users.info", tok, url.Values{"user": {string(w.member(0).id)}}); answer["ok"] != false || answer["error"] != want {
			t.Errorf("token %.20q gets %v, want %s", tok, answer, want)
		}
	}
	expired, err := w.back.Tokens().Issue(token.Claims{User: w.member(0).id, Workspace: w.seed.Workspace.ID, Role: protocol.RoleMember, Issued: 1, Expires: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, answer := call(t, base, "users.info", expired, nil); answer["error"] != "token_expired" {
		t.Errorf("an expired token gets %v", answer)
	}
	if _, err := slack.New("xoxp-nonsense", slack.OptionAPIURL(base+"/api/")).AuthTestContext(t.Context()); err == nil || err.Error() != "invalid_auth" {
		t.Errorf("auth.test gives %v", err)
	}
}

func revokedToken(t *testing.T, w *world, base string) {
	a := w.member(7)
	tok, err := w.back.Tokens().Issue(token.Claims{User: a.id, Workspace: w.seed.Workspace.ID, Role: protocol.RoleMember, Issued: time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	a.token = tok
	p := connect(t, base, a)

	if _, _, answer := call(t, base, "auth.revoke", tok, nil); answer["ok"] != true || answer["revoked"] != true {
		t.Fatalf("auth.revoke gives %v", answer)
	}

	await(p, func(*slack.DisconnectedEvent) bool { return true })
	await(p, func(*slack.InvalidAuthEvent) bool { return true })
	eventually(t, "the revoked token is refused", func() bool {
		_, _, answer := call(t, base, "users.info", tok, url.Values{"user": {string(a.id)}})
		return answer["error"] == "token_revoked"
	})
}

func rateLimit(t *testing.T, w *world, base string) {
	a := w.member(8)
	for range 3000 {
		status, retry, answer := call(t, base, "usergroups.list", a.token, nil)
		if status == 200 && answer["ok"] == true {
			continue
		}
		if status != 429 || answer["error"] != "ratelimited" || retry == "" || strings.Trim(retry, "0123456789") != "" {
			t.Fatalf("status %d, Retry-After %q, answer %v", status, retry, answer)
		}
		_, err := client(base, a).GetUserGroupsContext(t.Context())
		var limited *slack.RateLimitedError
		if !errors.As(err, &limited) || limited.RetryAfter <= 0 {
			t.Errorf("slack-go makes of it: %v", err)
		}
		return
	}
	t.Fatal("3,000 calls in a row and no limit")
}

func privateStaysPrivate(t *testing.T, w *world, base string) {
	outsider, guest := connect(t, base, w.member(1)), connect(t, base, w.guest())
	api := client(base, w.member(0))
	c, err := api.CreateConversationContext(t.Context(), slack.CreateConversationParams{ChannelName: fmt.Sprintf("hush-%d", time.Now().UnixNano()%1e12), IsPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := api.PostMessageContext(t.Context(), c.ID, slack.MsgOptionText("secret", false))
	if err != nil {
		t.Fatal(err)
	}
	_, open, err := api.PostMessageContext(t.Context(), general(t, api), slack.MsgOptionText("no secret "+t.Name(), false))
	if err != nil {
		t.Fatal(err)
	}

	await(outsider, func(m *slack.MessageEvent) bool { return m.Timestamp == open })
	for _, p := range []*peer{outsider, guest} {
		if n := count(p, func(m *slack.MessageEvent) bool { return m.Timestamp == secret }); n != 0 {
			t.Error("a secret was delivered")
		}
		if _, err := p.api.GetConversationInfoContext(t.Context(), &slack.GetConversationInfoInput{ChannelID: c.ID}); err == nil || err.Error() != "channel_not_found" {
			t.Errorf("the channel is seen: %v", err)
		}
		if _, _, err := p.api.GetUsersInConversationContext(t.Context(), &slack.GetUsersInConversationParameters{ChannelID: c.ID}); err == nil || err.Error() != "channel_not_found" {
			t.Errorf("its members are seen: %v", err)
		}
	}
}
