-- An incident that opened, or opened again, so long ago when it was found that nobody was told of it by itself. If it is
-- over by then, one digest tells of all of these; the mark is removed in the transaction that writes the digest.
ALTER TABLE incidents ADD COLUMN missed boolean NOT NULL DEFAULT false;
CREATE INDEX incidents_missed ON incidents (opened_at, id) WHERE missed AND resolved_at IS NOT NULL;
