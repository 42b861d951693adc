package chat

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"

	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// maxName and maxStatus are the dialect's longest display name and status text, in characters.
	maxName   = 80
	maxStatus = 100
	// maxField bounds every other field of a profile, in characters, and maxFields how many custom ones there may be:
	// profiles travel with every user object.
	maxField  = 255
	maxFields = 50
	// maxPrefName, maxPref and maxPrefs bound a preference's name, its value and all of them together, in bytes. The
	// largest seen are emoji_use and frecency, 9 KB.
	maxPrefName = 100
	maxPref     = 64 << 10
	maxPrefs    = 256 << 10
)

// profilePatch is what a client may send as a profile: unknown fields are ignored, absent ones stay.
type profilePatch struct {
	Title            *string                          `json:"title"`
	Phone            *string                          `json:"phone"`
	RealName         *string                          `json:"real_name"`
	DisplayName      *string                          `json:"display_name"`
	FirstName        *string                          `json:"first_name"`
	LastName         *string                          `json:"last_name"`
	Email            *string                          `json:"email"`
	StatusText       *string                          `json:"status_text"`
	StatusEmoji      *string                          `json:"status_emoji"`
	StatusExpiration *int64                           `json:"status_expiration"`
	Fields           map[string]protocol.ProfileField `json:"fields"`
}

var (
	statusEmoji = regexp.MustCompile(`^:[a-z0-9_+'-]{1,100}(::skin-tone-[2-6])?:$`)
	fieldID     = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	prefName    = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

type userEvent struct {
	Type    string           `json:"type"`
	User    json.RawMessage  `json:"user"`
	CacheTS protocol.Version `json:"cache_ts"`
	EventTS protocol.TS      `json:"event_ts"`
}

// SetProfile changes fields of a user's profile: one's own, or as an admin anybody's of the workspace. profile is a
// JSON object.
func (c *Chat) SetProfile(ctx context.Context, id *protocol.Identity, user protocol.UserID, profile json.RawMessage) (out protocol.Profile, at protocol.Position, err error) {
	var patch *profilePatch
	if err := json.Unmarshal(profile, &patch); err != nil || patch == nil {
		return out, 0, refuse(CodeInvalidProfile)
	}
	if err := patch.check(); err != nil {
		return out, 0, err
	}
	at, err = c.update(ctx, id, func(a *act) error {
		u, stranger, err := a.User(user)
		if err != nil {
			return err
		}
		if user != a.ID.User && (a.ID.Role != protocol.RoleAdmin || stranger) {
			return refuse(CodeNotAdmin)
		}
		if err := patch.apply(u); err != nil {
			return err
		}
		out = u.Profile
		return a.putUser(u)
	})
	return out, at, err
}

// putUser raises the version of u, writes it and tells the workspace.
func (a *act) putUser(u *protocol.User) error {
	u.Updated = store.NextVersion(u.Updated, a.now, time.Second)
	if err := a.tx.Put(u); err != nil {
		return err
	}
	o := u.Object()
	return a.control(o.Topic, "user_change", userEvent{"user_change", o.Body, u.Updated, FormatTS(a.now)}, refs("", u.ID), upsert(o))
}

func (p *profilePatch) check() error {
	for _, f := range []struct {
		value *string
		limit int
	}{
		{p.Title, maxField}, {p.Phone, maxField}, {p.RealName, maxName}, {p.DisplayName, maxName}, {p.FirstName, maxName},
		{p.LastName, maxName}, {p.Email, maxField}, {p.StatusText, maxStatus},
	} {
		if f.value != nil && utf8.RuneCountInString(*f.value) > f.limit {
			return refuse(CodeTooLong)
		}
	}
	if p.StatusEmoji != nil && *p.StatusEmoji != "" && !statusEmoji.MatchString(*p.StatusEmoji) {
		return refuse(CodeStatusEmojiInvalid)
	}
	if p.StatusExpiration != nil && *p.StatusExpiration < 0 {
		return refuse(CodeInvalidProfile)
	}
	if p.RealName != nil && strings.TrimSpace(*p.RealName) == "" {
		return refuse(CodeInvalidProfile)
	}
	if p.Email != nil && !strings.Contains(*p.Email, "@") {
		return refuse(CodeInvalidProfile)
	}
	for name, f := range p.Fields {
		if !fieldID.MatchString(name) {
			return refuse(CodeInvalidProfile)
		}
		if utf8.RuneCountInString(f.Value) > maxField || utf8.RuneCountInString(f.Alt) > maxField {
			return refuse(CodeTooLong)
		}
	}
	return nil
}

func (p *profilePatch) apply(u *protocol.User) error {
	set := func(to *string, value *string) {
		if value != nil {
			*to = strings.TrimSpace(*value)
		}
	}
	prof := &u.Profile
	set(&prof.Title, p.Title)
	set(&prof.Phone, p.Phone)
	set(&prof.RealName, p.RealName)
	set(&prof.DisplayName, p.DisplayName)
	set(&prof.FirstName, p.FirstName)
	set(&prof.LastName, p.LastName)
	set(&prof.Email, p.Email)
	set(&prof.StatusText, p.StatusText)
	set(&prof.StatusEmoji, p.StatusEmoji)
	if p.StatusExpiration != nil {
		prof.StatusExpiration = *p.StatusExpiration
	}
	if p.RealName == nil && (p.FirstName != nil || p.LastName != nil) {
		if name := strings.TrimSpace(prof.FirstName + " " + prof.LastName); name != "" {
			prof.RealName = name
		}
	}
	for name, f := range p.Fields {
		if prof.Fields == nil {
			prof.Fields = make(map[string]protocol.ProfileField)
		}
		if f.Value == "" {
			delete(prof.Fields, name)
			continue
		}
		prof.Fields[name] = f
	}
	if len(prof.Fields) > maxFields {
		return refuse(CodeInvalidProfile)
	}
	u.RealName = prof.RealName
	prof.RealNameNormalized, prof.DisplayNameNormalized = withoutAccents(prof.RealName), withoutAccents(prof.DisplayName)
	return nil
}

// withoutAccents is the dialect's normalized name: the same in plain letters, with its case.
func withoutAccents(s string) string {
	plain, _, err := transform.String(transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), norm.NFC), s)
	if err != nil {
		return s
	}
	return plain
}

