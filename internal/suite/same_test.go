package suite_test

import (
	"encoding/json"
	"net/url"
	"reflect"
	"testing"

	"flannel/protocol"
)

// TestSameAnswers asks the edge and the backend the same things on behalf of everybody and wants the same answers, cold
// and warm.
func TestSameAnswers(t *testing.T) {
	w := makeWorld(&world{t: t, unlimited: true}, 60)
	var channels []string
	_, _, list := call(t, w.backendURL(), "conversations.list", w.admin().token, url.Values{"limit": {"999"}, "types": {"public_channel,private_channel,mpim,im"}})
	for _, c := range list["channels"].([]any) {
		channels = append(channels, c.(map[string]any)["id"].(string))
	}
	_, _, mine := call(t, w.backendURL(), "users.conversations", w.member(0).token, url.Values{"limit": {"999"}, "types": {"public_channel,private_channel,mpim,im"}})
	for _, c := range mine["channels"].([]any) {
		channels = append(channels, c.(map[string]any)["id"].(string))
	}
	type ask struct {
		method string
		args   url.Values
	}
	asks := []ask{
		{"auth.test", nil}, {"team.info", nil}, {"emoji.list", nil}, {"client.counts", nil}, {"client.userBoot", nil},
		{"client.userBoot", url.Values{"lazy_channels": {"1"}}}, {"users.list", nil}, {"users.list", url.Values{"limit": {"7"}}}, {"users.list", url.Values{"limit": {"-1"}}},
		{"users.list", url.Values{"cursor": {"nonsense"}}}, {"users.prefs.get", nil}, {"usergroups.list", nil}, {"users.info", nil},
		{"conversations.list", nil}, {"conversations.list", url.Values{"limit": {"5"}, "types": {"public_channel,private_channel,mpim,im"}}},
		{"conversations.list", url.Values{"limit": {"999"}, "exclude_archived": {"true"}, "types": {"public_channel,private_channel,mpim,im"}}},
		{"conversations.list", url.Values{"types": {"nonsense"}}}, {"conversations.list", url.Values{"limit": {"many"}}}, {"conversations.info", nil},
		{"users.conversations", url.Values{"limit": {"999"}, "types": {"public_channel,private_channel,mpim,im"}}}, {"users.conversations", url.Values{"limit": {"3"}}},
		{"users.conversations", url.Values{"user": {string(w.member(1).id)}}}, {"bots.info", nil}, {"bots.info", url.Values{"bot": {"B0NOBODY0"}}},
		{"users.info", url.Values{"user": {"U0NOBODY0"}}}, {"users.info", url.Values{"users": {string(w.member(0).id) + "," + string(w.member(1).id) + ",U0NOBODY0"}}},
		{"conversations.members", url.Values{"channel": {"C0NOWHERE"}}}, {"no.such.method", nil}, {"team.info", url.Values{"team": {"T0NOWHERE"}}},
	}
	for _, role := range []protocol.Role{protocol.RoleMember, protocol.RoleAdmin, protocol.RoleGuest, protocol.RoleBot} {
		for _, u := range w.users[role][:1] {
			asks = append(asks, ask{"users.info", url.Values{"user": {string(u.id)}}}, ask{"users.getPresence", url.Values{"user": {string(u.id)}}}, ask{"users.profile.get", url.Values{"user": {string(u.id)}}})
		}
	}
	for _, c := range channels {
		asks = append(asks, ask{"conversations.info", url.Values{"channel": {c}}}, ask{"conversations.info", url.Values{"channel": {c}, "include_num_members": {"true"}}},
			ask{"conversations.members", url.Values{"channel": {c}, "limit": {"4"}}}, ask{"conversations.history", url.Values{"channel": {c}, "limit": {"3"}}})
	}
	for _, who := range []account{w.member(0), w.member(1), w.admin(), w.guest(), w.bot()} {
		for round := range 2 {
			for _, a := range asks {
				_, _, edge := call(t, w.edgeURL(), a.method, who.token, a.args)
				_, _, back := call(t, w.backendURL(), a.method, who.token, a.args)
				for _, answer := range []map[string]any{edge, back} { // these name the server or the moment
					for _, field := range []string{"url", "cache_ts", "emoji_cache_ts", "error_message", "response_metadata_messages"} {
						delete(answer, field)
					}
				}
				if !reflect.DeepEqual(edge, back) {
					t.Errorf("%s (round %d) for %s %v:\n   edge %s\nbackend %s", a.method, round, who.name, a.args, text(edge), text(back))
				}
			}
		}
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(b) > 1500 {
		return string(b[:1500]) + "…"
	}
	return string(b)
}
