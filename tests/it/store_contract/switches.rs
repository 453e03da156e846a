//! Switches of the model, and tweets that another model scores again.

use monitor_core::domain::{Counts, Minute};
use monitor_store::{
    Advance, ModelScore, Pairs, Rescored, ScoredTweet, Store, StoreError, StoredText,
};

use super::fixtures::*;

fn by(model: &str, id: &str, brands: &[&str], at: i64, p: f32) -> ScoredTweet {
    let row = scored(id, &format!("text of {id}"), minute(at).start(), brands, p);
    let of_language = model == "french@1";
    let score = row.score.map(|score| ModelScore { model: model.into(), of_language, ..score });
    ScoredTweet { score, ..row }
}

async fn store_rows(
    store: &dyn Store,
    from: i64,
    rows: Vec<ScoredTweet>,
) -> Result<(), StoreError> {
    let newest = rows.iter().map(|row| row.tweet.created_at).max();
    let advance = Advance { event_time_max: newest, ..advance(0, from, from + 1) };
    store.commit(&batch(rows, vec![advance])).await.map(drop)
}

pub async fn refuses_a_model_whose_time_is_over(store: &dyn Store) {
    claim_empty(store, 1).await;
    assert_eq!(store.switches().await.expect("switches").newest(), None);
    let first = store.begin_with("old@1").await.expect("begun");
    assert_eq!(first.at(minute(0)).expect("a model").model, "old@1");
    let again = store.begin_with("other@1").await.expect("begun");
    assert_eq!(again, first, "only the first daemon decides");
    let other = store_rows(store, 0, vec![by("other@1", "0", &[], 5, 0.9)]).await;
    assert!(matches!(other, Err(StoreError::Switched { .. })), "{other:?}");
    store_rows(store, 0, vec![by("old@1", "1", &["united"], 5, 0.9)]).await.expect("stored");

    let switches = store.switch_to("new@1", minute(3)).await.expect("switched");
    assert_eq!(switches, store.switches().await.expect("switches"));
    let newest = switches.newest().expect("a switch").clone();
    assert_eq!((newest.from, newest.gap_from), (minute(7), minute(3)));
    let late = vec![by("old@1", "2", &["united"], 6, 0.9), by("old@1", "3", &["united"], 7, 0.9)];
    match store_rows(store, 1, late).await {
        Err(StoreError::Switched { model, minute: refused, switches: told }) => {
            assert_eq!((model.as_str(), refused), ("old@1", minute(7)));
            assert_eq!(told, switches);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(positions(store).await, [1], "nothing of the batch is stored");
    let rows = vec![
        by("old@1", "2", &["united"], 6, 0.9),
        by("new@1", "3", &["united"], 7, 0.9),
        by("new@1", "4", &["united"], 2, 0.9),
        by("french@1", "5", &["united"], 4, 0.9),
    ];
    store_rows(store, 1, rows).await.expect("the fence allows these");
    let total = async |model: &str| {
        let counts = store.model_counts(model, "united", minute(0), minute(60)).await;
        counts.expect("counts").iter().map(|(minute, c)| (minute.0, c.total)).collect::<Vec<_>>()
    };
    // No switch names the model of a language: it goes with each.
    let (old, new) = (total("old@1").await, total("new@1").await);
    assert_eq!(old, [4, 5, 6].map(|at| (minute(at).0, 1)));
    assert_eq!(new, [2, 4, 7].map(|at| (minute(at).0, 1)));
    assert_eq!(all_counts(store, "united").await.len(), 5, "of all models");

    // Back, while the next switch is still ahead.
    let ahead = store.switch_to("newer@1", Minute(0)).await.expect("switched");
    assert_eq!(ahead.newest().expect("a switch").from, minute(9));
    let back = store.switch_to("new@1", Minute(0)).await.expect("switched");
    assert_eq!(back, switches, "as if it had never been");
}

pub async fn scores_stored_tweets_again_once(store: &dyn Store) {
    claim_empty(store, 1).await;
    store.begin_with("old@1").await.expect("begun");
    let rows = vec![
        by("french@1", "f1", &["delta"], 2, 0.9),
        by("old@1", "a", &["united"], 1, 0.9),
        by("old@1", "b", &["united", "delta"], 1, 0.1),
        by("old@1", "d", &[], 1, 0.9),
        by("old@1", "e", &["delta"], 3, 0.9),
    ];
    store_rows(store, 0, rows).await.expect("stored");
    store.switch_to("new@1", Minute(0)).await.expect("switched");
    store_rows(store, 1, vec![by("new@1", "c", &["united"], 1, 0.9)]).await.expect("stored");
    let unscored = async || store.unscored("new@1", minute(0), minute(60)).await.expect("minutes");
    assert_eq!(unscored().await, [(minute(3), 1), (minute(1), 3)]);
    assert_eq!(store.unscored("new@1", minute(2), minute(3)).await.expect("minutes").len(), 1);

    // Page by page, in order.
    let minutes = [minute(1), minute(3)];
    let mut found: Vec<StoredText> = Vec::new();
    loop {
        let page = store.texts_to_rescore("new@1", &minutes, found.last(), 1).await;
        let Some(text) = page.expect("a page").pop() else { break };
        found.push(text);
    }
    let ids: Vec<_> = found.iter().map(|text| (text.tweet_id.as_str(), text.is_negative)).collect();
    assert_eq!(ids, [("a", true), ("b", false), ("e", true)]);
    assert_eq!((found[1].text.as_str(), found[1].model.as_str()), ("text of b", "old@1"));
    assert_eq!(found[1].brands, ["united", "delta"]);

    let pairs =
        |total, negative, gained, lost| Pairs { total, negative, gained, lost, not_judged: 0 };
    let rescored = |brand: &str, at: i64, pairs| Rescored {
        brand: brand.into(),
        minute: minute(at),
        instead_of: "old@1".into(),
        pairs,
    };
    let of_minute_1 =
        [rescored("united", 1, pairs(2, 1, 1, 1)), rescored("delta", 1, pairs(1, 1, 1, 0))];
    for _ in 0..2 {
        store.put_rescored("new@1", &of_minute_1).await.expect("stored");
    }
    assert_eq!(unscored().await, [(minute(3), 1)], "what is left after a kill");
    let unknown = Pairs { not_judged: 1, ..Pairs::default() };
    store.put_rescored("new@1", &[rescored("delta", 3, unknown)]).await.expect("stored");
    assert_eq!(unscored().await, [], "a language that it does not know is done too");
    let of_delta = store.model_counts("new@1", "delta", minute(0), minute(60)).await;
    assert_eq!(of_delta.expect("counts").len(), 2, "minutes 1 and 2");
    store.put_rescored("new@1", &[rescored("delta", 3, pairs(1, 0, 0, 1))]).await.expect("stored");
    let counts = async |brand: &str| {
        store.model_counts("new@1", brand, minute(0), minute(60)).await.expect("counts")
    };
    let united = Counts { total: 3, negative: 2 };
    assert_eq!(counts("united").await, [(minute(1), united)], "its own and those scored again");
    let hours = store.model_hour_counts("new@1", "delta", minute(30), minute(30)).await;
    assert_eq!(hours.expect("hours"), [(minute(0), Counts { total: 3, negative: 2 })]);
    let sums = async |from| store.pairs("new@1", "old@1", minute(from)).await.expect("pairs");
    assert_eq!(
        sums(0).await,
        [("delta".to_owned(), pairs(2, 1, 1, 1)), ("united".to_owned(), pairs(2, 1, 1, 1))]
    );
    assert_eq!(sums(2).await, [("delta".to_owned(), pairs(1, 0, 0, 1))]);

    // A late tweet opens its minute again, and the minute replaces what was stored of it.
    store_rows(store, 2, vec![by("old@1", "f", &["united"], 1, 0.1)]).await.expect("stored");
    assert_eq!(unscored().await, [(minute(1), 1)]);
    store.put_rescored("new@1", &[rescored("united", 1, pairs(3, 1, 1, 1))]).await.expect("stored");
    assert_eq!(counts("united").await, [(minute(1), Counts { total: 4, negative: 2 })]);
    assert_eq!(unscored().await, []);
}
