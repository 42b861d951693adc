package slackexport

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"flannel/backend/store"
	"flannel/protocol"
)

// importMessages reads the day files of a conversation.
func (im *importer) importMessages(c *conversation) error {
	for _, day := range im.archive.days(c.folder()) {
		for i, raw := range im.archive.read(day) {
			var m protocol.Message
			err := json.Unmarshal(raw, &m)
			switch {
			case err == nil && !m.TS.Valid():
				err = fmt.Errorf("%q is no timestamp", m.TS)
			case err == nil && m.ThreadTS != "" && !m.ThreadTS.Valid():
				err = fmt.Errorf("%q is no thread timestamp", m.ThreadTS)
			}
			if err != nil {
				im.skip(fmt.Sprintf("%s, element %d", day, i), err)
				continue
			}
			if err := im.importMessage(c, &m, raw); err != nil {
				return fmt.Errorf("%s, element %d: %w", day, i, err)
			}
		}
	}
	return nil
}

func (im *importer) importMessage(c *conversation, m *protocol.Message, raw json.RawMessage) error {
	m.Type, m.Channel, m.PinnedTo = "message", c.ID, nil
	reactions := m.Reactions
	m.Reactions = nil
	if m.ThreadTS == m.TS && m.ReplyCount == 0 {
		m.ThreadTS = ""
	}
	if m.User != "" {
		if _, err := im.need(m.User); err != nil {
			return err
		}
	}
	if err := im.botOf(m, raw); err != nil {
		return err
	}
	_, err := im.tx.Message(c.ID, m.TS)
	switch {
	case err == nil:
		im.summary.Unchanged++
		return nil
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	everyone := c.kind == protocol.TypeDM || c.kind == protocol.TypeGroupDM
	if err := im.tx.InsertMessage(m, m.ClientMsgID, store.Mentions{Users: mentioned(m.Text), Everyone: everyone}); err != nil {
		if errors.Is(err, store.ErrExists) { // the client's id was used twice: the timestamp is what counts
			err = im.tx.InsertMessage(m, "", store.Mentions{Users: mentioned(m.Text), Everyone: everyone})
		}
		if err != nil {
			return err
		}
	}
	im.summary.Messages++
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		im.summary.Replies++
	}
	for _, r := range reactions {
		for _, user := range r.Users {
			if ok, err := im.need(user); err != nil {
				return err
			} else if !ok {
				continue
			}
			if err := im.tx.AddReaction(c.ID, m.TS, user, r.Name); err == nil {
				im.summary.Reactions++
			} else if !errors.Is(err, store.ErrExists) {
				return err
			}
		}
	}
	return nil
}

// botOf makes the bot that a message came from.
func (im *importer) botOf(m *protocol.Message, raw json.RawMessage) error {
	if m.BotID == "" {
		return nil
	}
	var profile struct {
		BotProfile struct {
			Name string `json:"name"`
		} `json:"bot_profile"`
	}
	if err := json.Unmarshal(raw, &profile); err != nil || profile.BotProfile.Name == "" {
		profile.BotProfile.Name = m.Username
	}
	if profile.BotProfile.Name == "" {
		profile.BotProfile.Name = string(m.BotID)
	}
	return im.importBot(m.BotID, profile.BotProfile.Name, "")
}

var mention = regexp.MustCompile(`<@([UW][A-Z0-9]{1,20})(?:\|[^>]*)?>`)

// mentioned returns the users whom a text mentions.
func mentioned(text string) []protocol.UserID {
	var users []protocol.UserID
	for _, match := range mention.FindAllStringSubmatch(text, -1) {
		users = append(users, protocol.UserID(match[1]))
	}
	return users
}
