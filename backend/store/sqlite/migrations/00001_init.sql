-- +goose Up
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('position', 0), ('replay_from', 0);

-- Every kind of object. What lists filter by and look-ups go by has a column; the body is what clients get, and stands
-- last, so that nobody walks over it to a column behind it.
CREATE TABLE objects (
    id           TEXT    NOT NULL UNIQUE,
    kind         TEXT    NOT NULL,
    workspace    TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    buried       INTEGER NOT NULL DEFAULT 0, -- a tombstone: the version is all that is left
    listed       INTEGER NOT NULL DEFAULT 0, -- stands in lists: everything but private conversations
    handle       TEXT, -- unique within workspace and kind; NULL where names may repeat (DMs, group DMs, bots)
    sort_name    TEXT    NOT NULL DEFAULT '',
    name         TEXT    NOT NULL DEFAULT '',
    real_name    TEXT    NOT NULL DEFAULT '',
    display_name TEXT    NOT NULL DEFAULT '',
    email        TEXT    NOT NULL DEFAULT '',
    inactive     INTEGER NOT NULL DEFAULT 0,
    guest        INTEGER NOT NULL DEFAULT 0,
    bot          INTEGER NOT NULL DEFAULT 0,
    app          INTEGER NOT NULL DEFAULT 0,
    topic        TEXT    NOT NULL DEFAULT '',
    visibility   TEXT    NOT NULL DEFAULT '{}',
    body         TEXT    NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX objects_handle ON objects (workspace, kind, handle) WHERE handle IS NOT NULL;
CREATE INDEX objects_kind ON objects (workspace, kind, id);
CREATE INDEX objects_listed ON objects (workspace, kind, id) WHERE listed = 1; -- public channels among many private ones
CREATE INDEX objects_sort ON objects (workspace, kind, sort_name, id) WHERE listed = 1;
CREATE INDEX objects_email ON objects (workspace, email COLLATE NOCASE) WHERE email <> '';
CREATE INDEX objects_workspaces ON objects (id) WHERE kind = 'workspace';

-- What is asked of channels without their bodies.
CREATE TABLE channels (
    id        TEXT    PRIMARY KEY REFERENCES objects (id),
    workspace TEXT    NOT NULL,
    type      TEXT    NOT NULL,
    archived  INTEGER NOT NULL,
    updated   INTEGER NOT NULL,
    latest    TEXT    NOT NULL DEFAULT '', -- newest message that the history shows
    last_ts   TEXT    NOT NULL DEFAULT '', -- newest timestamp ever given out
    members   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX channels_workspace ON channels (workspace, id);

CREATE TABLE shared_channels (
    workspace TEXT NOT NULL,
    channel   TEXT NOT NULL REFERENCES channels (id),
    PRIMARY KEY (workspace, channel)
) WITHOUT ROWID;
CREATE INDEX shared_channels_channel ON shared_channels (channel);

-- DMs and group DMs by exactly who is in them.
CREATE TABLE conversations (users TEXT PRIMARY KEY, channel TEXT NOT NULL REFERENCES channels (id)) WITHOUT ROWID;
CREATE INDEX conversations_channel ON conversations (channel);

CREATE TABLE memberships (
    channel   TEXT    NOT NULL REFERENCES channels (id),
    user      TEXT    NOT NULL, -- a user; checked in code, because a foreign key makes a large load three times as long
    peer      TEXT    NOT NULL DEFAULT '',
    open      INTEGER NOT NULL DEFAULT 0,
    last_read TEXT    NOT NULL DEFAULT '',
    mentions  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, user)
) WITHOUT ROWID;
CREATE INDEX memberships_user ON memberships (user, channel);

CREATE TABLE messages (
    channel  TEXT    NOT NULL REFERENCES channels (id),
    ts       TEXT    NOT NULL,
    user     TEXT    NOT NULL,
    thread   TEXT, -- of replies
    shown    INTEGER NOT NULL, -- in the history: not a reply, or one that was broadcast
    everyone INTEGER NOT NULL,
    key      TEXT,
    body     TEXT    NOT NULL,
    PRIMARY KEY (channel, ts)
) WITHOUT ROWID;
CREATE INDEX messages_shown ON messages (channel, ts) WHERE shown = 1;
CREATE INDEX messages_thread ON messages (channel, thread, ts) WHERE thread IS NOT NULL;
CREATE INDEX messages_everyone ON messages (channel, ts) WHERE everyone = 1 AND shown = 1;
CREATE UNIQUE INDEX messages_key ON messages (channel, user, key) WHERE key IS NOT NULL;

CREATE TABLE mentions (
    channel TEXT NOT NULL,
    user    TEXT NOT NULL,
    ts      TEXT NOT NULL,
    PRIMARY KEY (channel, user, ts),
    FOREIGN KEY (channel, ts) REFERENCES messages (channel, ts) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX mentions_message ON mentions (channel, ts);

CREATE TABLE reactions (
    n       INTEGER PRIMARY KEY, -- the order in which they were set
    channel TEXT NOT NULL,
    ts      TEXT NOT NULL,
    name    TEXT NOT NULL,
    user    TEXT NOT NULL,
    UNIQUE (channel, ts, name, user),
    FOREIGN KEY (channel, ts) REFERENCES messages (channel, ts) ON DELETE CASCADE
);

CREATE TABLE pins (
    channel TEXT    NOT NULL,
    ts      TEXT    NOT NULL,
    user    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (channel, ts),
    FOREIGN KEY (channel, ts) REFERENCES messages (channel, ts) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE usergroup_members (
    user      TEXT NOT NULL,
    usergroup TEXT NOT NULL REFERENCES objects (id),
    PRIMARY KEY (user, usergroup)
) WITHOUT ROWID;
CREATE INDEX usergroup_members_group ON usergroup_members (usergroup);

CREATE TABLE prefs (user TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (user, name)) WITHOUT ROWID;
CREATE TABLE away (user TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE revoked_tokens (token TEXT PRIMARY KEY, user TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revoked_users (user TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;

-- The log. Heads outlive the events that are pruned.
CREATE TABLE topics (topic TEXT PRIMARY KEY, seq INTEGER NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    position INTEGER NOT NULL,
    n        INTEGER NOT NULL, -- place within the commit
    topic    TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    at       INTEGER NOT NULL, -- Unix milliseconds
    body     TEXT    NOT NULL,
    PRIMARY KEY (position, n)
) WITHOUT ROWID;
CREATE UNIQUE INDEX events_topic ON events (topic, seq);

-- +goose Down
DROP TABLE events; DROP TABLE topics; DROP TABLE revoked_users; DROP TABLE revoked_tokens; DROP TABLE away; DROP TABLE prefs;
DROP TABLE usergroup_members; DROP TABLE pins; DROP TABLE reactions; DROP TABLE mentions; DROP TABLE messages;
DROP TABLE memberships; DROP TABLE conversations; DROP TABLE shared_channels; DROP TABLE channels; DROP TABLE objects; DROP TABLE meta;
