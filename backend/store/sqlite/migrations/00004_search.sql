-- +goose Up
-- Searches read this index alone; it also gives the order by name.
CREATE INDEX objects_search ON objects (workspace, kind, sort_name, id, words) WHERE listed = 1;
DROP INDEX objects_sort;

-- +goose Down
CREATE INDEX objects_sort ON objects (workspace, kind, sort_name, id) WHERE listed = 1;
DROP INDEX objects_search;
