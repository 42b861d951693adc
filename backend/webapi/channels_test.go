package webapi

import (
	"slices"
	"strings"
	"testing"

	"flannel/backend/chat"
	"flannel/protocol"
)

func TestChannels_Create(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	out := w.get(ann, "conversations.create", "name", "plans")
	id := out.str("channel", "id")

	if !strings.HasPrefix(id, "C") || out.at("channel", "is_member") != true || out.str("channel", "creator") != string(ann) ||
		out.at("channel", "is_channel") != true || out.str("channel", "name_normalized") != "plans" || out.at("channel", "topic") == nil {
		t.Errorf("created %v", out)
	}
	w.wantEvents(n, string(ours)+" channel_created +upsert", string(ann)+" channel_joined +member_added", id+" member_joined_channel +member_added")
	if info := w.get(ann, "conversations.info", "channel", id, "include_num_members", "true"); info.at("channel", "num_members") != 1.0 {
		t.Errorf("info %v", info)
	}

	n = w.seen()
	id = w.get(ann, "conversations.create", "name", "hidden", "is_private", "true").str("channel", "id")
	w.wantEvents(n, id+" channel_created +upsert", string(ann)+" group_joined +member_added", id+" member_joined_channel +member_added")
	if e := w.lastEvent(protocol.Topic(id), "channel_created"); e.Payload != nil {
		t.Errorf("a private channel is announced: %s", e.Payload)
	}

	w.fails(ann, chat.CodeNameTaken, "conversations.create", "name", "plans")
	w.fails(ann, chat.CodeNameTaken, "conversations.create", "name", "old") // archived
	w.fails(ann, chat.CodeInvalidNameRequired, "conversations.create")
	w.fails(ann, chat.CodeInvalidNameSpecials, "conversations.create", "name", "No Way")
	w.fails(gus, chat.CodeUserRestricted, "conversations.create", "name", "guests")
}

func TestChannels_JoinAndLeave(t *testing.T) {
	w := newWorld(t, Limits{})
	w.post(ann, random, "before")
	n := w.seen()
	out := w.get(ben, "conversations.join", "channel", string(random))
	if out.at("channel", "is_member") != true || out["warning"] != nil {
		t.Errorf("join %v", out)
	}
	w.wantEvents(n, string(ben)+" channel_joined +member_added", string(random)+" member_joined_channel +member_added")
	e := w.lastEvent(protocol.Topic(ben), "channel_joined")
	if m := e.Effects[0].Membership; m == nil || m.Type != protocol.TypePublic || m.Latest == "" || m.LastRead != m.Latest {
		t.Errorf("membership %+v", m)
	}
	if e := w.lastEvent(protocol.Topic(random), "member_joined_channel"); !slices.Contains(e.Refs, protocol.ObjectID(ben)) || e.Class != protocol.ClassControl {
		t.Errorf("event %+v", e)
	}

	n = w.seen()
	out = w.get(ben, "conversations.join", "channel", string(random))
	if out.str("warning") != "already_in_channel" || out.str("response_metadata", "warnings", 0) != "already_in_channel" || out.str("channel", "id") != string(random) {
		t.Errorf("second join %v", out)
	}
	w.wantEvents(n)

	w.get(ben, "conversations.leave", "channel", string(random))
	w.wantEvents(n, string(ben)+" channel_left +member_removed", string(random)+" member_left_channel +member_removed")
	if out := w.get(ben, "conversations.leave", "channel", string(random)); out["not_in_channel"] != true {
		t.Errorf("second leave %v", out)
	}

	w.fails(ann, chat.CodeCantLeaveGeneral, "conversations.leave", "channel", string(general))
	w.fails(ann, chat.CodeIsArchived, "conversations.join", "channel", string(old))
	w.fails(ben, chat.CodeMethodNotSupported, "conversations.join", "channel", string(secret))
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.join", "channel", string(secret))
	w.fails(gus, protocol.CodeChannelNotFound, "conversations.join", "channel", string(general))
	w.fails(gus, chat.CodeUserRestricted, "conversations.leave", "channel", string(project))
	w.get(ada, "conversations.leave", "channel", string(secret))
	w.fails(ben, chat.CodeLastMember, "conversations.leave", "channel", string(secret))
}

