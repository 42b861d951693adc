package seed

import (
	"fmt"
	"slices"
	"strings"
)

// Published is a workspace whose full boot was published, in bytes.
type Published struct {
	Users         int
	UsersBytes    int
	ChannelsBytes int
	TotalBytes    int
}

// Presets lists the published workspaces, smallest first. The number of users counts people; bots come on top.
var Presets = []Published{
	{12, 6_000, 1_000, 7_000},
	{530, 140_000, 28_000, 168_000},
	{4_008, 5_000_000, 2_000_000, 7_000_000},
	{44_030, 36_000_000, 25_000_000, 59_000_000},
	{148_170, 78_000_000, 40_000_000, 118_000_000},
}

// Preset returns the preset with that many users.
func Preset(users int) (Published, error) {
	i := slices.IndexFunc(Presets, func(p Published) bool { return p.Users == users })
	if i < 0 {
		return Published{}, fmt.Errorf("no preset with %d users: choose one of %s", users, PresetNames())
	}
	return Presets[i], nil
}

// PresetNames returns the presets for a help text.
func PresetNames() string {
	names := make([]string, len(Presets))
	for i, p := range Presets {
		names[i] = fmt.Sprint(p.Users)
	}
	return strings.Join(names, ", ")
}
