package slackexport

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// importUsers reads users.json and makes the workspace that they belong to.
func (im *importer) importUsers() error {
	elements := im.archive.read("users.json")
	var users []protocol.User
	for i, raw := range elements {
		var u protocol.User
		if err := json.Unmarshal(raw, &u); err != nil {
			im.skip(fmt.Sprintf("users.json, element %d", i), err)
			continue
		}
		if protocol.KindOf(protocol.ObjectID(u.ID)) != protocol.KindUser {
			im.skip(fmt.Sprintf("users.json, element %d", i), fmt.Errorf("%q is no user id", u.ID))
			continue
		}
		users = append(users, u)
		if im.summary.Workspace == "" && protocol.KindOf(protocol.ObjectID(u.TeamID)) == protocol.KindWorkspace {
			im.summary.Workspace = u.TeamID
		}
	}
	if im.summary.Workspace == "" {
		im.summary.Workspace = "T0IMPORTED"
	}
	if err := im.importWorkspace(users); err != nil {
		return err
	}
	for i := range users {
		if err := im.importUser(&users[i]); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) importWorkspace(users []protocol.User) error {
	id := im.summary.Workspace
	domain := "imported.example"
	for _, u := range users {
		if _, d, ok := strings.Cut(u.Profile.Email, "@"); ok && !u.IsBot {
			domain = d
			break
		}
	}
	_, err := im.put(protocol.ObjectID(id), 1, time.Second, func(v protocol.Version) protocol.Shape {
		return &protocol.Workspace{
			ID: id, Name: "Imported " + string(id), Domain: strings.ToLower(string(id)), EmailDomain: domain, Icon: map[string]string{},
			AvatarBaseURL: "https://avatars.example/", Plan: "std", Updated: v,
		}
	})
	return err
}

func (im *importer) importUser(u *protocol.User) error {
	if protocol.KindOf(protocol.ObjectID(u.TeamID)) != protocol.KindWorkspace || u.TeamID != im.summary.Workspace && u.Profile.Team == "" {
		u.TeamID = im.summary.Workspace
	}
	if u.RealName == "" {
		u.RealName = u.Profile.RealName
	}
	if u.Profile.RealName == "" {
		u.Profile.RealName = u.RealName
	}
	if u.Name == "" {
		u.Name = strings.ToLower(string(u.ID))
	}
	u.Profile.Team = ""
	if u.TeamID != im.summary.Workspace { // A stranger in a shared channel: their workspace must be there.
		team := u.TeamID
		if _, err := im.put(protocol.ObjectID(team), 1, time.Second, func(v protocol.Version) protocol.Shape {
			return &protocol.Workspace{ID: team, Name: string(team), Domain: strings.ToLower(string(team)), Icon: map[string]string{}, Updated: v}
		}); err != nil {
			return err
		}
	}
	isNew, err := im.putUser(u)
	if err != nil {
		return err
	}
	im.users[u.ID] = true
	if isNew {
		im.summary.Users++
	}
	if u.Profile.BotID != "" {
		return im.importBot(u.Profile.BotID, u.RealName, u.ID)
	}
	return nil
}

// putUser writes a user. A handle that somebody else of the workspace has is made different with the user's id.
func (im *importer) putUser(u *protocol.User) (bool, error) {
	first := u.Updated
	build := func(v protocol.Version) protocol.Shape {
		w := *u
		w.Updated = v
		return &w
	}
	if other, err := im.tx.UserByName(u.TeamID, u.Name); err == nil && other != u.ID {
		u.Name += "-" + strings.ToLower(string(u.ID))
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	return im.put(protocol.ObjectID(u.ID), first, time.Second, build)
}

// need makes sure that a user is there: exports name people in channels and messages who are not in users.json.
func (im *importer) need(id protocol.UserID) (bool, error) {
	if im.users[id] {
		return true, nil
	}
	if protocol.KindOf(protocol.ObjectID(id)) != protocol.KindUser {
		return false, nil
	}
	if _, err := im.tx.Object(protocol.ObjectID(id)); err == nil {
		im.users[id] = true
		return true, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	u := &protocol.User{
		ID: id, TeamID: im.summary.Workspace, Name: strings.ToLower(string(id)), RealName: "Unknown user", Deleted: true,
		Profile: protocol.Profile{RealName: "Unknown user", RealNameNormalized: "Unknown user"},
	}
	if id == "USLACKBOT" {
		u.Name, u.RealName, u.Deleted, u.IsBot = "slackbot", "Slackbot", false, true
		u.Profile.RealName, u.Profile.RealNameNormalized = "Slackbot", "Slackbot"
	}
	if _, err := im.putUser(u); err != nil {
		return false, err
	}
	im.users[id] = true
	im.summary.Users++
	return true, nil
}

func (im *importer) importBot(id protocol.BotID, name string, user protocol.UserID) error {
	if im.bots[id] || protocol.KindOf(protocol.ObjectID(id)) != protocol.KindBot {
		return nil
	}
	if im.bots == nil {
		im.bots = make(map[protocol.BotID]bool)
	}
	im.bots[id] = true
	if user == "" { // A message's bot profile says less than a user: do not undo what is known.
		if _, err := im.tx.Object(protocol.ObjectID(id)); err == nil {
			return nil
		}
	}
	isNew, err := im.put(protocol.ObjectID(id), 1, time.Second, func(v protocol.Version) protocol.Shape {
		return &protocol.Bot{ID: id, TeamID: im.summary.Workspace, Name: name, UserID: user, Updated: v}
	})
	if isNew {
		im.summary.Bots++
	}
	return err
}
