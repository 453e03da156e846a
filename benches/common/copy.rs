//! Bare `COPY` of the rows of tweets, without an index.

use anyhow::Context;
use monitor_store::Batch;
use sqlx::PgConnection;

pub const TABLE: &str = "
    CREATE TABLE bare (tweet_id text, created_at timestamptz, brand text, text text, negative real,
                       label text, model text, author text, language text)";

pub async fn copy(connection: &mut PgConnection, batch: &Batch) -> anyhow::Result<()> {
    let mut text = String::new();
    for row in &batch.scores {
        let (tweet, score) = (&row.tweet, row.score.as_ref().context("all have a score")?);
        text += &format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\ten\n",
            tweet.id.as_str(),
            tweet.created_at.to_rfc3339(),
            row.brands.first().map_or("", String::as_str),
            // Of what COPY reads as its own, tweets have these.
            tweet.text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"),
            score.score.probabilities.negative().get(),
            score.score.label.as_str(),
            score.model,
            tweet.reach.author.as_deref().unwrap_or_default()
        );
    }
    let mut sink = connection.copy_in_raw("COPY bare FROM STDIN").await?;
    sink.send(text.as_bytes()).await?;
    sink.finish().await?;
    Ok(())
}
