-- Trainings that the settings describe ([retrain]). Each has one row, so that neither two daemons nor a restart trains
-- for the same reason twice.
CREATE TABLE retrainings (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason     text        NOT NULL CHECK (reason IN ('schedule', 'drift', 'request')),
    due_at     timestamptz NOT NULL,            -- by the schedule; the end of the day that drifted; when it was asked for
    started_at timestamptz NOT NULL,
    attempts   integer     NOT NULL DEFAULT 0,  -- how often the training began, after stops and crashes again
    model      text,                            -- name@version, once it is registered
    outcome    text        CHECK (outcome IN ('promoted', 'kept', 'failed')), -- null while it is not over
    note       text        NOT NULL DEFAULT '', -- by how much it is better, or why it was not promoted
    ended_at   timestamptz,
    UNIQUE (reason, due_at),
    CHECK (num_nulls(outcome, ended_at) IN (0, 2))
);
