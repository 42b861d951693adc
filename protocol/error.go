package protocol

import (
	"errors"
	"fmt"
	"time"
)

// Code is an error's name on the wire: the dialect's own names where it has one.
type Code string

// Codes that more than one room uses. The Web API has more, in backend/webapi, that only it speaks.
const (
	CodeNotAuthed       Code = "not_authed"
	CodeInvalidAuth     Code = "invalid_auth"
	CodeAccountInactive Code = "account_inactive"
	CodeTokenRevoked    Code = "token_revoked"
	CodeTokenExpired    Code = "token_expired"
	CodeUnknownMethod   Code = "unknown_method"
	CodeInvalidArgs     Code = "invalid_arguments"
	CodeInvalidArgName  Code = "invalid_arg_name"
	CodeInvalidJSON     Code = "invalid_json"
	CodeJSONNotObject   Code = "json_not_object"
	CodeInvalidForm     Code = "invalid_form_data"
	CodeInvalidPostType Code = "invalid_post_type"
	CodeInvalidCharset  Code = "invalid_charset"
	CodeInvalidCursor   Code = "invalid_cursor"
	CodeInvalidLimit    Code = "invalid_limit"
	CodeLimitRequired   Code = "limit_required"
	CodeRateLimited     Code = "ratelimited"
	CodeUserNotFound    Code = "user_not_found"
	CodeUserNotVisible  Code = "user_not_visible"
	CodeChannelNotFound Code = "channel_not_found"
	CodeBotNotFound     Code = "bot_not_found"
	CodeNotInChannel    Code = "not_in_channel"
	CodeTeamNotFound    Code = "team_not_found"
	CodeNoPermission    Code = "no_permission"
	CodeAccessDenied    Code = "access_denied"
	CodeInternal        Code = "internal_error"
	// CodeUnavailable: the backend cannot be reached now; the answer carries a retry time.
	CodeUnavailable Code = "service_unavailable"
	// CodeBehind: the backend has not reached the position asked for.
	CodeBehind Code = "behind"
	// CodeTooLarge: the request is over its limit.
	CodeTooLarge Code = "request_too_large"
)

// Error is what a client may be told. Everything else becomes CodeInternal at the door.
type Error struct {
	Code    Code
	Message string
	// Retry is when to try again; 0 if trying again does not help or the client may choose.
	Retry time.Duration
}

// Error implements error.
func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Code)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Is makes errors.Is compare by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf returns an Error with a message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError returns the Error within err, or CodeInternal if there is none.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal}
}
