package client

import "testing"

// TestCursor_ATokenMayStandBelowWhatWasHad: an event comes, then a pong whose token stands below it, because the server's
// watermark is a moment behind its deliveries; then the connection is lost. The replay brings the event again, which was
// taken as new when a token made the cursor forget.
func TestCursor_ATokenMayStandBelowWhatWasHad(t *testing.T) {
	var c cursor
	ev := &Event{Type: "message", Topic: "C1", Seq: 5}
	c.admit(&step{token: "1.a.U1", fresh: true})
	c.admit(&step{event: ev})
	c.admit(&step{token: "1.b.U1"})
	c.admit(&step{token: "1.b.U1", keep: true})
	if !c.had(ev) {
		t.Error("the event is taken for a new one")
	}
	if c.had(&Event{Topic: "C1", Seq: 6}) || c.Token != "1.b.U1" {
		t.Errorf("the cursor is %+v", c)
	}
	c.admit(&step{token: "1.c.U1", fresh: true})
	if c.had(ev) {
		t.Error("a fresh start knows old events")
	}
}
