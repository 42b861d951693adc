package edge

import (
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// permessage-deflate (RFC 7692) as it is agreed on here: nobody keeps a window from one message to the next. A window costs a
// hundred kilobytes and more for each connection, and frames that refer to what one client was sent before could not be
// shared.

const extensionsHeader = "Sec-WebSocket-Extensions"

// maxWindow is the largest window, in bits, and what a client has that does not say.
const maxWindow = 15

// negotiate answers a client's offers, which are listed in the order of its preference: with what goes into the answer to the
// handshake, and the window of the client's inflater, in bits. window is 0 if none can be taken.
func negotiate(offers string) (answer string, window uint8) {
	for offer := range splitQuoted(offers, ',') {
		if answer, window = consider(offer); window > 0 {
			return answer, window
		}
	}
	return "", 0
}

// consider answers one offer. One with a parameter that is unknown, there twice, or has a value that it cannot have, is declined,
// as section 7 wants it.
func consider(offer string) (answer string, window uint8) {
	answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	seen := make(map[string]bool)
	for part := range splitQuoted(offer, ';') {
		name, value, valued := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), unquote(strings.TrimSpace(value))
		if len(seen) == 0 {
			if name != "permessage-deflate" || valued {
				return "", 0
			}
			seen[""], window = true, maxWindow
			continue
		}
		if seen[name] {
			return "", 0
		}
		seen[name] = true
		switch {
		case (name == "server_no_context_takeover" || name == "client_no_context_takeover") && !valued:
		case name == "client_max_window_bits" && (!valued || windowBits(value) > 0):
			// What the client may be asked for. We inflate whatever window it takes.
		case name == "server_max_window_bits" && valued && windowBits(value) > 0:
			window = windowBits(value)
			answer += "; server_max_window_bits=" + value
		default:
			return "", 0
		}
	}
	return answer, window
}

// windowBits reads the value of a parameter: 8 to 15, without zeros in front; else it is 0.
func windowBits(value string) uint8 {
	n, err := strconv.ParseUint(value, 10, 8)
	if err != nil || n < 8 || n > maxWindow || value[0] == '0' {
		return 0
	}
	return uint8(n)
}

// splitQuoted gives the parts of a list, without those separators that stand between quotes.
func splitQuoted(list string, sep byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		begin, quoted := 0, false
		for i := 0; i <= len(list); i++ {
			switch {
			case i == len(list), list[i] == sep && !quoted:
				if !yield(list[begin:i]) {
					return
				}
				begin = i + 1
			case list[i] == '\\' && quoted:
				i++
			case list[i] == '"':
				quoted = !quoted
			}
		}
	}
}

// unquote takes a value out of its quotes. None of those that are looked at has anything to be escaped.
func unquote(value string) string {
	if inner, ok := strings.CutPrefix(value, `"`); ok {
		if inner, ok = strings.CutSuffix(inner, `"`); ok {
			return inner
		}
	}
	return value
}

// offers returns what a client offers, "" if compression is off.
func (e *Edge) offers(ctx *fasthttp.RequestCtx) string {
	if !e.cfg.Compression {
		return ""
	}
	all := ctx.Request.Header.PeekAll(extensionsHeader)
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = string(one)
	}
	return strings.Join(list, ",")
}
