package client

import (
	"context"
	"encoding/json"
	"fmt"

	"flannel/protocol"
)

// User returns a user, from memory if it is current there. ErrNotFound: there is none, or they may not be seen. Who asks
// for several uses Users; but many calls of User at the same time cost one query as well.
//
// What it returns is shared: nobody may change it.
func (c *Client) User(ctx context.Context, id protocol.UserID) (*protocol.User, error) {
	found, err := c.Users(ctx, id)
	if err == nil && found[id] == nil {
		err = fmt.Errorf("user %s: %w", id, ErrNotFound)
	}
	return found[id], err
}

// Users returns those of the users who exist and may be seen.
func (c *Client) Users(ctx context.Context, ids ...protocol.UserID) (map[protocol.UserID]*protocol.User, error) {
	return find[protocol.User](ctx, c.users, ids)
}

// Channel returns a conversation. See User.
func (c *Client) Channel(ctx context.Context, id protocol.ChannelID) (*protocol.Channel, error) {
	found, err := c.Channels(ctx, id)
	if err == nil && found[id] == nil {
		err = fmt.Errorf("channel %s: %w", id, ErrNotFound)
	}
	return found[id], err
}

// Channels returns those of the conversations that exist and may be seen.
func (c *Client) Channels(ctx context.Context, ids ...protocol.ChannelID) (map[protocol.ChannelID]*protocol.Channel, error) {
	return find[protocol.Channel](ctx, c.channels, ids)
}

// Known returns an object as it was last told, current or not, without asking anybody: what an interface may draw at
// once. It is a *protocol.User, *protocol.Channel or *protocol.Bot; nil if there is none.
func (c *Client) Known(id protocol.ObjectID) any {
	if o, _ := c.shelf.get(id); o != nil {
		return o.value
	}
	return nil
}

func find[T any, ID ~string](ctx context.Context, l *lookup, ids []ID) (map[ID]*T, error) {
	objects := make([]protocol.ObjectID, len(ids))
	for i, id := range ids {
		objects[i] = protocol.ObjectID(id)
	}
	found, err := l.get(ctx, objects)
	if err != nil {
		return nil, err
	}
	typed := make(map[ID]*T, len(found))
	for id, o := range found {
		if v, ok := o.value.(*T); ok {
			typed[ID(id)] = v
		}
	}
	return typed, nil
}

// Refresh fetches boot and counts again, as after a Resync that names the user or a workspace.
func (c *Client) Refresh(ctx context.Context) (*Boot, *Counts, error) {
	var raw json.RawMessage
	if err := c.Call(ctx, "client.userBoot", protocol.Args{"lazy_channels": "1"}, &raw); err != nil {
		return nil, nil, err
	}
	boot, err := decodeBoot(raw)
	if err != nil {
		return nil, nil, err
	}
	counts := new(Counts)
	if err := c.Call(ctx, "client.counts", nil, counts); err != nil {
		return nil, nil, err
	}
	c.setBoot(boot, counts)
	return boot, counts, nil
}
