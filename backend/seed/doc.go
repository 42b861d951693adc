// Package seed makes workspaces out of nothing: deterministic for a seed, realistic in shape. Names, profiles, channel
// counts, membership sizes (heavy-tailed), private channels, guests, bots, emoji, usergroups, direct messages and a
// little talk in each channel. Channels grow linearly with people, memberships faster, until people run out of
// attention.
//
// The presets stand for the workspaces whose full boots were published between 2016 and 2018. Objects are full and
// never shaped to meet those figures; what varies with size is what varies in life: a small company's directory is
// sparse, a large one's is filled by directory synchronisation.
package seed
