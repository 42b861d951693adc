package protocol

// Tier is a class of rate limits: calls per minute, per method and user.
type Tier int

// The tiers. The dialect's real figures are the minima of each (1, 20, 50, 100 a minute); ours are what one user's
// clients were seen to need at start-up, times two, so that no well-behaved program meets them.
const (
	Tier1 Tier = iota + 1
	Tier2
	Tier3
	Tier4
	// TierPost is for posting: its own figure, because people type in bursts.
	TierPost
)

// PerMinute is the default number of calls per minute in a tier; a quarter of it may come at once.
func (t Tier) PerMinute() int {
	switch t {
	case Tier1:
		return 120
	case Tier2:
		return 400
	case Tier3:
		return 1200
	case TierPost:
		return 1200
	default:
		return 6000
	}
}

// Method describes a Web API method.
type Method struct {
	Tier Tier
	// Cached: the edge answers it from its cache; everything else is forwarded.
	Cached bool
	// NoAuth: works without a token.
	NoAuth bool
}

// Methods lists the Web API methods that the dialect has; others are CodeUnknownMethod.
var Methods = map[string]Method{
	"api.test":                  {Tier: Tier4, NoAuth: true},
	"auth.test":                 {Tier: Tier4},
	"auth.revoke":               {Tier: Tier3},
	"rtm.connect":               {Tier: Tier1, Cached: true},
	"rtm.start":                 {Tier: Tier1},
	"client.userBoot":           {Tier: Tier3, Cached: true},
	"client.counts":             {Tier: Tier3, Cached: true},
	"client.getWebSocketURL":    {Tier: Tier3, Cached: true},
	"client.dms":                {Tier: Tier3},
	"conversations.view":        {Tier: Tier3},
	"conversations.genericInfo": {Tier: Tier3},
	"api.getFlannelHttpUrl":     {Tier: Tier3, Cached: true},
	"users.info":                {Tier: Tier4, Cached: true},
	"users.list":                {Tier: Tier2, Cached: true},
	"users.lookupByEmail":       {Tier: Tier3},
	"users.conversations":       {Tier: Tier3, Cached: true},
	"users.profile.get":         {Tier: Tier4},
	"users.profile.set":         {Tier: Tier3},
	"users.getPresence":         {Tier: Tier3},
	"users.setPresence":         {Tier: Tier2},
	"users.setActive":           {Tier: Tier2},
	"users.prefs.get":           {Tier: Tier3, Cached: true},
	"users.prefs.set":           {Tier: Tier3},
	"conversations.list":        {Tier: Tier2, Cached: true},
	"conversations.info":        {Tier: Tier3, Cached: true},
	"conversations.members":     {Tier: Tier4, Cached: true},
	"conversations.history":     {Tier: Tier3},
	"conversations.replies":     {Tier: Tier3},
	"conversations.create":      {Tier: Tier2},
	"conversations.join":        {Tier: Tier3},
	"conversations.leave":       {Tier: Tier3},
	"conversations.invite":      {Tier: Tier3},
	"conversations.kick":        {Tier: Tier3},
	"conversations.open":        {Tier: Tier3},
	"conversations.close":       {Tier: Tier2},
	"conversations.mark":        {Tier: Tier3},
	"conversations.rename":      {Tier: Tier2},
	"conversations.setTopic":    {Tier: Tier2},
	"conversations.setPurpose":  {Tier: Tier2},
	"conversations.archive":     {Tier: Tier2},
	"conversations.unarchive":   {Tier: Tier2},
	"chat.postMessage":          {Tier: TierPost},
	"chat.update":               {Tier: Tier3},
	"chat.delete":               {Tier: Tier3},
	"chat.postEphemeral":        {Tier: Tier4},
	"chat.getPermalink":         {Tier: Tier4},
	"reactions.add":             {Tier: Tier3},
	"reactions.remove":          {Tier: Tier2},
	"reactions.get":             {Tier: Tier3},
	"team.info":                 {Tier: Tier3, Cached: true},
	"emoji.list":                {Tier: Tier2, Cached: true},
	"admin.emoji.add":           {Tier: Tier2},
	"admin.emoji.remove":        {Tier: Tier2},
	"bots.info":                 {Tier: Tier3, Cached: true},
	"usergroups.list":           {Tier: Tier2},
	"usergroups.users.list":     {Tier: Tier2},
}
