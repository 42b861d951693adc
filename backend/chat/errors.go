package chat

import (
	"errors"

	"flannel/backend/store"
	"flannel/protocol"
)

// Codes of the dialect that only the Web API speaks.
const (
	CodeAlreadyArchived       protocol.Code = "already_archived"
	CodeAlreadyInChannel      protocol.Code = "already_in_channel"
	CodeAlreadyReacted        protocol.Code = "already_reacted"
	CodeBadTimestamp          protocol.Code = "bad_timestamp"
	CodeCannotReply           protocol.Code = "cannot_reply_to_message"
	CodeCantArchiveGeneral    protocol.Code = "cant_archive_general"
	CodeCantDeleteMessage     protocol.Code = "cant_delete_message"
	CodeCantInvite            protocol.Code = "cant_invite"
	CodeCantInviteSelf        protocol.Code = "cant_invite_self"
	CodeCantKickGeneral       protocol.Code = "cant_kick_from_general"
	CodeCantKickSelf          protocol.Code = "cant_kick_self"
	CodeCantLeaveGeneral      protocol.Code = "cant_leave_general"
	CodeCantUpdateMessage     protocol.Code = "cant_update_message"
	CodeEmojiNotFound         protocol.Code = "emoji_not_found"
	CodeErrorBadNameI18n      protocol.Code = "error_bad_name_i18n"
	CodeErrorBadURL           protocol.Code = "error_bad_format"
	CodeErrorNameTaken        protocol.Code = "error_name_taken"
	CodeFetchMembersFailed    protocol.Code = "fetch_members_failed"
	CodeInvalidAttachments    protocol.Code = "invalid_attachments"
	CodeInvalidBlocks         protocol.Code = "invalid_blocks"
	CodeInvalidName           protocol.Code = "invalid_name"
	CodeInvalidNameMaxLength  protocol.Code = "invalid_name_maxlength"
	CodeInvalidNamePunct      protocol.Code = "invalid_name_punctuation"
	CodeInvalidNameRequired   protocol.Code = "invalid_name_required"
	CodeInvalidNameSpecials   protocol.Code = "invalid_name_specials"
	CodeInvalidPresence       protocol.Code = "invalid_presence"
	CodeInvalidProfile        protocol.Code = "invalid_profile"
	CodeInvalidTimestamp      protocol.Code = "invalid_timestamp"
	CodeInvalidTSLatest       protocol.Code = "invalid_ts_latest"
	CodeInvalidTSOldest       protocol.Code = "invalid_ts_oldest"
	CodeInvalidTypes          protocol.Code = "invalid_types"
	CodeInvalidUserCombo      protocol.Code = "invalid_user_combination"
	CodeLastMember            protocol.Code = "last_member"
	CodeMessageNotFound       protocol.Code = "message_not_found"
	CodeMethodNotSupported    protocol.Code = "method_not_supported_for_channel_type"
	CodeMsgBlocksTooLong      protocol.Code = "msg_blocks_too_long"
	CodeMsgTooLong            protocol.Code = "msg_too_long"
	CodeNameTaken             protocol.Code = "name_taken"
	CodeNoItemSpecified       protocol.Code = "no_item_specified"
	CodeNoReaction            protocol.Code = "no_reaction"
	CodeNoSuchSubteam         protocol.Code = "no_such_subteam"
	CodeNoText                protocol.Code = "no_text"
	CodeNoUser                protocol.Code = "no_user"
	CodeNotAdmin              protocol.Code = "not_an_admin"
	CodeNotArchived           protocol.Code = "not_archived"
	CodeNotAuthorized         protocol.Code = "not_authorized"
	CodeIsArchived            protocol.Code = "is_archived"
	CodeRestrictedAction      protocol.Code = "restricted_action"
	CodeStatusEmojiInvalid    protocol.Code = "profile_status_set_failed_not_valid_emoji"
	CodeThreadNotFound        protocol.Code = "thread_not_found"
	CodeTooLong               protocol.Code = "too_long"
	CodeTooManyAttachments    protocol.Code = "too_many_attachments"
	CodeTooManyEmoji          protocol.Code = "too_many_emoji"
	CodeTooManyReactions      protocol.Code = "too_many_reactions"
	CodeTooManyUsers          protocol.Code = "too_many_users"
	CodeUltraRestrictedInMany protocol.Code = "ura_max_channels"
	CodeUserDisabled          protocol.Code = "user_disabled"
	CodeUserNotInChannel      protocol.Code = "user_not_in_channel"
	CodeUserRestricted        protocol.Code = "user_is_restricted"
	CodeUsersListNotSupplied  protocol.Code = "users_list_not_supplied"
	CodeUsersNotFound         protocol.Code = "users_not_found"
)

// Codes lists them, for closed label sets.
var Codes = []protocol.Code{
	CodeAlreadyArchived, CodeAlreadyInChannel, CodeAlreadyReacted, CodeBadTimestamp, CodeCannotReply, CodeCantArchiveGeneral,
	CodeCantDeleteMessage, CodeCantInvite, CodeCantInviteSelf, CodeCantKickGeneral, CodeCantKickSelf, CodeCantLeaveGeneral,
	CodeCantUpdateMessage, CodeEmojiNotFound, CodeErrorBadNameI18n, CodeErrorBadURL, CodeErrorNameTaken,
	CodeFetchMembersFailed, CodeInvalidAttachments, CodeInvalidBlocks, CodeInvalidName, CodeInvalidNameMaxLength,
	CodeInvalidNamePunct, CodeInvalidNameRequired, CodeInvalidNameSpecials, CodeInvalidPresence, CodeInvalidProfile,
	CodeInvalidTimestamp, CodeInvalidTSLatest, CodeInvalidTSOldest, CodeInvalidTypes, CodeInvalidUserCombo, CodeLastMember,
	CodeMessageNotFound, CodeMethodNotSupported, CodeMsgBlocksTooLong, CodeMsgTooLong, CodeNameTaken, CodeNoItemSpecified,
	CodeNoReaction, CodeNoSuchSubteam, CodeNoText, CodeNoUser, CodeNotAdmin, CodeNotArchived, CodeNotAuthorized,
	CodeIsArchived, CodeRestrictedAction, CodeStatusEmojiInvalid, CodeThreadNotFound, CodeTooLong, CodeTooManyAttachments,
	CodeTooManyEmoji, CodeTooManyReactions, CodeTooManyUsers, CodeUltraRestrictedInMany, CodeUserDisabled,
	CodeUserNotInChannel, CodeUserRestricted, CodeUsersListNotSupplied, CodeUsersNotFound,
}

// refuse returns the error of a code without a message.
func refuse(code protocol.Code) error { return &protocol.Error{Code: code} }

// orRefuse turns the store's "not found" into what the client is told, and leaves other errors alone.
func orRefuse(err error, code protocol.Code) error {
	if errors.Is(err, store.ErrNotFound) {
		return refuse(code)
	}
	return err
}
