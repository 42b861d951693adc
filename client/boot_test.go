package client

import (
	"reflect"
	"testing"

	"flannel/protocol"
)

// The counts behind a lazy boot leave out what says nothing; applications see the whole all the same.
func TestCounts_OfALazyBootAreWhole(t *testing.T) {
	m := protocol.Membership{Channel: "C1", Type: protocol.TypePublic, LastRead: "1700000000.000001", Latest: "1700000000.000002", MentionCount: 3}
	want, err := decodeCounts(protocol.AppendCounts(nil, []protocol.Membership{m}, false))
	if err != nil {
		t.Fatal(err)
	}

	got, err := decodeCounts(protocol.AppendCounts(nil, []protocol.Membership{m}, true))

	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
