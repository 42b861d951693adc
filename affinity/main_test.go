package affinity

import (
	"testing"

	"go.uber.org/goleak"
)

// memberlist stops its goroutines and does not wait for them: a probe that is under way ends with its timeout.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).triggerFunc"))
}
