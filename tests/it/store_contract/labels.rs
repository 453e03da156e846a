//! Samples of tweets, people's labels, and the models that have scored.

use monitor_core::domain::{Classes, Counts, Interval, Label, LabelThresholds, Probability};
use monitor_core::quantify::{LABELS_MIN, Method, Rates, adjusted_count};
use monitor_store::OtherRates::{self, HeldOut};
use monitor_store::{
    Correction, PostgresStore, SampleRequest, Store, StoredModel, corrected_share, labelled, rates,
};

use super::fixtures::*;

fn request(brand: &str, tweets: u32, seed: &str) -> SampleRequest {
    SampleRequest {
        brand: brand.into(),
        from: minute(0).start(),
        to: minute(60).start(),
        tweets,
        seed: seed.into(),
        by: "ann".into(),
        at: minute(99).start(),
    }
}

/// Stores `count` tweets about "united", one a minute. The model calls every third negative.
async fn store_tweets(store: &dyn Store, count: i64) {
    claim_empty(store, 1).await;
    let row = |n: i64| {
        let p = if n % 3 == 0 { 0.9 } else { 0.1 };
        scored(&format!("t{n}"), "text", minute(n % 60).start(), &["united"], p)
    };
    let rows = (0..count).map(row).collect();
    store.commit(&batch(rows, vec![advance(0, 0, count)])).await.expect("committed");
}

