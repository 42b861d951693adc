package client

import (
	"encoding/json"
	"fmt"

	"flannel/protocol"
)

// Boot is what a client begins with: who it is, where it is, and the conversations it is in. Channels have their id,
// name, version and is_private; the rest is asked for when it is shown (Client.Channel).
type Boot struct {
	Self             protocol.User              `json:"self"`
	Team             protocol.Workspace         `json:"team"`
	Channels         []protocol.Channel         `json:"channels"`
	DMs              []DM                       `json:"ims"`
	Open             []protocol.ChannelID       `json:"is_open"` // direct messages in the list
	Workspaces       []protocol.WorkspaceID     `json:"workspaces"`
	DefaultWorkspace protocol.WorkspaceID       `json:"default_workspace"`
	Prefs            map[string]json.RawMessage `json:"prefs"`
	// Raw is the frame as it came.
	Raw json.RawMessage `json:"-"`
}

// DM is a direct message in a boot.
type DM struct {
	ID      protocol.ChannelID `json:"id"`
	User    protocol.UserID    `json:"user"`
	Updated protocol.Version   `json:"updated"`
	Open    bool               `json:"is_open"`
}

// Counts are the read markers and unread counts of a user's conversations.
type Counts struct {
	Channels []protocol.ChannelCounts `json:"channels"`
	GroupDMs []protocol.ChannelCounts `json:"mpims"`
	DMs      []protocol.ChannelCounts `json:"ims"`
}

func decodeBoot(raw []byte) (*Boot, error) {
	b := &Boot{Raw: raw}
	if err := json.Unmarshal(raw, b); err != nil {
		return nil, fmt.Errorf("read boot: %w", err)
	}
	return b, nil
}

func decodeCounts(raw []byte) (*Counts, error) {
	c := new(Counts)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("read counts: %w", err)
	}
	for _, list := range [][]protocol.ChannelCounts{c.Channels, c.GroupDMs, c.DMs} {
		for i := range list {
			if n := &list[i]; n.Updated == "" { // A lazy boot leaves out what says nothing.
				n.Updated, n.HistoryInvalid = n.Latest, protocol.ZeroTS
			}
		}
	}
	return c, nil
}
