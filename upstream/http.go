package upstream

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// wire is the HTTP side of the contract. Loads, forwarded calls and bulk answers have a pool of connections each, so
// that none can starve the others.
type wire struct {
	base   string // scheme://host, no slash at the end
	bearer string
	cfg    Config

	loads    *fasthttp.HostClient
	forwards *fasthttp.HostClient
	bulk     *fasthttp.HostClient
	conns    *connSet
}

// newWire builds the clients. Connections are opened with dial, within life; it does TLS itself.
func newWire(life context.Context, cfg Config, dial dialFunc) *wire {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		panic("upstream: the configuration was not validated: " + err.Error())
	}
	w := &wire{base: u.Scheme + "://" + u.Host, bearer: "Bearer " + cfg.Key, cfg: cfg, conns: &connSet{open: make(map[net.Conn]struct{})}}
	client := func(conns int, idleRead time.Duration) *fasthttp.HostClient {
		return &fasthttp.HostClient{
			Addr: fasthttp.AddMissingPort(u.Host, u.Scheme == "https"),
			DialTimeout: func(addr string, timeout time.Duration) (net.Conn, error) {
				if timeout <= 0 || timeout > cfg.DialTimeout {
					timeout = cfg.DialTimeout
				}
				ctx, cancel := context.WithTimeout(life, timeout)
				defer cancel()
				c, err := dial(ctx, "tcp", addr)
				if err != nil {
					return nil, &dialError{err}
				}
				tracked, err := w.conns.add(c, idleRead)
				if err != nil {
					return nil, &dialError{err}
				}
				return tracked, nil
			},
			IsTLS:                    u.Scheme == "https",
			Name:                     "flannel",
			MaxConns:                 conns,
			MaxConnWaitTimeout:       cfg.QueueTimeout,
			MaxIdleConnDuration:      cfg.IdleTimeout,
			ConnPoolStrategy:         fasthttp.LIFO, // Keeps few connections warm instead of all of them lukewarm.
			DisablePathNormalizing:   true,
			NoDefaultUserAgentHeader: true,
			ReadBufferSize:           16 << 10,
			WriteBufferSize:          16 << 10,
			SecureErrorLogMessage:    true,
			// Retrying is decided in one place, call.do.
			MaxIdemponentCallAttempts: 1,
			RetryIfErr:                func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		}
	}
	w.loads = client(cfg.LoadConns, 0)
	w.loads.MaxResponseBodySize = cfg.MaxAnswerBytes
	w.forwards = client(cfg.ForwardConns, cfg.ForwardTimeout)
	w.forwards.StreamResponseBody = true
	w.forwards.WriteTimeout = cfg.ForwardTimeout
	w.bulk = client(cfg.BulkConns, cfg.ForwardTimeout)
	w.bulk.StreamResponseBody = true
	w.bulk.WriteTimeout = cfg.ForwardTimeout
	return w
}

// load posts a request of the contract and decodes its answer into answer. A failed load is a *failure.
func (w *wire) load(name string, request []byte, timeout time.Duration, answer any) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(w.base + protocol.UpstreamPath + name)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.Header.Set(fasthttp.HeaderAuthorization, w.bearer)
	req.SetBodyRaw(request)

	if err := w.loads.DoTimeout(req, resp, timeout); err != nil {
		return sendFailed(err)
	}
	if resp.StatusCode() != fasthttp.StatusOK {
		return statusFailed(resp.StatusCode(), retryAfter(resp), errorAnswer(resp.Body()))
	}
	// Decoding copies everything that answer keeps: the response's buffer goes back to its pool.
	if err := json.Unmarshal(resp.Body(), answer); err != nil {
		return badAnswer("decode %s: %w", name, err)
	}
	return nil
}

// idle closes the connections that nobody uses, which may have died with the backend.
func (w *wire) idle() {
	w.loads.CloseIdleConnections()
	w.forwards.CloseIdleConnections()
	w.bulk.CloseIdleConnections()
}

// close ends every connection; whoever waits for an answer gets an error.
func (w *wire) close() {
	w.idle()
	w.conns.close()
}

func errorAnswer(body []byte) protocol.ErrorAnswer {
	var answer protocol.ErrorAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return protocol.ErrorAnswer{} // A proxy's page, say; the status says enough.
	}
	return answer
}

// retryAfter reads the header in its form of seconds; 0 if there is none.
func retryAfter(resp *fasthttp.Response) time.Duration {
	n, err := strconv.Atoi(string(resp.Header.Peek(fasthttp.HeaderRetryAfter)))
	if err != nil || n < 0 || n > 3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}
