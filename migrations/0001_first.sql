-- Where each partition is read on. Written in the same transaction as the scores, so a
-- crash at any point leaves both or neither.
CREATE TABLE checkpoints (
    topic          text        NOT NULL,
    "partition"    integer     NOT NULL,
    position       bigint      NOT NULL,            -- offset to fetch next
    event_time_max timestamptz,                     -- newest tweet seen
    at_end         boolean     NOT NULL DEFAULT false, -- reader stands at the end: does not hold event time back
    scores         bigint      NOT NULL DEFAULT 0,  -- rows added to scores by this partition's batches;
    dead_letters   bigint      NOT NULL DEFAULT 0,  -- kept here, as counting a large table takes minutes
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, "partition")
);

-- One row a tweet, whatever number of times it arrives.
CREATE TABLE scores (
    tweet_id   text        PRIMARY KEY,
    created_at timestamptz NOT NULL,                -- event time
    brands     text[]      NOT NULL,                -- brands it is about; may be none
    text       text        NOT NULL,
    negative   real        NOT NULL CHECK (negative BETWEEN 0 AND 1), -- probability
    label      text        NOT NULL CHECK (label IN ('NEGATIVE', 'POSITIVE')),
    model      text        NOT NULL,                -- name@version
    scored_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX scores_created_at ON scores (created_at);

-- The fold over scores that the detector reads: tweets and negatives a brand and minute.
CREATE TABLE minute_counts (
    brand    text        NOT NULL,
    minute   timestamptz NOT NULL,
    total    bigint      NOT NULL CHECK (total > 0),
    negative bigint      NOT NULL CHECK (negative BETWEEN 0 AND total),
    PRIMARY KEY (brand, minute)
);

-- Records that are no tweets, with the reason. Their offsets count as read.
CREATE TABLE dead_letters (
    topic         text        NOT NULL,
    "partition"   integer     NOT NULL,
    "offset"      bigint      NOT NULL,
    reason        text        NOT NULL,
    payload       bytea       NOT NULL,             -- its beginning
    payload_bytes bigint      NOT NULL,             -- its whole length
    seen_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, "partition", "offset")
);

-- Bad buzz: opened when the share rises beyond what chance explains, then resolved.
CREATE TABLE incidents (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    brand             text             NOT NULL,
    opened_at         timestamptz      NOT NULL,    -- event-time minute
    resolved_at       timestamptz,
    window_minutes    integer          NOT NULL,
    observed_total    bigint           NOT NULL,
    observed_negative bigint           NOT NULL,
    baseline_total    bigint           NOT NULL,    -- frozen while the incident is open
    baseline_negative bigint           NOT NULL,
    expected_share    double precision NOT NULL,
    z                 double precision NOT NULL,
    z_min             double precision NOT NULL,
    UNIQUE (brand, opened_at)
);
-- At most one open incident a brand.
CREATE UNIQUE INDEX incidents_open ON incidents (brand) WHERE resolved_at IS NULL;

-- How far each brand has been judged. A decision names the minute it started from, so of
-- two daemons that judge the same minute one is refused.
CREATE TABLE brand_states (
    brand      text        PRIMARY KEY,
    judged     timestamptz NOT NULL,
    calm_since timestamptz
);

-- Notifications, written with the incident they tell of; delivered at least once.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key          text        NOT NULL UNIQUE,       -- idempotency key, stable over attempts
    receiver     text        NOT NULL,
    notification jsonb       NOT NULL,
    state        text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead')),
    attempts     integer     NOT NULL DEFAULT 0,
    due_at       timestamptz NOT NULL DEFAULT '-infinity', -- next attempt, or end of the lease
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz
);
CREATE INDEX outbox_due ON outbox (due_at) WHERE state = 'pending';
