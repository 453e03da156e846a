-- Why the other receivers were not notified of a step: a list of objects with receiver, reason and
-- detail. Rows from before this column, and those of the version before, have none.
ALTER TABLE incident_events ADD COLUMN suppressed jsonb;