type prefEvent struct {
	Type    string          `json:"type"`
	Name    string          `json:"name"`
	Value   json.RawMessage `json:"value"`
	EventTS protocol.TS     `json:"event_ts"`
}

// SetPrefs sets preferences of the actor: values are JSON.
func (c *Chat) SetPrefs(ctx context.Context, id *protocol.Identity, prefs map[string]json.RawMessage) (protocol.Position, error) {
	if len(prefs) == 0 {
		return 0, protocol.Errorf(protocol.CodeInvalidArgs, "no preference is named")
	}
	for name, value := range prefs {
		if len(name) > maxPrefName || !prefName.MatchString(name) {
			return 0, protocol.Errorf(protocol.CodeInvalidArgs, "bad name of a preference")
		}
		if len(value) > maxPref || !json.Valid(value) {
			return 0, protocol.Errorf(protocol.CodeInvalidArgs, "bad value of preference %q", name)
		}
	}
	return c.update(ctx, id, func(a *act) error {
		for name, value := range prefs {
			if err := a.tx.SetPref(a.ID.User, name, value); err != nil {
				return err
			}
			err := a.control(protocol.Topic(a.ID.User), "pref_change", prefEvent{"pref_change", name, value, FormatTS(a.now)}, nil,
				protocol.Effect{Op: protocol.OpPref, Name: name, Value: value})
			if err != nil {
				return err
			}
		}
		all, err := a.tx.Prefs(a.ID.User)
		if err == nil && len(all) > maxPrefs {
			err = protocol.Errorf(protocol.CodeInvalidArgs, "preferences over %d bytes", maxPrefs)
		}
		return err
	})
}

// SetManualAway stores the actor's own choice to be away, and tells their other clients.
func (c *Chat) SetManualAway(ctx context.Context, id *protocol.Identity, away bool) (protocol.Position, error) {
	return c.update(ctx, id, func(a *act) error {
		if err := a.tx.SetManualAway(a.ID.User, away); err != nil {
			return err
		}
		payload := protocol.PresenceChange{Type: "manual_presence_change", Presence: protocol.Active}
		if away {
			payload.Presence = protocol.Away
		}
		return a.control(protocol.Topic(a.ID.User), payload.Type, payload, nil)
	})
}

// Revoke kills the token with which the actor came.
func (c *Chat) Revoke(ctx context.Context, id *protocol.Identity) (protocol.Position, error) {
	return c.update(ctx, id, func(a *act) error {
		if err := a.tx.Revoke(id.Token, id.User, a.now); err != nil {
			return err
		}
		return a.control(protocol.Topic(id.User), "token_revoked", nil, nil, protocol.Effect{Op: protocol.OpRevoked, User: id.User, Token: id.Token})
	})
}
