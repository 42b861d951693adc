package protocol

// CloseCode is the status of a websocket close frame. The ranges tell the client what to do:
//
//	4000-4099  reconnect now
//	4100-4199  reconnect after the time in the reason
//	4200-4299  reconnect elsewhere: the reason names a URL, if there is a better one
//	4300-4399  reconnect with a new token
//	4400-4499  reconnect and fetch everything again
//	4500-4599  do not reconnect
//
// The reason is a CloseReason as JSON, at most 123 bytes. Standard codes (RFC 6455, section 7.4) are used for what they
// mean: 1000, 1001, 1002 (protocol error), 1003 (binary frame), 1007 (bad UTF-8), 1009 (frame too large).
type CloseCode uint16

// The close codes.
const (
	CloseNormal      CloseCode = 1000
	CloseGoingAway   CloseCode = 1001
	CloseProtocol    CloseCode = 1002
	CloseUnsupported CloseCode = 1003
	CloseBadUTF8     CloseCode = 1007
	CloseTooBig      CloseCode = 1009

	CloseReconnect   CloseCode = 4000
	ClosePingTimeout CloseCode = 4001
	// CloseLifetime: the connection has lasted as long as the server lets one last.
	CloseLifetime     CloseCode = 4002
	CloseOverloaded   CloseCode = 4100
	CloseTooFast      CloseCode = 4101
	CloseDraining     CloseCode = 4200
	CloseTokenExpired CloseCode = 4300
	CloseTokenRevoked CloseCode = 4301
	CloseSlow         CloseCode = 4400
	CloseResync       CloseCode = 4401
	CloseInactive     CloseCode = 4500
	CloseBadTicket    CloseCode = 4501
)

var closeNames = map[CloseCode]string{
	CloseNormal: "normal", CloseGoingAway: "going_away", CloseProtocol: "protocol_error", CloseUnsupported: "unsupported_data",
	CloseBadUTF8: "bad_utf8", CloseTooBig: "too_big", CloseReconnect: "reconnect", ClosePingTimeout: "ping_timeout", CloseLifetime: "lifetime",
	CloseOverloaded: "overloaded", CloseTooFast: "too_fast", CloseDraining: "draining", CloseTokenExpired: "token_expired",
	CloseTokenRevoked: "token_revoked", CloseSlow: "slow", CloseResync: "resync", CloseInactive: "account_inactive",
	CloseBadTicket: "bad_ticket",
}

// String returns the code's name in logs and metric labels: a closed set, "other" for codes that clients make up.
func (c CloseCode) String() string {
	if name, ok := closeNames[c]; ok {
		return name
	}
	return "other"
}

// CloseCodes lists every code, for closed label sets.
func CloseCodes() []CloseCode {
	codes := make([]CloseCode, 0, len(closeNames))
	for c := range closeNames {
		codes = append(codes, c)
	}
	return codes
}

// CloseReason is the JSON in a close frame.
type CloseReason struct {
	Reason  string `json:"reason"`
	RetryMS int    `json:"retry_after_ms,omitempty"`
	URL     string `json:"url,omitempty"`
}
