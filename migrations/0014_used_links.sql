-- Signed links of notifications that somebody has used (crates/core/src/links.rs): each act of a notification works once.
-- Written in the transaction of the act.
CREATE TABLE used_links (
    link       text        PRIMARY KEY,         -- number of the notification in the outbox, and what the link does
    used_by    text        NOT NULL,
    used_at    timestamptz NOT NULL,            -- clock time
    expires_at timestamptz NOT NULL             -- when the link expires; removed a month later
);
