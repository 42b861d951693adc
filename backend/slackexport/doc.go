// Package slackexport reads official Slack export archives, zip or folder, into a store: users, public and private
// channels, group DMs, DMs, and the day files with threads, edits, reactions, pins, files and bots. The layout is Slack's
// own (https://slack.com/help/articles/220556107): users.json, channels.json, groups.json, mpims.json, dms.json, and one
// folder per conversation with one JSON array of messages per day.
//
// Archives come from strangers: every file is read up to a limit, nothing is ever written by a name of the archive, and
// what is damaged is named in the summary and skipped.
package slackexport
