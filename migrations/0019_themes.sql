-- What an incident's tweets are about is stored with its notifications; here it is a view. Tweets that are removed, or
-- whose author is forgotten, leave it as they leave the examples.

CREATE VIEW themes AS
SELECT i.id AS incident_id, i.brand, i.opened_at, t.place,
       ARRAY(SELECT jsonb_array_elements_text(t.theme -> 'terms')) AS terms, (t.theme ->> 'tweets')::bigint AS tweets,
       (t.theme ->> 'began')::timestamptz AS began_at,
       ARRAY(SELECT author ->> 'author' FROM jsonb_array_elements(t.theme -> 'first') AS author) AS first_authors,
       ARRAY(SELECT jsonb_array_elements_text(t.theme -> 'hours')::bigint) AS tweets_by_hour, t.theme ->> 'tweet_id' AS tweet_id
FROM incidents AS i
CROSS JOIN LATERAL (
    SELECT o.notification -> 'drivers' -> 'themes' AS themes
    FROM outbox AS o
    WHERE o.notification ->> 'incident_id' = i.id::text AND o.notification -> 'drivers' ? 'themes'
    ORDER BY o.id LIMIT 1
) AS first
CROSS JOIN LATERAL jsonb_array_elements(
    CASE jsonb_typeof(first.themes) WHEN 'array' THEN first.themes ELSE '[]' END) WITH ORDINALITY AS t (theme, place);
COMMENT ON VIEW themes IS
    'What groups of the negative tweets of an incident are about, as the first notification had them that knew; when each began, its first authors and its tweets by hour.';

-- The ids of the tweets that a notification shows something of.
CREATE FUNCTION tweets_shown(notification jsonb) RETURNS SETOF text LANGUAGE sql IMMUTABLE AS $$
    SELECT id #>> '{}' FROM jsonb_path_query(notification, 'lax $.examples[*].tweet_id') AS id
    UNION
    SELECT id #>> '{}' FROM jsonb_path_query(notification, 'lax $.drivers.themes[*].first[*].tweet_id') AS id
$$;

-- The notification without what it shows of these tweets and authors.
CREATE FUNCTION without(notification jsonb, tweets text[], authors text[]) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    notification := jsonb_set(notification, '{examples}', (
        SELECT coalesce(jsonb_agg(example ORDER BY place), '[]')
        FROM jsonb_path_query(notification, 'lax $.examples[*]') WITH ORDINALITY AS e (example, place)
        WHERE example ->> 'tweet_id' <> ALL (tweets)));
    IF notification -> 'drivers' ? 'themes' THEN
        notification := jsonb_set(notification, '{drivers,themes}', (
            SELECT coalesce(jsonb_agg(jsonb_set(theme, '{first}', (
                SELECT coalesce(jsonb_agg(author ORDER BY nth), '[]')
                FROM jsonb_path_query(theme, 'lax $.first[*]') WITH ORDINALITY AS a (author, nth)
                WHERE author ->> 'tweet_id' <> ALL (tweets))) ORDER BY place), '[]')
            FROM jsonb_path_query(notification, 'lax $.drivers.themes[*]') WITH ORDINALITY AS t (theme, place)));
    END IF;
    IF notification -> 'drivers' ? 'repeaters' THEN
        notification := jsonb_set(notification, '{drivers,repeaters}', (
            SELECT coalesce(jsonb_agg(account ORDER BY place), '[]')
            FROM jsonb_path_query(notification, 'lax $.drivers.repeaters[*]') WITH ORDINALITY AS r (account, place)
            WHERE account ->> 'author' <> ALL (authors)));
    END IF;
    RETURN notification;
END $$;

-- Who may read the drivers may read the themes.
DO $$
DECLARE
    who text;
BEGIN
    FOR who IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
        FROM pg_class AS c, aclexplode(c.relacl)
        WHERE c.oid = 'drivers'::regclass AND grantee <> c.relowner AND privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON themes TO %s', who);
    END LOOP;
END $$;
