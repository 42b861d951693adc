package protocol

import "encoding/json"

// Refresh of a thin session's token (flannel=3). A session ends with its token, with CloseTokenExpired. A while before that the
// server asks for another (RefreshAsk), and the client may send one at any time (RefreshFrame): the session then goes on with
// it, and nothing is missed. What the client may see is looked at again, by the new token's identity: if that is not what the
// session began with, the answer is followed by goodbye and CloseResync, and the client comes back with the new token. A token
// of somebody else is refused; a refused token leaves the session as it was.

// FrameRefresh is the type of RefreshAsk and of RefreshFrame.
const FrameRefresh = "refresh"

// CodeTokenMismatch refuses a RefreshFrame: the token is of another user or another workspace.
const CodeTokenMismatch Code = "token_mismatch"

// RefreshAsk is the server's word that the session's token is about to end. It is said once for each token.
type RefreshAsk struct {
	Type string `json:"type"` // "refresh"
	// Expires is when the token ends, in Unix seconds.
	Expires int64 `json:"expires"`
}

// RefreshFrame is a client's new token. Its answer is Refreshed, or a Nack with SocketErrMessage and why as its text.
type RefreshFrame struct {
	Token string `json:"token"`
}

// Refreshed answers a RefreshFrame whose token is the session's from now on.
type Refreshed struct {
	OK      bool            `json:"ok"`
	ReplyTo json.RawMessage `json:"reply_to,omitempty"`
	// Expires is when the new token ends, in Unix seconds; 0 for never.
	Expires int64 `json:"expires"`
}
