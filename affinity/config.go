package affinity

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Config of a node's place in its region.
type Config struct {
	// Listen is the address of the gossip between the nodes of a region, IP:port, TCP and UDP; empty: the node stands alone.
	// Keys are required unless it is on loopback.
	Listen string `koanf:"listen"`
	// Advertise is the address that others reach the gossip at, IP:port; empty: listen, or the machine's private address.
	Advertise string `koanf:"advertise"`
	// Name of the cluster. Nodes of another do not hear each other.
	Name string `koanf:"name"`
	// Node names this node. It must be its own and stay the same when the node restarts: the name owns the workspaces. Empty:
	// the host's name, with the gossip's port if that is not 7946.
	Node string `koanf:"node"`
	// PublicURL is where clients reach this very node, like https://n1.chat.example.com; empty only if the address for clients
	// is on loopback.
	PublicURL string `koanf:"public_url"`
	// Zone is shown in flannel cluster status.
	Zone string `koanf:"zone"`
	// Seeds are where other nodes are found, each an IP or a DNS name, with a port if it is not 7946. All addresses of a name
	// are tried, and it is looked up again all the time: a headless service of Kubernetes is one seed.
	Seeds []string `koanf:"seeds"`
	// Keys encrypt the gossip, in base64 (flannel cluster key makes one). The first encrypts, all decrypt.
	Keys []string `koanf:"keys"`
	// KeysFile has further keys, one a line, before those of keys. It is read again while the node runs: that is how keys are
	// changed.
	KeysFile string `koanf:"keys_file"`
	// HoldDown is how long a node that is gone keeps its workspaces. Its users are sent elsewhere meanwhile.
	HoldDown time.Duration `koanf:"hold_down"`
	// SpreadAt is how many sessions of one workspace a node should have at most; a larger one is spread over several by user.
	SpreadAt int `koanf:"spread_at"`
	// SpreadMax is over how many shares at most: a power of two.
	SpreadMax int `koanf:"spread_max"`
	// AnnounceEvery is how often the others are told how many sessions this node has, if that has changed by much.
	AnnounceEvery time.Duration `koanf:"announce_every"`
	// JoinEvery is how often the seeds are looked up for nodes that are not known, and keys_file is read again.
	JoinEvery time.Duration `koanf:"join_every"`
}

// DefaultPort is the gossip's, memberlist's own.
const DefaultPort = 7946

const (
	// maxSeeds bounds the seeds, and the addresses that are tried at one time.
	maxSeeds = 64
	// maxKeys bounds the keys: an old one, a new one, and some that somebody forgot.
	maxKeys = 8
)

// Default returns the defaults: a node that stands alone.
func Default() Config {
	return Config{
		Name: "flannel", Seeds: []string{}, Keys: []string{},
		HoldDown: 30 * time.Second, // a process restarts in that time, a machine does not
		SpreadAt: 2000,             // an eighth of a node's sessions: what one workspace may weigh before nodes become uneven
		// 16 × 2,000 is a workspace with 32,000 people online.
		SpreadMax:     16,
		AnnounceEvery: 2 * time.Second, JoinEvery: 10 * time.Second,
	}
}

// On reports whether the node has others beside it.
func (c *Config) On() bool { return c.Listen != "" }

// Validate tells every mistake at once. What is wrong while the node stands alone is wrong too.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, errors.New(key+": "+fmt.Sprintf(format, args...))) // A leaf: what it is about is its own key.
	}
	if c.On() {
		listen, err := ipPort(c.Listen)
		if err != nil {
			wrong("listen", "%v", err)
		} else if !listen.Addr().IsLoopback() && len(c.Keys) == 0 && c.KeysFile == "" {
			wrong("keys", "are required where gossip leaves this machine (listen is %s); make one with flannel cluster key, and give it to all nodes", c.Listen)
		}
	}
	if c.Advertise != "" {
		if a, err := ipPort(c.Advertise); err != nil {
			wrong("advertise", "%v", err)
		} else if a.Addr().IsUnspecified() || a.Port() == 0 {
			wrong("advertise", "others cannot reach %s", c.Advertise)
		}
	}
	for key, word := range map[string]string{"name": c.Name, "node": c.Node, "zone": c.Zone} {
		if len(word) > maxWord || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			wrong(key, "is %q; write at most %d letters, digits and signs, without spaces", word, maxWord)
		}
	}
	if c.Name == "" {
		wrong("name", "is empty")
	}
	if c.PublicURL != "" {
		if err := checkURL(c.PublicURL); err != nil {
			wrong("public_url", "%v", err)
		}
	}
	if len(c.Seeds) > maxSeeds {
		wrong("seeds", "%d are too many, %d are allowed", len(c.Seeds), maxSeeds)
	}
	for _, s := range c.Seeds {
		if _, _, err := hostPort(s); err != nil {
			wrong("seeds", "%v", err)
		}
	}
	if _, err := parseKeys(c.Keys); err != nil {
		wrong("keys", "%v", err)
	}
	for key, d := range map[string]time.Duration{"announce_every": c.AnnounceEvery, "join_every": c.JoinEvery} {
		if d < 10*time.Millisecond {
			wrong(key, "must be at least 10ms")
		}
	}
	if c.HoldDown < 0 || c.HoldDown > time.Hour {
		wrong("hold_down", "must be between 0 and 1h")
	}
	if c.SpreadAt < 1 {
		wrong("spread_at", "must be above 0")
	}
	if k := c.SpreadMax; k < 1 || k > MaxOwners || k&(k-1) != 0 {
		wrong("spread_max", "must be a power of two, %d at most", MaxOwners)
	}
	return errors.Join(errs...)
}

// ipPort reads an address to listen on. Names are not taken: memberlist listens on every interface if it cannot read one.
func ipPort(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("is %q; write IP:port", s)
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("is %q; write an IP address, not a name", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("is %q; the port is a number up to 65535", s)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// hostPort reads a seed.
func hostPort(s string) (host string, port uint16, err error) {
	if s == "" {
		return "", 0, errors.New("one is empty")
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), DefaultPort, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		host, text = s, strconv.Itoa(DefaultPort)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /:") && net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("%q is none; write an IP or a DNS name, and a port if it is not %d", s, DefaultPort)
	}
	return host, uint16(n), nil
}
