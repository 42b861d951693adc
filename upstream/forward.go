package upstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"strconv"
	"strings"

	"github.com/failsafe-go/failsafe-go"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// reads are the methods of protocol.Methods that change nothing, so that sending one twice does no harm.
var reads = map[string]struct{}{
	"api.test": {}, "auth.test": {}, "rtm.connect": {}, "rtm.start": {}, "client.userBoot": {}, "client.counts": {},
	"client.getWebSocketURL": {}, "api.getFlannelHttpUrl": {}, "users.info": {}, "users.list": {},
	"users.lookupByEmail": {}, "users.conversations": {}, "users.profile.get": {}, "users.getPresence": {},
	"users.prefs.get": {}, "conversations.list": {}, "conversations.info": {}, "conversations.members": {},
	"conversations.history": {}, "conversations.replies": {}, "chat.getPermalink": {}, "reactions.get": {},
	"team.info": {}, "emoji.list": {}, "bots.info": {}, "usergroups.list": {}, "usergroups.users.list": {},
}

const (
	// methodPost is the write that the backend does once per idempotency key.
	methodPost = "chat.postMessage"
	// methodBulk is the call whose answer is the whole workspace.
	methodBulk = "rtm.start"
)

// Forward sends a client's call to the backend as it is and returns the answer as it is, with the position that the
// backend named. Answers larger than Config.BufferBytes come as a stream, which the caller closes. A write without an
// idempotency key gets one. A call is sent again only when that is safe: nothing was sent, or the method is a read or
// chat.postMessage. The end of ctx ends the waiting; a write that is on its way goes on. The call is not changed, and
// nothing of it is used after Forward has returned.
func (u *Upstream) Forward(ctx context.Context, call *protocol.Call) (*protocol.Reply, error) {
	if !validMethod(call.Method) {
		return nil, protocol.Errorf(protocol.CodeUnknownMethod, "%q is not the name of a method", call.Method)
	}
	mine := *call
	mine.Query, mine.Body = bytes.Clone(call.Query), bytes.Clone(call.Body)
	_, read := reads[call.Method]
	if !read && mine.IdempotencyKey == "" {
		mine.IdempotencyKey = rand.Text()
	}

	c := u.calls[protocol.CallForward]
	policy := c.once
	if read || call.Method == methodPost {
		policy = c.repeat
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		reply *protocol.Reply
		err   error
	}
	answered := make(chan outcome)
	if !u.start(func() {
		reply, err := u.forward(ctx, c, policy, &mine)
		select {
		case answered <- outcome{reply, err}:
		case <-ctx.Done():
			if reply != nil && reply.Stream != nil {
				_ = reply.Stream.Close()
			}
		}
	}) {
		return nil, told(abandoned())
	}
	select {
	case o := <-answered:
		if o.err != nil {
			return nil, told(o.err)
		}
		return o.reply, nil
	case <-ctx.Done():
		return nil, told(gaveUp(ctx, "a forwarded call"))
	}
}

func (u *Upstream) forward(ctx context.Context, c *call, policy failsafe.Policy[any], call *protocol.Call) (*protocol.Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(u.life, cancel)()
	var reply *protocol.Reply
	err := c.do(ctx, policy, func() error {
		r, err := u.wire.forward(call)
		reply = r
		return err
	})
	if err != nil {
		if reply != nil && reply.Stream != nil {
			_ = reply.Stream.Close()
		}
		return nil, err
	}
	return reply, nil
}

// forward sends a call once. A failed one is a *failure.
func (w *wire) forward(call *protocol.Call) (*protocol.Reply, error) {
	client := w.forwards
	if call.Method == methodBulk {
		client = w.bulk
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	uri := append([]byte(w.base+protocol.UpstreamPath+protocol.CallForward+"/"), call.Method...)
	if len(call.Query) > 0 {
		uri = appendQuery(append(uri, '?'), call.Query)
	}
	req.SetRequestURIBytes(uri)
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetNoDefaultContentType(true)
	if call.ContentType != "" {
		req.Header.SetContentType(call.ContentType)
	}
	req.Header.Set(fasthttp.HeaderAuthorization, w.bearer)
	if call.Token != "" {
		req.Header.Set(protocol.HeaderToken, call.Token)
	}
	if call.IdempotencyKey != "" {
		req.Header.Set(protocol.HeaderIdempotencyKey, call.IdempotencyKey)
	}
	if call.Remote != "" {
		req.Header.Set(fasthttp.HeaderXForwardedFor, call.Remote)
	}
	// Several clients derive their host from what auth.test says, which must be the one that they called.
	if scheme, host, ok := strings.Cut(call.Host, "://"); ok {
		req.Header.Set(fasthttp.HeaderXForwardedProto, scheme)
		req.Header.Set(fasthttp.HeaderXForwardedHost, host)
	}
	req.SetBodyRaw(call.Body)

	if err := client.Do(req, resp); err != nil {
		fasthttp.ReleaseResponse(resp)
		return nil, sendFailed(err)
	}
	return w.reply(resp)
}

// reply makes a Reply of a response. It owns resp.
func (w *wire) reply(resp *fasthttp.Response) (*protocol.Reply, error) {
	stream := newBody(resp)
	status := resp.StatusCode()
	passed := status == fasthttp.StatusOK || status == fasthttp.StatusTooManyRequests
	limit := w.cfg.BufferBytes
	if !passed {
		limit = min(limit, 64<<10) // An ErrorAnswer; a proxy's page is not wanted whole.
	}
	head, whole, err := stream.head(limit)
	if err != nil {
		_ = stream.Close()
		return nil, sendFailed(err)
	}
	if !passed {
		f := statusFailed(status, retryAfter(resp), errorAnswer(head))
		_ = stream.Close()
		return nil, f
	}
	reply := &protocol.Reply{Status: status}
	if status == fasthttp.StatusTooManyRequests {
		reply.RetryAfter = int(retryAfter(resp).Seconds())
	}
	if p, err := strconv.ParseUint(string(resp.Header.Peek(protocol.HeaderPosition)), 10, 64); err == nil {
		reply.Position = protocol.Position(p)
	}
	if whole {
		reply.Body = head
		_ = stream.Close()
		return reply, nil
	}
	stream.start = head
	reply.Stream = stream
	return reply, nil
}

// validMethod reports whether name can stand in a path: methods are words between dots.
func validMethod(name string) bool {
	if name == "" || len(name) > 100 || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// appendQuery appends a query as the client wrote it. Only bytes that would end the request's first line, or the query
// in it, are escaped: a sloppy client may have sent them.
func appendQuery(dst, query []byte) []byte {
	const hex = "0123456789ABCDEF"
	for _, c := range query {
		if c <= ' ' || c == '#' || c == 0x7f {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
