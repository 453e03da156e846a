//! Acts by links of notifications.

use sqlx::Row;

use super::{PostgresStore, incidents, labels};
use crate::{LinkOutcome, LinkUse, LinkedAct, StoreError, UsedLink};

pub(super) async fn used_link(
    store: &PostgresStore,
    link: &str,
) -> Result<Option<UsedLink>, StoreError> {
    let row = sqlx::query("SELECT used_by, used_at FROM used_links WHERE link = $1")
        .bind(link)
        .fetch_optional(&store.pool)
        .await?;
    let used = |row: sqlx::postgres::PgRow| {
        Ok(UsedLink { by: row.try_get("used_by")?, at: row.try_get("used_at")? })
    };
    row.map(used).transpose()
}

pub(super) async fn use_link(
    store: &PostgresStore,
    using: &LinkUse,
) -> Result<LinkOutcome, StoreError> {
    let mut tx = store.pool.begin().await?;
    // A second use of the link waits here until the first one is committed or rolled back.
    let first = sqlx::query(
        "INSERT INTO used_links (link, used_by, used_at, expires_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (link) DO NOTHING",
    )
    .bind(&using.link)
    .bind(&using.by)
    .bind(using.at)
    .bind(using.expires)
    .execute(&mut *tx)
    .await?;
    if first.rows_affected() == 0 {
        tx.rollback().await?;
        let used = used_link(store, &using.link).await?;
        return Ok(used.map_or(LinkOutcome::Missing, LinkOutcome::Used));
    }
    let outcome = match &using.act {
        LinkedAct::Acknowledge(id, acknowledgement) => {
            let open: Option<bool> = sqlx::query_scalar(
                "SELECT resolved_at IS NULL FROM incidents WHERE id = $1 FOR UPDATE",
            )
            .bind(id.0)
            .fetch_optional(&mut *tx)
            .await?;
            match open {
                None => LinkOutcome::Missing,
                Some(false) => LinkOutcome::Over,
                Some(true) => {
                    incidents::acknowledge_by(&mut *tx, *id, acknowledgement).await?;
                    LinkOutcome::Done
                }
            }
        }
        LinkedAct::Silence(silence) => {
            incidents::silence_by(&mut *tx, silence).await?;
            LinkOutcome::Done
        }
        LinkedAct::Correct(correction) => match labels::correct_by(&mut *tx, correction).await? {
            true => LinkOutcome::Done,
            false => LinkOutcome::Missing,
        },
    };
    match outcome {
        LinkOutcome::Done => tx.commit().await?,
        _ => tx.rollback().await?,
    }
    Ok(outcome)
}
