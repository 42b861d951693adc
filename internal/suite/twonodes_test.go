package suite_test

import (
	"testing"

	"github.com/slack-go/slack"
)

// TestTwoNodes runs two edges on one backend in one process: what is said at one is heard at the other, and a change
// made through one is read at the other.
func TestTwoNodes(t *testing.T) {
	w := newWorld(t, 12)
	first, stopFirst := w.edgeURL(), w.stopEdge
	t.Cleanup(stopFirst)
	w.startEdge("127.0.0.1:0")
	second := w.edgeURL()
	a, b := connect(t, first, w.member(0)), connect(t, second, w.member(1))
	channel := general(t, a.api)

	a.rtm.SendMessage(a.rtm.NewOutgoingMessage("from the first", channel))
	heard := await(b, func(m *slack.MessageEvent) bool { return m.Text == "from the first" })
	if err := b.api.SetUserCustomStatusContext(t.Context(), "at the second", ":wave:", 0); err != nil {
		t.Fatal(err)
	}
	await(a, func(e *slack.UserChangeEvent) bool { return e.User.Profile.StatusText == "at the second" })

	if heard.User != string(w.member(0).id) {
		t.Errorf("heard %+v", heard.Msg)
	}
	u, err := a.api.GetUserInfoContext(t.Context(), string(w.member(1).id))
	if err != nil || u.Profile.StatusText != "at the second" {
		t.Errorf("the first says %q, %v", u.Profile.StatusText, err)
	}
}
