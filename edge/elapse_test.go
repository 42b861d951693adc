package edge

import (
	"testing/synctest"
	"time"
)

// elapse lets a bubble's clock go on by d, and what that sets off end. Outside of a bubble it panics: there nothing sleeps.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
