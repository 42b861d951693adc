package backend

import (
	"errors"
	"fmt"
	"net"
	"time"

	"flannel/backend/channels"
	"flannel/backend/gateway"
	"flannel/backend/presence"
	"flannel/backend/rtm"
)

// Config is the backend's.
type Config struct {
	// Data is the folder that everything is kept in; made if it is not there.
	Data string `koanf:"data"`
	// Listen is the address of the Web API and the sockets.
	Listen string `koanf:"listen"`
	// AdminListen is the address of metrics, health and pprof, which cmd/flannel serves; empty for none.
	AdminListen string `koanf:"admin_listen"`
	// UpstreamListen is the address of the upstream contract.
	UpstreamListen string `koanf:"upstream_listen"`
	// UpstreamKey is the service key that edges must show; if empty, one is made and kept in the data folder.
	UpstreamKey string `koanf:"upstream_key"`
	// RateLimits switches the Web API's rate limits on.
	RateLimits bool `koanf:"rate_limits"`
	// OfflineDelay is how long a user without connections stays active.
	OfflineDelay time.Duration `koanf:"offline_delay"`

	// Hub: the events that are kept for replay.
	Hub channels.Config `koanf:"hub"`
	// Gateway: the edges' streams.
	Gateway gateway.Config `koanf:"gateway"`
	// RTM: sockets straight on the backend.
	RTM rtm.Config `koanf:"rtm"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Data: "data", Listen: "127.0.0.1:8081", AdminListen: "127.0.0.1:8083", UpstreamListen: "127.0.0.1:8090",
		RateLimits: true, OfflineDelay: presence.DefaultDelay,
		Hub: channels.Default(), Gateway: gateway.Default(), RTM: rtm.Default(),
	}
}

// minKey is the shortest service key, in bytes: 16 characters cannot be guessed.
const minKey = 16

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Data == "" {
		errs = append(errs, errors.New("data is empty; say where the data folder is"))
	}
	for name, addr := range map[string]string{"listen": c.Listen, "upstream_listen": c.UpstreamListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("%s is %q; write it like 127.0.0.1:8081", name, addr))
		}
	}
	if c.AdminListen != "" {
		if _, _, err := net.SplitHostPort(c.AdminListen); err != nil {
			errs = append(errs, fmt.Errorf("admin_listen is %q; write it like 127.0.0.1:8083", c.AdminListen))
		}
	}
	if c.UpstreamKey != "" && len(c.UpstreamKey) < minKey {
		errs = append(errs, fmt.Errorf("upstream_key has %d characters; it needs %d", len(c.UpstreamKey), minKey))
	}
	if c.OfflineDelay < 0 {
		errs = append(errs, fmt.Errorf("offline_delay is %s; it must not be below 0", c.OfflineDelay))
	}
	if err := c.Hub.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("hub: %w", err))
	}
	if err := c.Gateway.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("gateway: %w", err))
	}
	if err := c.RTM.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("rtm: %w", err))
	}
	return errors.Join(errs...)
}
