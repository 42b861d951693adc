package backend_test

import (
	"testing"
	"time"

	"github.com/slack-go/slack"
)

// An unmodified client, straight on the backend: connect, hello, latency, send, receive, typing, reconnect, goodbye.
func TestRTM_SlackGo(t *testing.T) {
	s := start(t, nil)
	api := slack.New(s.token(ann), slack.OptionAPIURL("http://"+s.Addr()+"/api/"))
	client := api.NewRTM(slack.RTMOptionPingInterval(time.Second))
	managed := make(chan struct{})
	go func() { defer close(managed); client.ManageConnection() }()
	defer func() {
		client.Disconnect() // It may be disconnected.
		<-managed
	}()
	other := s.rtm(bob)

	deadline := time.After(patience)
	next := func(what string, is func(data any) bool) {
		t.Helper()
		for {
			select {
			case ev := <-client.IncomingEvents:
				switch e := ev.Data.(type) {
				case *slack.UnmarshallingErrorEvent:
					t.Errorf("slack-go cannot read what we send: %v", e)
				case *slack.InvalidAuthEvent, *slack.ConnectionErrorEvent:
					t.Fatalf("%s: %+v", what, e)
				}
				if is(ev.Data) {
					return
				}
			case <-deadline:
				t.Fatalf("%s did not come", what)
			}
		}
	}
	next("connected", func(d any) bool {
		e, ok := d.(*slack.ConnectedEvent)
		return ok && e.Info.User.ID == string(ann) && e.Info.Team.ID == string(workspace)
	})
	next("hello", func(d any) bool { _, ok := d.(*slack.HelloEvent); return ok })
	next("latency", func(d any) bool {
		e, ok := d.(*slack.LatencyReport)
		return ok && e.Value > 0 && e.Value < patience
	})
	client.SendMessage(client.NewOutgoingMessage("from slack-go", string(general)))
	next("ack", func(d any) bool { e, ok := d.(*slack.AckMessage); return ok && e.Timestamp != "" })
	other.until(`"from slack-go"`)
	client.SendMessage(client.NewTypingMessage(string(general)))
	other.until(`"user_typing"`, string(ann))
	client.SendMessage(client.NewSubscribeUserPresence([]string{string(bob)}))
	next("presence", func(d any) bool {
		e, ok := d.(*slack.PresenceChangeEvent)
		return ok && e.User == string(bob) && e.Presence == "active"
	})
	other.say(`{"id":1,"type":"message","channel":"C0001","text":"to slack-go"}`)
	next("message", func(d any) bool {
		e, ok := d.(*slack.MessageEvent)
		return ok && e.Text == "to slack-go" && e.User == string(bob)
	})
	for range 40 {
		client.SendMessage(client.NewOutgoingMessage("spam", string(general)))
	}
	next("rate limit", func(d any) bool { _, ok := d.(*slack.RateLimitEvent); return ok })
}
