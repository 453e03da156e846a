-- What the leader found when it compared a day of tweets with those before (src/pipeline/drift.rs): a row a day, for the page
-- of every daemon and for SQL. A day that is compared again, after a restart, replaces its row.
CREATE TABLE drift_days (
    day     timestamptz PRIMARY KEY,            -- its start, in event time
    model   text        NOT NULL,               -- name@version, whose words and scores were compared
    drifted text[]      NOT NULL,               -- the measures that are beyond their limit
    report  jsonb       NOT NULL                -- as `monitor drift --json` prints it
);
COMMENT ON TABLE drift_days IS
    'Whether the tweets of a day differ from those of the days before, and in what; a row a day.';