func TestChannels_Invite(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	out := w.get(ann, "conversations.invite", "channel", string(random), "users", "U0BEN,U0BOT")
	if out.str("channel", "id") != string(random) {
		t.Errorf("invite %v", out)
	}
	w.wantEvents(n, "U0BEN channel_joined +member_added", "C0RANDOM member_joined_channel +member_added",
		"U0BOT channel_joined +member_added", "C0RANDOM member_joined_channel +member_added")
	if e := w.lastEvent(protocol.Topic(random), "member_joined_channel"); !strings.Contains(string(e.Payload), `"inviter":"U0ANN"`) {
		t.Errorf("%s", e.Payload)
	}

	out = w.fails(ann, chat.CodeAlreadyInChannel, "conversations.invite", "channel", string(random), "users", "U0BEN,U0ADA")
	if out.str("errors", 0, "user") != "U0BEN" || out.at("errors", 1) != nil {
		t.Errorf("errors %v", out)
	}
	w.fails(ada, protocol.CodeNotInChannel, "conversations.invite", "channel", string(random), "users", "U0ADA")
	out = w.get(ann, "conversations.invite", "channel", string(random), "users", `["U0BEN","U0ADA","U0NONE"]`, "force", "true")
	if out.str("errors", 0, "error") != "already_in_channel" || out.str("errors", 1, "error") != "user_not_found" {
		t.Errorf("forced %v", out)
	}
	for user, code := range map[string]protocol.Code{
		"U0ANN": chat.CodeCantInviteSelf, "U0NONE": protocol.CodeUserNotFound, "U0GONE": chat.CodeCantInvite, "U0GUS": chat.CodeUltraRestrictedInMany,
		"U0YAN": protocol.CodeUserNotFound, "U0ZOE": chat.CodeCantInvite, "x": protocol.CodeUserNotFound, "": chat.CodeNoUser,
	} {
		w.fails(ann, code, "conversations.invite", "channel", string(random), "users", user)
	}
	w.fails(ann, chat.CodeTooManyUsers, "conversations.invite", "channel", string(random), "users", strings.Repeat("U0BEN,", 101))
	w.fails(gus, chat.CodeUserRestricted, "conversations.invite", "channel", string(project), "users", "U0ANN")
	w.fails(ann, chat.CodeIsArchived, "conversations.invite", "channel", string(old), "users", "U0BEN")
	w.fails(zoe, protocol.CodeUserNotFound, "conversations.invite", "channel", string(shared), "users", "U0BEN") // whom zoe cannot see
	w.get(zoe, "conversations.invite", "channel", string(shared), "users", "U0YAN")
}

func TestChannels_Kick(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	w.fails(ben, chat.CodeCantKickGeneral, "conversations.kick", "channel", string(general), "user", "U0ANN")
	w.fails(ben, chat.CodeCantKickSelf, "conversations.kick", "channel", string(secret), "user", "U0BEN")
	w.fails(ben, protocol.CodeUserNotFound, "conversations.kick", "channel", string(secret), "user", "nobody")
	w.fails(ben, protocol.CodeNotInChannel, "conversations.kick", "channel", string(secret), "user", "U0ANN")
	w.fails(ben, protocol.CodeNotInChannel, "conversations.kick", "channel", string(random), "user", "U0ANN")
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.kick", "channel", string(secret), "user", "U0BEN")
	w.wantEvents(n)
	w.get(ben, "conversations.kick", "channel", string(secret), "user", "U0ADA")
	w.wantEvents(n, "U0ADA group_left +member_removed", "C0SECRET member_left_channel +member_removed")
	w.fails(ada, protocol.CodeChannelNotFound, "conversations.info", "channel", string(secret))

	w.get(ben, "conversations.join", "channel", string(random))
	w.fails(ben, chat.CodeRestrictedAction, "conversations.kick", "channel", string(random), "user", "U0ANN") // neither creator nor admin
	w.get(ann, "conversations.kick", "channel", string(random), "user", "U0BEN")
}

func TestChannels_RenameTopicPurpose(t *testing.T) {
	w := newWorld(t, Limits{})
	before := w.get(ann, "conversations.info", "channel", string(random)).at("channel", "updated").(float64)
	n := w.seen()
	out := w.get(ann, "conversations.rename", "channel", string(random), "name", "chance")
	if out.str("channel", "name") != "chance" || out.str("channel", "previous_names", 0) != "random" || out.at("channel", "updated").(float64) <= before {
		t.Errorf("renamed %v", out)
	}
	w.wantEvents(n, string(ours)+" channel_rename +upsert")

	n = w.seen()
	out = w.get(ann, "conversations.setTopic", "channel", string(random), "topic", "<b> & such")
	if out.str("topic") != "<b> & such" || out.str("channel", "topic", "value") != "<b> & such" || out.str("channel", "topic", "creator") != string(ann) {
		t.Errorf("topic %v", out)
	}
	w.wantEvents(n, string(ours)+" channel_updated +upsert", string(random)+" message channel_topic +message_added")
	w.get(ann, "conversations.setTopic", "channel", string(random), "topic", "<b> & such") // no change
	w.wantEvents(n, string(ours)+" channel_updated +upsert", string(random)+" message channel_topic +message_added")
	w.get(ann, "conversations.setPurpose", "channel", string(random), "purpose", "none")
	h := w.get(ann, "conversations.history", "channel", string(random))
	if h.str("messages", 0, "subtype") != "channel_purpose" || h.str("messages", 0, "purpose") != "none" || h.str("messages", 1, "topic") != "<b> & such" {
		t.Errorf("history %v", h)
	}

	w.fails(ben, protocol.CodeNotInChannel, "conversations.rename", "channel", string(random), "name", "x")
	w.fails(ben, protocol.CodeNotInChannel, "conversations.setTopic", "channel", string(random), "topic", "x")
	w.fails(ben, chat.CodeNotAuthorized, "conversations.rename", "channel", string(general), "name", "x")
	w.fails(ann, chat.CodeNameTaken, "conversations.rename", "channel", string(random), "name", "project")
	w.fails(ann, chat.CodeTooLong, "conversations.setTopic", "channel", string(random), "topic", strings.Repeat("ö", 251))
	w.fails(gus, chat.CodeUserRestricted, "conversations.setPurpose", "channel", string(project), "purpose", "x")
	w.fails(ann, chat.CodeIsArchived, "conversations.setTopic", "channel", string(old), "topic", "x")
	w.get(ada, "conversations.rename", "channel", string(general), "name", "everyone")
}

