//! How authors are stored, and how one is forgotten.
//!
//! **Invariant.** A hash is `#` and 16 hexadecimal digits of HMAC-SHA256 by the key of this database: the same
//! author has the same hash in every row, and nobody without the key can try names against it. No name on a social
//! network begins with `#`.
//! Deliberately absent: hashing what is stored in plain.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::{Connection, PgPool};
use tokio::sync::OnceCell;

use super::PostgresStore;
use crate::StoreError;
use monitor_config as config;

/// How authors are stored; reads the key when it is first needed.
#[derive(Debug)]
pub(super) struct Authors {
    mode: config::Authors,
    key: OnceCell<Key>,
}

/// The key, ready to hash.
type Key = Hmac<Sha256>;

/// How the authors of a batch are stored.
pub(super) enum AuthorKey {
    Hashed(Key),
    Plain,
    None,
}

impl Authors {
    pub fn new(mode: config::Authors) -> Self {
        Self { mode, key: OnceCell::new() }
    }

    pub async fn key(&self, pool: &PgPool) -> Result<AuthorKey, StoreError> {
        Ok(match self.mode {
            config::Authors::Plain => AuthorKey::Plain,
            config::Authors::None => AuthorKey::None,
            config::Authors::Hashed => AuthorKey::Hashed(self.read(pool).await?),
        })
    }

    async fn read(&self, pool: &PgPool) -> Result<Key, StoreError> {
        let read = async || -> Result<Key, StoreError> {
            let key = sqlx::query_scalar::<_, String>("SELECT key FROM author_key");
            Ok(prepared(&key.fetch_one(pool).await?))
        };
        Ok(self.key.get_or_try_init(read).await?.clone())
    }
}

impl AuthorKey {
    /// What is stored of an author.
    pub fn stored(&self, author: &str) -> Option<String> {
        match self {
            Self::Plain => Some(author.to_owned()),
            Self::None => None,
            Self::Hashed(key) => Some(hash(key, author)),
        }
    }

    /// What is stored of a voice, which may come from an author.
    pub fn voice(&self, voice: u64) -> i64 {
        let Self::Hashed(key) = self else { return voice.cast_signed() };
        let mut mac = key.clone();
        mac.update(&voice.to_le_bytes());
        let digest = mac.finalize().into_bytes();
        i64::from_le_bytes(digest[..8].try_into().expect("HMAC-SHA256 has 32 bytes"))
    }
}

/// The condition that a row's author is not among [`left_out`], bound as this parameter.
pub(super) fn is_heard(parameter: &str) -> String {
    format!("(author IS NULL OR lower(ltrim(author, '@')) <> ALL({parameter}))")
}

/// What may be stored of the authors that are left out, in lower case. A name whose hash is stored is found in its own
/// case or in lower case: the hash depends on it.
pub(super) async fn left_out(store: &PostgresStore) -> Result<Vec<String>, StoreError> {
    let mut found: Vec<String> = store.ignored_authors.iter().cloned().collect();
    if !store.ignored_names.is_empty() {
        let key = store.authors.read(&store.pool).await?;
        for name in &*store.ignored_names {
            let lower = name.to_lowercase();
            found.extend([hash(&key, name), hash(&key, &lower), lower]);
        }
    }
    Ok(found)
}

/// The name of a stored author; `None` if it is a hash, which tells people nothing.
pub fn author_name(stored: &str) -> Option<&str> {
    (!stored.starts_with('#')).then_some(stored)
}

fn prepared(key: &str) -> Key {
    Key::new_from_slice(key.as_bytes()).expect("HMAC takes any key")
}

fn hash(key: &Key, author: &str) -> String {
    let mut mac = key.clone();
    mac.update(author.as_bytes());
    let digest = mac.finalize().into_bytes();
    let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("#{digits}")
}

/// Reads all tweets: there is no index on authors, and this is rare.
pub(super) async fn forget(store: &PostgresStore, author: &str) -> Result<u64, StoreError> {
    let key = store.authors.read(&store.pool).await?;
    let mut connection = store.patient().await?;
    let (forgotten,): (i64,) = sqlx::query_as(
        "WITH gone AS (
             DELETE FROM scores WHERE author = ANY($1)
             RETURNING tweet_id, created_at, brands, model, echo
         ), gone_counts AS (
             UPDATE minute_counts AS m SET gone = m.gone + t.tweets
             FROM (
                 SELECT brand, date_trunc('minute', created_at, 'UTC') AS minute, model, count(*) AS tweets
                 FROM gone, unnest(brands) AS brand WHERE NOT echo GROUP BY 1, 2, 3
             ) AS t
             WHERE m.brand = t.brand AND m.minute = t.minute AND m.model = t.model
         ), blanked AS (
             UPDATE outbox SET notification = without(notification, ARRAY(SELECT tweet_id FROM gone), $1)
             WHERE EXISTS (SELECT FROM tweets_shown(notification) AS shown WHERE shown IN (SELECT tweet_id FROM gone))
                OR EXISTS (SELECT FROM jsonb_path_query(notification, 'lax $.drivers.repeaters[*].author') AS account
                           WHERE account #>> '{}' = ANY ($1))
         )
         SELECT count(*) FROM gone",
    )
    .bind(vec![author.to_owned(), hash(&key, author)])
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(forgotten.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_author_and_key() {
        let (key, other) = (prepared("key"), prepared("other"));
        // HMAC-SHA256 of "ann" by "key", by Python's hmac.
        assert_eq!(hash(&key, "ann"), "#9d77c3180ff81edf");
        assert_ne!(hash(&key, "ann"), hash(&key, "bob"));
        assert_ne!(hash(&key, "ann"), hash(&other, "ann"));
        assert_eq!(author_name(&hash(&key, "ann")), None);
        assert_eq!(author_name("ann"), Some("ann"));
    }

    #[test]
    fn authors_are_stored_as_the_settings_say() {
        let key = prepared("key");
        assert_eq!(AuthorKey::Plain.stored("ann").as_deref(), Some("ann"));
        assert_eq!(AuthorKey::None.stored("ann"), None);
        assert_eq!(AuthorKey::Hashed(key.clone()).stored("ann"), Some(hash(&key, "ann")));
    }
}
