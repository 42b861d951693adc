package webapi

import (
	"slices"
	"strings"

	"flannel/protocol"
)

// methods returns the table of methods; a test holds it against protocol.Methods.
func methods() map[string]method {
	return map[string]method{
		"api.test":    {open: apiTest},
		"auth.test":   {read: authTest},
		"auth.revoke": {write: authRevoke},
		"rtm.connect": {read: rtmConnect},
		"rtm.start":   {stream: rtmStart},

		"client.userBoot":           {read: userBoot},
		"client.counts":             {read: counts},
		"client.getWebSocketURL":    {read: webSocketURL},
		"client.dms":                {read: clientDMs},
		"conversations.view":        {read: conversationsView},
		"conversations.genericInfo": {read: genericInfo},
		"api.getFlannelHttpUrl":     {read: flannelURL},
		"users.info":                {read: usersInfo},
		"users.list":                {read: usersList},
		"users.lookupByEmail":       {read: usersLookupByEmail},
		"users.conversations":       {read: usersConversations},
		"users.profile.get":         {read: profileGet},
		"users.profile.set":         {write: profileSet},
		"users.getPresence":         {read: getPresence},
		"users.setPresence":         {write: setPresence},
		"users.setActive":           {read: setActive},
		"users.prefs.get":           {read: prefsGet},
		"users.prefs.set":           {write: prefsSet},
		"conversations.list":        {read: conversationsList},
		"conversations.info":        {read: conversationsInfo},
		"conversations.members":     {read: conversationsMembers},
		"conversations.history":     {read: conversationsHistory},
		"conversations.replies":     {read: conversationsReplies},
		"conversations.create":      {write: conversationsCreate},
		"conversations.join":        {write: conversationsJoin},
		"conversations.leave":       {write: conversationsLeave},
		"conversations.invite":      {write: conversationsInvite},
		"conversations.kick":        {write: conversationsKick},
		"conversations.open":        {write: conversationsOpen},
		"conversations.close":       {write: conversationsClose},
		"conversations.mark":        {write: conversationsMark},
		"conversations.rename":      {write: conversationsRename},
		"conversations.setTopic":    {write: conversationsSetTopic},
		"conversations.setPurpose":  {write: conversationsSetPurpose},
		"conversations.archive":     {write: conversationsArchive},
		"conversations.unarchive":   {write: conversationsUnarchive},
		"chat.postMessage":          {write: postMessage},
		"chat.update":               {write: updateMessage},
		"chat.delete":               {write: deleteMessage},
		"chat.postEphemeral":        {read: postEphemeral},
		"chat.getPermalink":         {read: getPermalink},
		"reactions.add":             {write: reactionsAdd},
		"reactions.remove":          {write: reactionsRemove},
		"reactions.get":             {read: reactionsGet},
		"team.info":                 {read: teamInfo},
		"emoji.list":                {read: emojiList},
		"admin.emoji.add":           {write: emojiAdd},
		"admin.emoji.remove":        {write: emojiRemove},
		"bots.info":                 {read: botsInfo},
		"usergroups.list":           {read: usergroupsList},
		"usergroups.users.list":     {read: usergroupsUsersList},
	}
}

// maxPage is the largest page of any list; larger limits are cut to it, as the dialect allows ("fewer may come").
const maxPage = 1000

// limit reads the size of a page: def if there is none or it is 0.
func (q *request) limit(def int) (int, error) { return q.pageSize("limit", def) }

// pageSize is limit for methods that have another name for it.
func (q *request) pageSize(name string, def int) (int, error) {
	n, err := q.args.Int(name, def)
	if err != nil || n < 0 {
		return 0, &protocol.Error{Code: protocol.CodeInvalidLimit}
	}
	if n == 0 {
		n = def
	}
	return min(n, maxPage), nil
}

// cursor reads where to go on: at an id of that kind.
func (q *request) cursor(kind string) (string, error) {
	id, err := protocol.DecodeCursor(kind, q.args["cursor"])
	if err == nil && id != "" && !protocol.ValidID(id) {
		err = &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	return id, err
}

// nextCursor is the cursor for "go on at id", "" at the end.
func nextCursor[S ~string](kind string, id S) string {
	if id == "" {
		return ""
	}
	return protocol.EncodeCursor(kind, string(id))
}

// before returns a string that sorts just below id and above every other id below it, so that what comes "after" it
// begins with id itself: pages of the store go on after an id, cursors of the dialect at one.
func before[S ~string](id S) S {
	if id == "" {
		return ""
	}
	last := len(id) - 1
	return id[:last] + S(id[last]-1) + "\U0010FFFF"
}

func (q *request) channel() protocol.ChannelID { return protocol.ChannelID(q.args["channel"]) }

// workspace is the workspace that a call is about: the token's, or another of the user's by team_id.
func (q *request) workspace() (protocol.WorkspaceID, error) {
	w := protocol.WorkspaceID(q.args["team_id"])
	switch {
	case w == "":
		return q.id.Workspace, nil
	case slices.Contains(q.id.Workspaces, w):
		return w, nil
	default:
		return "", &protocol.Error{Code: protocol.CodeTeamNotFound}
	}
}

// users reads a list of user ids.
func (q *request) users(name string) ([]protocol.UserID, error) {
	list, err := q.args.List(name)
	if err != nil {
		return nil, err
	}
	if len(list) > protocol.MaxObjectIDs {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "%s names more than %d", name, protocol.MaxObjectIDs)
	}
	ids := make([]protocol.UserID, len(list))
	for i, id := range list {
		ids[i] = protocol.UserID(strings.TrimSpace(id))
	}
	return ids, nil
}
