package affinity

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's own, counted.
type transport struct {
	*memberlist.NetTransport
	metrics *metrics
}

// bindTries is how often a free port is asked for: it must be free for TCP and for UDP, which nobody can ask for at once.
const bindTries = 10

// newTransport listens. It puts the port into conf if the kernel chose it.
func newTransport(conf *memberlist.Config, m *metrics) (*transport, error) {
	nc := &memberlist.NetTransportConfig{BindAddrs: []string{conf.BindAddr}, BindPort: conf.BindPort, Logger: conf.Logger}
	var (
		nt  *memberlist.NetTransport
		err error
	)
	for range bindTries {
		if nt, err = memberlist.NewNetTransport(nc); err == nil || conf.BindPort != 0 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen for gossip on %s: %w", netip.AddrPortFrom(netip.MustParseAddr(conf.BindAddr), uint16(conf.BindPort)), err)
	}
	if conf.BindPort == 0 {
		conf.BindPort = nt.GetAutoBindPort()
	}
	if conf.AdvertisePort == 0 {
		conf.AdvertisePort = conf.BindPort
	}
	return &transport{nt, m}, nil
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	t.metrics.packets.Inc()
	t.metrics.bytes.Add(float64(len(b)))
	return t.NetTransport.WriteToAddress(b, a)
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	conn, err := t.NetTransport.DialAddressTimeout(a, timeout)
	t.metrics.streams.WithLabelValues(outcome(err)).Inc()
	return conn, err
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}