func TestChannels_Archive(t *testing.T) {
	w := newWorld(t, Limits{})
	w.post(ann, random, "x")
	n := w.seen()
	w.get(ann, "conversations.archive", "channel", string(random))
	w.wantEvents(n, string(ours)+" channel_archive +upsert")
	w.fails(ann, chat.CodeAlreadyArchived, "conversations.archive", "channel", string(random))
	w.fails(ann, chat.CodeIsArchived, "chat.postMessage", "channel", string(random), "text", "x")
	if h := w.get(ann, "conversations.history", "channel", string(random)); h.str("messages", 0, "text") != "x" {
		t.Errorf("an archive can be read: %v", h)
	}
	for _, m := range w.get(ann, "client.counts").ids("channels", "id") {
		if m == string(random) {
			t.Error("an archived channel is counted")
		}
	}
	n = w.seen()
	w.get(ann, "conversations.unarchive", "channel", string(random))
	w.wantEvents(n, string(ours)+" channel_unarchive +upsert")
	w.post(ann, random, "y")

	w.fails(ann, chat.CodeNotArchived, "conversations.unarchive", "channel", string(random))
	w.fails(ada, chat.CodeCantArchiveGeneral, "conversations.archive", "channel", string(general))
	w.fails(ben, protocol.CodeNotInChannel, "conversations.archive", "channel", string(random))
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.archive", "channel", string(secret))
	w.fails(gus, chat.CodeUserRestricted, "conversations.archive", "channel", string(project))
	n = w.seen()
	w.get(ben, "conversations.archive", "channel", string(secret))
	w.wantEvents(n, string(secret)+" group_archive +upsert")
}

func TestChannels_Mark(t *testing.T) {
	w := newWorld(t, Limits{})
	first := w.post(ann, general, "hello <@U0BEN>")
	w.post(ann, general, "again <!here>")
	count := func() (float64, bool) {
		for _, c := range w.get(ben, "client.counts")["channels"].([]any) {
			if m := c.(map[string]any); m["id"] == string(general) {
				return m["mention_count"].(float64), m["has_unreads"].(bool)
			}
		}
		return -1, false
	}
	if n, unread := count(); n != 2 || !unread {
		t.Errorf("%v mentions, unread %v", n, unread)
	}
	n := w.seen()

	w.get(ben, "conversations.mark", "channel", string(general), "ts", first)

	w.wantEvents(n, string(ben)+" channel_marked +read")
	e := w.lastEvent(protocol.Topic(ben), "channel_marked")
	if f := e.Effects[0]; string(f.TS) != first || f.MentionCount != 1 || f.User != ben || !strings.Contains(string(e.Payload), `"unread_count":1,`) {
		t.Errorf("%+v %s", e, e.Payload)
	}
	if n, unread := count(); n != 1 || !unread {
		t.Errorf("%v mentions, unread %v", n, unread)
	}
	w.get(ben, "conversations.mark", "channel", string(general), "ts", "0000000000.000000")
	if n, _ := count(); n != 2 {
		t.Errorf("%v mentions after marking back", n)
	}
	w.fails(ben, chat.CodeInvalidTimestamp, "conversations.mark", "channel", string(general), "ts", "yesterday")
	w.fails(ben, chat.CodeInvalidTimestamp, "conversations.mark", "channel", string(general))
	w.fails(ben, protocol.CodeNotInChannel, "conversations.mark", "channel", string(random), "ts", first)
	w.fails(ben, protocol.CodeChannelNotFound, "conversations.mark", "channel", "C0NONE", "ts", first)
}
