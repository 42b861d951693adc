-- +goose Up
-- What searches look at: each word of the names and of the e-mail address behind a space, folded. Migration 3 (search.go)
-- fills it in, because SQL cannot fold.
ALTER TABLE objects ADD COLUMN words TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE objects DROP COLUMN words;
