-- A tweet may be longer than the model reads; whoever looks at a score can tell. Rows from before
-- were not marked, and a daemon of the version before still writes its own.
ALTER TABLE scores ADD COLUMN truncated boolean NOT NULL DEFAULT false;
