-- The offsets of a topic that was recreated start at 0 again, so a place is not the name of one record. Two records
-- at one place differ in their time or their payload; the time at which each was stored tells their rows apart.
ALTER TABLE dead_letters ADD COLUMN record_time timestamptz; -- when it was written to Kafka, if known
ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_pkey,
    ADD PRIMARY KEY (topic, "partition", "offset", seen_at);
