-- Fills an empty, migrated database: monitor.tweets tweets of the monitor.days days before monitor.until about
-- monitor.brands brands, "brand 1" being the most talked of; every fiftieth is about two. Needs no statement timeout.
SELECT make_score_partitions(current_setting('monitor.until')::timestamptz
                             - current_setting('monitor.days')::integer * interval '24 hours',
                             current_setting('monitor.until')::timestamptz);
INSERT INTO scores (tweet_id, created_at, brands, text, negative, neutral, label, model, language, author, followers,
                    retweets)
SELECT (1e18::bigint + n * 4194304)::text, at,
       CASE WHEN n % 50 = 0 AND brand <> brands THEN ARRAY['brand ' || brand, 'brand ' || brands]
            ELSE ARRAY['brand ' || brand] END,
       'A tweet as long as tweets are, in its own words: number ' || n || ' says that the flight was late again',
       CASE label WHEN 'NEGATIVE' THEN 0.9 ELSE 0.1 END, CASE label WHEN 'NEUTRAL' THEN 0.8 ELSE 0.05 END, label,
       'model@1', CASE WHEN n % 10 = 0 THEN 'fr' ELSE 'en' END, 'author ' || n * 7919 % 100003, n % 5000, n % 7
FROM (
    SELECT n, brands, 1 + (brands * power(n * 7919 % 10007 / 10007.0, 2))::integer % brands AS brand,
           (ARRAY['NEGATIVE', 'NEUTRAL', 'NEUTRAL', 'POSITIVE', 'NEGATIVE', 'NEUTRAL', 'POSITIVE'])[1 + n * 31 % 7]
               AS label,
           until - (tweets - n) * (days * interval '24 hours' / tweets) AS at
    FROM (SELECT current_setting('monitor.tweets')::bigint AS tweets, current_setting('monitor.days')::integer AS days,
                 current_setting('monitor.brands')::integer AS brands,
                 current_setting('monitor.until')::timestamptz AS until) AS size,
         generate_series(1, tweets) AS n
) AS tweet;
INSERT INTO tweet_ids SELECT tweet_id, created_at FROM scores;
INSERT INTO minute_counts (brand, minute, model, total, negative)
SELECT brand, date_trunc('minute', created_at, 'UTC'), model, count(*), count(*) FILTER (WHERE label = 'NEGATIVE')
FROM scores, unnest(brands) AS brand GROUP BY 1, 2, 3;
INSERT INTO hour_counts (brand, hour, model, language, tweets, negative, neutral)
SELECT brand, date_trunc('hour', created_at, 'UTC'), model, language, count(*),
       count(*) FILTER (WHERE label = 'NEGATIVE'), count(*) FILTER (WHERE label = 'NEUTRAL')
FROM scores, unnest(brands) AS brand GROUP BY 1, 2, 3, 4;
INSERT INTO day_counts (brand, day, model, language, tweets, negative, neutral)
SELECT brand, date_trunc('day', hour, 'UTC'), model, language, sum(tweets), sum(negative), sum(neutral)
FROM hour_counts GROUP BY 1, 2, 3, 4;
INSERT INTO models (model, classes, languages, negative_from, positive_from, negative_rows, negative_found, other_rows,
                    other_called)
VALUES ('model@1', 3, '{en,fr}', 0.5, 0.5, 500, 430, 700, 60);
INSERT INTO model_switches (minute, model, gap_from) VALUES ('1970-01-01 00:00+00', 'model@1', '1970-01-01 00:00+00');
INSERT INTO checkpoints (topic, "partition", position, event_time_max, record_time_max, scores)
VALUES ('tweets', 0, 1, current_setting('monitor.until')::timestamptz, current_setting('monitor.until')::timestamptz,
        current_setting('monitor.tweets')::bigint);
INSERT INTO incidents (brand, cause, severity, opened_at, resolved_at, evidence, phases)
SELECT 'brand 1', 'share', 'warning', at, at + interval '2 hours', evidence,
       jsonb_build_array(jsonb_build_object(
           'began', at, 'ended', at + interval '2 hours', 'ended_as', 'calm', 'relapses', 0, 'opening', evidence,
           'peak_at', at, 'peak', evidence, 'latest', evidence))
FROM generate_series(1, 9) AS n, LATERAL (
    SELECT date_trunc('minute', current_setting('monitor.until')::timestamptz - n * interval '5 days')) AS t (at),
LATERAL (
    SELECT jsonb_build_object('kind', 'share', 'since', at - interval '1 hour', 'expected_share', 0.3)) AS e (evidence);
ANALYZE;