pub async fn draws_samples_and_keeps_labels(store: &dyn Store) {
    store_tweets(store, 50).await;
    let sample = store.draw_sample(&request("united", 20, "a")).await.expect("drawn");
    assert_eq!((sample.population, sample.tweets, sample.labelled), (50, 20, 0));
    let tweets = store.sampled_tweets(sample.id).await.expect("tweets");
    let ids = |tweets: &[monitor_store::SampledTweet]| {
        tweets.iter().map(|it| it.tweet_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(tweets.iter().map(|it| it.place).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    let again = store.draw_sample(&request("united", 20, "a")).await.expect("drawn");
    let other = store.draw_sample(&request("united", 20, "b")).await.expect("drawn");
    let again = store.sampled_tweets(again.id).await.expect("tweets");
    let other = store.sampled_tweets(other.id).await.expect("tweets");
    assert_eq!(ids(&tweets), ids(&again), "one seed draws the same tweets");
    assert_ne!(ids(&tweets), ids(&other), "another seed draws others");
    let all = store.draw_sample(&request("united", 500, "c")).await.expect("drawn");
    assert_eq!((all.population, all.tweets), (50, 50), "no more than there are");
    let none = store.draw_sample(&request("delta", 9, "c")).await.expect("drawn");
    assert_eq!((none.population, none.tweets), (0, 0));

    let at = minute(100).start();
    let labels = [(1, Label::Negative), (3, Label::Neutral)];
    assert_eq!(store.record_labels(sample.id, &labels, "ann", at).await.expect("stored"), 2);
    let labels = [(1, Label::Positive), (3, Label::Neutral)];
    assert_eq!(store.record_labels(sample.id, &labels, "bob", at).await.expect("stored"), 1);
    assert_eq!(store.record_labels(99, &labels, "bob", at).await.expect("none"), 0);
    let tweets = store.sampled_tweets(sample.id).await.expect("tweets");
    let found: Vec<_> = tweets.iter().take(4).map(|it| it.label).collect();
    assert_eq!(found, [Some(Label::Positive), None, Some(Label::Neutral), None]);
    let samples = store.samples().await.expect("samples");
    assert_eq!(samples.iter().map(|it| it.labelled).collect::<Vec<_>>(), [2, 0, 0, 0, 0]);
    assert_eq!((samples[0].brand.as_str(), samples[0].by.as_str()), ("united", "ann"));
    assert!(store.sampled_tweets(99).await.expect("none").is_empty());

    let correction = |id: &str, label| Correction {
        tweet_id: id.into(),
        label,
        by: "eve".into(),
        at,
        text: String::new(),
    };
    assert!(store.correct(&correction("t7", Label::Positive)).await.expect("stored"));
    assert!(store.correct(&correction("t7", Label::Negative)).await.expect("replaced"));
    assert!(!store.correct(&correction("nobody", Label::Negative)).await.expect("refused"));
    let corrections = store.corrections().await.expect("corrections");
    let found: Vec<_> =
        corrections.iter().map(|it| (it.tweet_id.as_str(), it.label, it.text.as_str())).collect();
    assert_eq!(found, [("t7", Label::Negative, "text")]);
    assert_eq!(labelled(store, "united", "test@1").await.expect("labels").len(), 2, "kept apart");
}

fn model(rates: Option<Rates>) -> StoredModel {
    let half = Probability::HALF;
    StoredModel {
        model: "test@1".into(),
        classes: Classes::Three,
        thresholds: LabelThresholds { negative: Probability::new(0.4).expect("p"), positive: half },
        languages: vec!["en".parse().expect("a code")],
        rates,
    }
}

pub async fn records_models(store: &dyn Store) {
    assert_eq!(store.models().await.expect("models"), []);
    store.record_model(&model(None)).await.expect("recorded");
    assert_eq!(store.models().await.expect("models"), [model(None)]);
    let counts = |total, negative| Counts { total, negative };
    let rates = Rates::measured(counts(301, 200), counts(700, 77)).expect("rates");
    store.record_model(&model(Some(rates))).await.expect("recorded");
    assert_eq!(store.models().await.expect("models"), [model(Some(rates))], "it is replaced");
}

/// First by the model's rates, then by labels of the brand.
pub async fn corrects_a_share(store: &dyn Store) {
    store_tweets(store, 600).await;
    let counts = Counts { total: 600, negative: 200 };
    let of = ("united", "test@1");
    let all = (minute(0), minute(59));
    let corrected =
        async || corrected_share(store, of, all, counts, 1.0, HeldOut).await.expect("read");
    assert_eq!(corrected().await, None, "an unknown model");
    let rows = |total, negative| Counts { total, negative };
    let measured = Rates::measured(rows(500, 400), rows(1000, 100)).expect("rates");
    store.record_model(&model(Some(measured))).await.expect("recorded");
    let found = corrected().await.expect("corrected");
    assert_eq!(Some(found), adjusted_count(counts, &measured, 1.0));
    assert_eq!(found.method, Method::AdjustedCount);
    let own = corrected_share(store, of, all, counts, 1.0, OtherRates::None).await.expect("read");
    assert_eq!(own, None, "no labels of the brand");

    // People call half of what the model calls negative so, and nothing else.
    let sample = store.draw_sample(&request("united", 240, "a")).await.expect("drawn");
    let tweets = store.sampled_tweets(sample.id).await.expect("tweets");
    let truth = |tweet: &monitor_store::SampledTweet| {
        let number: u32 = tweet.tweet_id[1..].parse().expect("a number");
        if number.is_multiple_of(6) { Label::Negative } else { Label::Neutral }
    };
    let labels: Vec<_> = tweets.iter().map(|it| (it.place, truth(it))).collect();
    let few = &labels[..LABELS_MIN - 1];
    store.record_labels(sample.id, few, "ann", minute(99).start()).await.expect("stored");
    assert_eq!(corrected().await.expect("corrected").method, Method::AdjustedCount, "too few");
    store.record_labels(sample.id, &labels, "ann", minute(99).start()).await.expect("stored");
    let found = corrected().await.expect("corrected");
    assert_eq!(found.method, Method::PredictionPowered);
    let Interval { low, high } = found.interval;
    assert!(low < 1.0 / 6.0 && 1.0 / 6.0 < high && high - low < 0.12, "{found:?}");

    // In another hour than that of the labels, their rates correct the count.
    let elsewhere =
        corrected_share(store, of, (minute(90), minute(99)), counts, 1.0, OtherRates::None).await;
    let elsewhere = elsewhere.expect("read").expect("corrected");
    assert_eq!(elsewhere.method, Method::AdjustedCount);
    assert!((elsewhere.share - 1.0 / 6.0).abs() < 0.05, "{elsewhere:?}");
    let own = labelled(store, "united", "test@1").await.expect("labels");
    let own: Vec<_> = own.into_iter().map(|(_, row)| row).collect();
    assert_eq!(own.len(), 240);
    assert!(own.iter().all(|row| (row.inclusion - 0.4).abs() < 1e-9), "240 of 600");
    let own = rates(&own).expect("rates");
    assert!(own.true_positive() > 0.99 && own.false_positive() < 0.3, "{own:?}");
    let other =
        corrected_share(store, ("united", "m@2"), all, counts, 1.0, HeldOut).await.expect("read");
    assert_eq!(other, None, "labels of tweets that another model has called say nothing");
}

/// The function `corrected_share` of the schema, beside `adjusted_count`.
pub async fn sql_corrects_as_the_program_does(store: &PostgresStore) {
    let numbers = [0_i64, 1, 7, 50, 400, 1000];
    let mut compared = 0;
    for total in numbers {
        for negative in numbers.into_iter().filter(|negative| *negative <= total) {
            for (rows, found, others, called) in
                [(300, 200, 700, 77), (40, 39, 40, 0), (50, 20, 50, 16), (9, 3, 9, 3), (5, 5, 5, 0)]
            {
                let sql: Option<(f64, f64, f64)> =
                    sqlx::query_as("SELECT * FROM corrected_share($1, $2, $3, $4, $5, $6)")
                        .bind(total)
                        .bind(negative)
                        .bind(rows)
                        .bind(found)
                        .bind(others)
                        .bind(called)
                        .fetch_optional(store.pool())
                        .await
                        .expect("an answer");
                let counts = |total: i64, negative: i64| Counts {
                    total: total.unsigned_abs(),
                    negative: negative.unsigned_abs(),
                };
                let rates =
                    Rates::measured(counts(rows, found), counts(others, called)).expect("rates");
                let ours = adjusted_count(counts(total, negative), &rates, 1.0);
                let ours = ours.map(|it| (it.share, it.interval.low, it.interval.high));
                let case = format!("{negative} of {total} at {rates:?}: {sql:?}, {ours:?}");
                assert_eq!(sql.is_some(), ours.is_some(), "{case}");
                if let (Some(sql), Some(ours)) = (sql, ours) {
                    let far = [sql.0 - ours.0, sql.1 - ours.1, sql.2 - ours.2];
                    assert!(far.iter().all(|it| it.abs() < 1e-9), "{case}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 20, "{compared}");
}
