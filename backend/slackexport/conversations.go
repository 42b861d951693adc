package slackexport

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// conversation is an element of channels.json, groups.json, mpims.json or dms.json.
type conversation struct {
	ID         protocol.ChannelID `json:"id"`
	Name       string             `json:"name"`
	Created    int64              `json:"created"`
	Creator    protocol.UserID    `json:"creator"`
	IsArchived bool               `json:"is_archived"`
	IsGeneral  bool               `json:"is_general"`
	Members    []protocol.UserID  `json:"members"`
	Topic      protocol.Purpose   `json:"topic"`
	Purpose    protocol.Purpose   `json:"purpose"`
	Pins       []struct {
		ID      protocol.TS     `json:"id"`
		User    protocol.UserID `json:"user"`
		Created int64           `json:"created"`
	} `json:"pins"`

	kind protocol.ChannelType
}

// folder names the conversation's day files: by name, DMs by id.
func (c *conversation) folder() string {
	if c.kind == protocol.TypeDM {
		return string(c.ID)
	}
	return c.Name
}

var indexes = []struct {
	file string
	kind protocol.ChannelType
}{
	{"channels.json", protocol.TypePublic}, {"groups.json", protocol.TypePrivate}, {"mpims.json", protocol.TypeGroupDM}, {"dms.json", protocol.TypeDM},
}

func (im *importer) importConversations() error {
	var all []conversation
	for _, index := range indexes {
		for i, raw := range im.archive.read(index.file) {
			c := conversation{kind: index.kind}
			err := json.Unmarshal(raw, &c)
			if err == nil && protocol.KindOf(protocol.ObjectID(c.ID)) != protocol.KindChannel {
				err = fmt.Errorf("%q is no channel id", c.ID)
			}
			if err == nil && c.Name == "" && c.kind != protocol.TypeDM {
				err = errors.New("it has no name")
			}
			if err != nil {
				im.skip(fmt.Sprintf("%s, element %d", index.file, i), err)
				continue
			}
			all = append(all, c)
		}
	}
	for i := range all {
		if err := im.ctx.Err(); err != nil {
			return err
		}
		if err := im.importConversation(&all[i]); err != nil {
			return fmt.Errorf("conversation %s: %w", all[i].ID, err)
		}
		if im.opt.Progress != nil {
			im.opt.Progress("conversations", i+1, len(all))
		}
	}
	return nil
}

func (im *importer) importConversation(c *conversation) error {
	members, err := im.members(c)
	if err != nil {
		return err
	}
	if c.kind == protocol.TypeDM && len(members) != 2 {
		if len(members) != 1 { // a DM with oneself has one member
			im.skip("dms.json, "+string(c.ID), fmt.Errorf("a direct message has two members, not %d", len(members)))
			return nil
		}
	}
	isNew, err := im.put(protocol.ObjectID(c.ID), protocol.Version(c.Created*1000), time.Millisecond, func(v protocol.Version) protocol.Shape {
		return c.shape(im.summary.Workspace, members, v)
	})
	if errors.Is(err, store.ErrExists) {
		im.skip(string(c.ID), fmt.Errorf("another channel has the name %q", c.Name))
		return nil
	}
	if err != nil {
		return err
	}
	if isNew {
		im.count(c.kind)
	}
	var joined []protocol.UserID
	for i, user := range members {
		m := protocol.Membership{Channel: c.ID, Owner: im.summary.Workspace, Type: c.kind, Open: c.kind == protocol.TypeDM || c.kind == protocol.TypeGroupDM}
		if c.kind == protocol.TypeDM {
			m.Peer = members[len(members)-1-i]
		}
		switch err := im.tx.AddMember(user, m); {
		case err == nil:
			joined = append(joined, user)
		case !errors.Is(err, store.ErrExists):
			return err
		}
	}
	if err := im.importMessages(c); err != nil {
		return err
	}
	if err := im.importPins(c); err != nil {
		return err
	}
	return im.markRead(c.ID, joined)
}

// members returns the members that exist, sorted. Those of an index that are no ids are left out.
func (im *importer) members(c *conversation) ([]protocol.UserID, error) {
	var members []protocol.UserID
	for _, id := range c.Members {
		ok, err := im.need(id)
		if err != nil {
			return nil, err
		}
		if ok {
			members = append(members, id)
		}
	}
	slices.Sort(members)
	return slices.Compact(members), nil
}

func (c *conversation) shape(workspace protocol.WorkspaceID, members []protocol.UserID, v protocol.Version) *protocol.Channel {
	ch := &protocol.Channel{
		ID: c.ID, Name: c.Name, NameNormalized: strings.ToLower(c.Name), Created: c.Created, Creator: c.Creator, Updated: v, ContextTeamID: workspace,
		IsArchived: c.IsArchived, IsGeneral: c.IsGeneral, Topic: c.Topic, Purpose: c.Purpose,
	}
	switch c.kind {
	case protocol.TypePublic:
		ch.IsChannel = true
	case protocol.TypePrivate:
		ch.IsGroup, ch.IsPrivate = true, true
	case protocol.TypeGroupDM:
		ch.IsGroup, ch.IsMPIM, ch.IsPrivate, ch.Members = true, true, true, members
	case protocol.TypeDM:
		ch.IsIM, ch.IsPrivate, ch.Members = true, true, members
		ch.Name, ch.NameNormalized = "", ""
	}
	return ch
}

func (im *importer) count(kind protocol.ChannelType) {
	switch kind {
	case protocol.TypePublic:
		im.summary.Channels++
	case protocol.TypePrivate:
		im.summary.Private++
	case protocol.TypeGroupDM:
		im.summary.Groups++
	case protocol.TypeDM:
		im.summary.Direct++
	}
}

func (im *importer) importPins(c *conversation) error {
	for _, pin := range c.Pins {
		if !pin.ID.Valid() {
			continue // pinned files have no timestamp
		}
		switch err := im.tx.AddPin(c.ID, pin.ID, pin.User, time.Unix(pin.Created, 0)); {
		case err == nil:
			im.summary.Pins++
		case errors.Is(err, store.ErrExists):
			im.summary.Unchanged++
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
	}
	return nil
}

// markRead sets the markers of those who joined with this import to the end: what was said before is history, not news.
func (im *importer) markRead(channel protocol.ChannelID, joined []protocol.UserID) error {
	latest, err := im.tx.Latest(channel)
	if err != nil || latest == "" {
		return err
	}
	for _, user := range joined {
		if err := im.tx.SetRead(channel, user, latest, 0); err != nil {
			return err
		}
	}
	return nil
}
