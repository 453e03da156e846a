//! Trainings that the settings ask for.

use monitor_store::{RetrainOutcome, RetrainReason, Retraining, Store};

use super::fixtures::*;

pub async fn keeps_retrainings(store: &dyn Store) {
    let (due, now) = (minute(10).start(), minute(11).start());
    let begin = async |reason, due| store.begin_retraining(reason, due, now).await.expect("begun");
    assert_eq!(store.retrainings(9).await.expect("none"), []);
    let first = begin(RetrainReason::Schedule, due).await.expect("it is new");
    assert_eq!((first.reason, first.due_at, first.started_at), (RetrainReason::Schedule, due, now));
    assert_eq!((first.attempts, &first.model, first.ended, &*first.note), (0, &None, None, ""));
    assert_eq!(begin(RetrainReason::Schedule, due).await, None, "once for each time");
    let second = begin(RetrainReason::Drift, due).await.expect("another reason");
    let third = begin(RetrainReason::Schedule, minute(20).start()).await.expect("another time");

    let trained = Retraining { attempts: 2, model: Some("m@3".into()), ..first };
    store.put_retraining(&trained).await.expect("stored");
    let ended = Some((RetrainOutcome::Kept, minute(30).start()));
    let ended = Retraining { ended, note: "not better".into(), ..trained };
    store.put_retraining(&ended).await.expect("stored");
    assert_eq!(store.retrainings(9).await.expect("all"), [third.clone(), second, ended]);
    assert_eq!(store.retrainings(1).await.expect("the newest"), [third]);
}
