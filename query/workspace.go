package query

import (
	"strconv"

	"flannel/protocol"
)

func teamInfo(c *call) ([]byte, error) {
	id := protocol.ObjectID(c.args["team"])
	if id == "" {
		id = protocol.ObjectID(c.id.Workspace)
	}
	o, err := c.object(id, protocol.KindWorkspace, protocol.CodeTeamNotFound)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, len(o.Body)+32), `{"ok":true,"team":`...)
	b = append(b, o.Body...)
	return append(b, '}'), nil
}

// maxEmoji bounds emoji.list; the largest workspace known has 30,000.
const maxEmoji = 100_000

// emojiList answers all custom emoji that the caller sees; none to guests.
func emojiList(c *call) ([]byte, error) {
	if err := c.inWorkspace(); err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"ok":true,"emoji":{`...)
	newest := protocol.Version(0)
	if c.full {
		entries, err := c.list(protocol.KindEmoji, "", maxEmoji, nil)
		if err != nil {
			return nil, err
		}
		ids := make([]protocol.ObjectID, len(entries))
		for i := range entries {
			ids[i] = entries[i].ID
		}
		objects, err := c.objects(ids)
		if err != nil {
			return nil, err
		}
		for i := range objects {
			o := &objects[i]
			if o.ID == "" {
				continue
			}
			if sees, err := c.sees(o); err != nil {
				return nil, err
			} else if !sees {
				continue
			}
			b = append(separated(b), protocol.Field(o.Body, "name")...)
			b = append(b, ':')
			b = append(b, protocol.Field(o.Body, "value")...)
			newest = max(newest, o.Version)
		}
	}
	b = append(b, `},"cache_ts":`...)
	b = strconv.AppendInt(b, int64(newest), 10)
	return append(b, '}'), nil
}
