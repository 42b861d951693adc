package webapi

import (
	"testing"

	"github.com/slack-go/slack"

	"flannel/protocol"
)

// An unmodified client library gets along with every shape.
func TestSlackGo(t *testing.T) {
	w := newWorld(t, Limits{PerMinute: map[protocol.Tier]int{protocol.Tier1: 4}})
	client := serve(t, w)
	api := slack.New(w.token(ann), slack.OptionAPIURL("http://backend.example/api/"), slack.OptionHTTPClient(client))
	other := slack.New(w.token(ben), slack.OptionAPIURL("http://backend.example/api/"), slack.OptionHTTPClient(client))
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	auth, err := api.AuthTest()
	check("auth.test", err)
	if auth.URL != "http://backend.example/" || auth.UserID != "U0ANN" {
		t.Errorf("auth.test %+v", auth)
	}
	users, err := api.GetUsers(slack.GetUsersOptionLimit(2))
	check("users.list", err)
	if len(users) != 6 {
		t.Errorf("%d users", len(users))
	}
	_, err = api.GetUserInfo("U0BEN")
	check("users.info", err)
	several, err := api.GetUsersInfo("U0BEN", "U0ADA")
	check("users.info", err)
	if len(*several) != 2 {
		t.Errorf("users.info %v", several)
	}
	channels, next, err := api.GetConversations(&slack.GetConversationsParameters{Types: []string{"public_channel", "private_channel"}, Limit: 3})
	check("conversations.list", err)
	if len(channels) != 3 || next == "" || channels[0].NumMembers != 4 {
		t.Errorf("conversations.list %+v %q", channels, next)
	}
	made, err := api.CreateConversation(slack.CreateConversationParams{ChannelName: "made"})
	check("conversations.create", err)
	_, err = api.InviteUsersToConversation(made.ID, "U0BEN")
	check("conversations.invite", err)
	_, err = api.SetTopicOfConversation(made.ID, "topic")
	check("conversations.setTopic", err)
	_, err = api.SetPurposeOfConversation(made.ID, "purpose")
	check("conversations.setPurpose", err)
	_, err = api.RenameConversation(made.ID, "renamed")
	check("conversations.rename", err)
	info, err := other.GetConversationInfo(&slack.GetConversationInfoInput{ChannelID: made.ID, IncludeNumMembers: true})
	check("conversations.info", err)
	if info.Topic.Value != "topic" || info.NumMembers != 2 || !info.IsMember || info.Name != "renamed" {
		t.Errorf("conversations.info %+v", info)
	}
	_, warning, _, err := other.JoinConversation(made.ID)
	check("conversations.join", err)
	if warning != "already_in_channel" {
		t.Errorf("warning %q", warning)
	}
	_, ts, err := api.PostMessage(made.ID, slack.MsgOptionText("hello <@U0BEN>", false), slack.MsgOptionBlocks(slack.NewDividerBlock()), slack.MsgOptionAttachments(slack.Attachment{Text: "a"}))
	check("chat.postMessage", err)
	_, _, err = other.PostMessage(made.ID, slack.MsgOptionText("reply", false), slack.MsgOptionTS(ts), slack.MsgOptionBroadcast())
	check("chat.postMessage", err)
	_, _, _, err = api.UpdateMessage(made.ID, ts, slack.MsgOptionText("hello again", false))
	check("chat.update", err)
	check("reactions.add", other.AddReaction("tada", slack.NewRefToMessage(made.ID, ts)))
	reactions, err := api.GetReactions(slack.NewRefToMessage(made.ID, ts), slack.NewGetReactionsParameters())
	check("reactions.get", err)
	if len(reactions.Reactions) != 1 || reactions.Reactions[0].Count != 1 {
		t.Errorf("reactions.get %+v", reactions)
	}
	check("reactions.remove", other.RemoveReaction("tada", slack.NewRefToMessage(made.ID, ts)))
	history, err := other.GetConversationHistory(&slack.GetConversationHistoryParameters{ChannelID: made.ID, Limit: 2})
	check("conversations.history", err)
	if len(history.Messages) != 2 || !history.HasMore || history.Messages[1].ReplyCount != 1 || history.Messages[1].Edited == nil {
		t.Errorf("conversations.history %+v", history.Messages)
	}
	replies, _, _, err := other.GetConversationReplies(&slack.GetConversationRepliesParameters{ChannelID: made.ID, Timestamp: ts})
	check("conversations.replies", err)
	if len(replies) != 2 {
		t.Errorf("conversations.replies %+v", replies)
	}
	check("conversations.mark", other.MarkConversation(made.ID, ts))
	_, err = api.PostEphemeral(made.ID, "U0BEN", slack.MsgOptionText("x", false))
	check("chat.postEphemeral", err)
	_, err = api.GetPermalink(&slack.PermalinkParameters{Channel: made.ID, Ts: ts})
	check("chat.getPermalink", err)
	_, _, err = api.DeleteMessage(made.ID, ts)
	check("chat.delete", err)
	dm, noOp, already, err := api.OpenConversation(&slack.OpenConversationParameters{Users: []string{"U0BEN"}, ReturnIM: true})
	check("conversations.open", err)
	if noOp || already || !dm.IsIM || dm.User != "U0BEN" {
		t.Errorf("conversations.open %+v", dm)
	}
	_, _, err = api.CloseConversation(dm.ID)
	check("conversations.close", err)
	members, _, err := api.GetUsersInConversation(&slack.GetUsersInConversationParameters{ChannelID: made.ID})
	check("conversations.members", err)
	if len(members) != 2 {
		t.Errorf("conversations.members %v", members)
	}
	own, _, err := api.GetConversationsForUser(&slack.GetConversationsForUserParameters{Types: []string{"im", "public_channel"}})
	check("users.conversations", err)
	if len(own) != 7 {
		t.Errorf("users.conversations %v", own)
	}
	check("conversations.kick", api.KickUserFromConversation(made.ID, "U0BEN"))
	_, err = api.LeaveConversation(made.ID)
	check("conversations.leave", err)
	check("conversations.archive", slack.New(w.token(ada), slack.OptionAPIURL("http://backend.example/api/"), slack.OptionHTTPClient(client)).ArchiveConversation(made.ID))
	check("users.profile.set", api.SetUserCustomStatus("busy", ":tada:", 0))
	profile, err := other.GetUserProfile(&slack.GetUserProfileParameters{UserID: "U0ANN"})
	check("users.profile.get", err)
	if profile.StatusText != "busy" {
		t.Errorf("users.profile.get %+v", profile)
	}
	check("users.setPresence", api.SetUserPresence("away"))
	presence, err := api.GetUserPresence("U0ANN")
	check("users.getPresence", err)
	if presence.Presence != "away" || !presence.ManualAway {
		t.Errorf("users.getPresence %+v", presence)
	}
	_, err = api.GetUserByEmail("ben@example.org")
	check("users.lookupByEmail", err)
	_, err = api.GetEmoji()
	check("emoji.list", err)
	_, err = api.GetTeamInfo()
	check("team.info", err)
	_, err = api.GetBotInfo(slack.GetBotInfoParameters{Bot: "B0BOT"})
	check("bots.info", err)
	_, err = api.GetUserGroups(slack.GetUserGroupsOptionIncludeUsers(true))
	check("usergroups.list", err)
	_, err = api.GetUserGroupMembers("S0TEAM")
	check("usergroups.users.list", err)
	_, _, err = api.ConnectRTM()
	check("rtm.connect", err)
	if _, _, err = api.ConnectRTM(); err == nil {
		t.Error("no rate limit")
	} else if limited, ok := err.(*slack.RateLimitedError); !ok || limited.RetryAfter <= 0 { //nolint:errorlint // as its documentation tells clients to do it
		t.Errorf("rate limit: %T %v", err, err)
	}
	_, _, err = api.StartRTM() //nolint:staticcheck // Deprecated, but ours still answers it: it is the baseline.
	check("rtm.start", err)
	_, err = api.SendAuthRevoke("")
	check("auth.revoke", err)
	if _, err := api.AuthTest(); err == nil || err.Error() != "token_revoked" {
		t.Errorf("after auth.revoke: %v", err)
	}
}
