package edge

import (
	"strings"
	"testing"
	"time"
)

func TestConfig_DefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfig_TellsEveryMistakeAtOnce(t *testing.T) {
	c := Default()
	c.Listen, c.MaxSessions, c.CallTimeout, c.DrainTime = "", 0, -1, -1
	c.PingInterval, c.ReconnectMin = time.Minute, time.Hour

	err := c.Validate()

	for _, want := range []string{"listen:", "max_sessions:", "call_timeout:", "drain_time", "ping_interval:", "reconnect_max:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := New(c, Options{}); err == nil {
		t.Error("it is taken all the same")
	}
}
