use super::*;
use crate::alerting::{Backtest, ShareRule, Volume, backtest};
use crate::domain::{Counts, Interval, ShareEvidence, VolumeEvidence};

const DAY: i64 = 1440;
const HOUR: i64 = 60;

fn policy() -> BuzzPolicy {
    BuzzPolicy {
        share: SharePolicy {
            rule: ShareRule::EDetector { false_alarms_per_month: 1.0 },
            tweets_min: 30,
            rise_min: 0.05,
            baseline_tweets_min: 100,
            short_minutes: 15,
            for_minutes: 0,
            resolve_minutes: 30,
            new_normal_minutes: 2 * 1440,
            zone: Zone::UTC,
        },
        volumes: [Volume::Negative, Volume::All].map(VolumePolicy::of).to_vec(),
        reopen_minutes: 1440,
        thresholds: Thresholds::default(),
    }
}

#[test]
fn the_causes_share_the_budget() {
    let check = |name: &str, rule: ShareRule, volumes: &[Volume], part: f64| {
        let volumes = volumes.iter().map(|counted| VolumePolicy::of(*counted)).collect();
        let share = SharePolicy { rule, ..policy().share };
        let found = BuzzPolicy { share, volumes, ..policy() }.with_budget(1.5);
        for volume in &found.volumes {
            assert_eq!(volume.false_alarms_per_month, part, "{name}");
        }
        let expected = match rule {
            ShareRule::EDetector { .. } => ShareRule::EDetector { false_alarms_per_month: part },
            other => other,
        };
        assert_eq!(found.share.rule, expected, "{name}");
    };
    let e_detector = ShareRule::EDetector { false_alarms_per_month: 9.0 };
    let above = ShareRule::ShareAbove { share: 0.5, window_minutes: 60 };
    check("all", e_detector, &[Volume::Negative, Volume::All], 0.5);
    check("the default", e_detector, &[Volume::Negative], 0.75);
    check("share alone", e_detector, &[], 1.5);
    check("a rule without a budget", above, &[Volume::Negative], 1.5);
    check("and alone", above, &[], 1.5);
}

/// `size` in hundredths above an expected share of 20 %, or in times of the usual volume.
fn evidence(cause: Cause, size: u64) -> Evidence {
    let volume = VolumeEvidence {
        since: Minute(0),
        observed: 100 * size,
        expected: 100.0,
        tweets: Counts { total: 100 * size, negative: 0 },
        usual_share: 0.2,
        statistic: 20.0,
        threshold: 10.0,
    };
    match cause {
        Cause::NegativeVolume => Evidence::NegativeVolume(volume),
        Cause::Surge => Evidence::Surge(volume),
        _ => Evidence::Share(ShareEvidence {
            rule: "e-detector",
            since: Minute(0),
            window_minutes: 60,
            observed: Counts { total: 100, negative: 20 + size },
            observed_interval: Interval { low: 0.2 + size as f64 / 100.0, high: 1.0 },
            recent_minutes: 15,
            recent: Counts::default(),
            baseline: Counts::default(),
            expected_share: 0.2,
            expected_interval: Interval::default(),
            statistic: 1.0,
            threshold: 1.0,
            dispersion: 1.0,
        }),
    }
}

/// A minute, what the views say of it, and the words for the verdict.
type Scene<'a> = (i64, &'a [(Cause, ViewVerdict)], &'a str);

fn check(name: &str, script: &[Scene]) -> Course {
    let mut course = None;
    for (minute, views, expected) in script {
        let found = match advance(&mut course, Minute(*minute), 1440, views) {
            BuzzVerdict::Quiet => "quiet".to_owned(),
            BuzzVerdict::Open => "opened".to_owned(),
            BuzzVerdict::Reopen => "reopened".to_owned(),
            BuzzVerdict::Resolve(why) => format!("resolved as {}", why.as_str()),
            BuzzVerdict::Firing(News { joined, relapsed, ended }) => {
                let words = |name: &str, causes: Vec<Cause>| {
                    let one = |cause: Cause| format!(" {name} {}", cause.as_str());
                    causes.into_iter().map(one).collect::<String>()
                };
                let [joined, relapsed, ended] =
                    [words("joined", joined), words("again", relapsed), words("ended", ended)];
                format!("goes on{joined}{relapsed}{ended}")
            }
        };
        assert_eq!(found, *expected, "{name}, minute {minute}");
    }
    course.expect("an incident")
}

use Cause::{NegativeVolume, Share, Surge};
use ViewVerdict::{Firing, Open, Quiet};

fn over(cause: Cause) -> (Cause, ViewVerdict) {
    (cause, ViewVerdict::Resolve(evidence(cause, 1), ResolveReason::Calm))
}

fn opens(cause: Cause, size: u64) -> (Cause, ViewVerdict) {
    (cause, Open(evidence(cause, size)))
}

fn lasts(cause: Cause, size: u64) -> (Cause, ViewVerdict) {
    (cause, Firing(evidence(cause, size)))
}

#[test]
fn views_that_overlap_are_one_incident() {
    let course = check(
        "one after the other",
        &[
            (1, &[(Share, Quiet), (NegativeVolume, Quiet)], "quiet"),
            (2, &[opens(Share, 10), (NegativeVolume, Quiet)], "opened"),
            (3, &[lasts(Share, 30), (NegativeVolume, Quiet)], "goes on"),
            (4, &[lasts(Share, 20), opens(NegativeVolume, 3)], "goes on joined negative-volume"),
            (5, &[over(Share), lasts(NegativeVolume, 5)], "goes on ended share"),
            (6, &[opens(Share, 15), lasts(NegativeVolume, 4)], "goes on again share"),
            (7, &[over(Share), over(NegativeVolume)], "resolved as calm"),
        ],
    );
    let [share, negative] = &course.phases[..] else { panic!("{course:?}") };
    assert_eq!((share.began, share.relapses, share.ended), (Minute(2), 1, Some(Minute(7))));
    assert_eq!((share.peak_at, share.peak), (Minute(3), evidence(Share, 30)), "of both times");
    assert_eq!((negative.began, negative.peak_at), (Minute(4), Minute(5)));
    check("at the same minute", &[(1, &[opens(Share, 9), opens(Surge, 3)], "opened")]);
    check(
        "one ends when the other begins",
        &[
            (1, &[opens(Share, 9)], "opened"),
            (2, &[over(Share), opens(Surge, 3)], "goes on joined surge ended share"),
        ],
    );
}

#[test]
fn a_relapse_opens_the_incident_again_and_a_later_rise_a_new_one() {
    let again = check(
        "after a day",
        &[
            (1, &[opens(Share, 10)], "opened"),
            (9, &[over(Share)], "resolved as calm"),
            (9 + DAY, &[(Share, Quiet), opens(Surge, 3)], "reopened"),
            (10 + DAY, &[opens(Share, 10), over(Surge)], "goes on again share ended surge"),
            (11 + DAY, &[over(Share)], "resolved as calm"),
        ],
    );
    assert_eq!((again.opened, again.resolved), (Minute(1), Some(Minute(11 + DAY))));
    let later = check(
        "after more than a day",
        &[
            (1, &[opens(Share, 10)], "opened"),
            (9, &[over(Share)], "resolved as calm"),
            (10 + DAY, &[opens(Share, 3)], "opened"),
        ],
    );
    assert_eq!((later.opened, later.phases.len()), (Minute(10 + DAY), 1));
    assert_eq!(later.phases[0].relapses, 0);
}

#[test]
fn a_level_that_stays_is_told_though_another_view_ends_later() {
    let stays = |cause| (cause, ViewVerdict::Resolve(evidence(cause, 9), ResolveReason::NewNormal));
    check(
        "a new normal",
        &[
            (1, &[opens(Share, 10), opens(Surge, 3)], "opened"),
            (2, &[stays(Share), lasts(Surge, 3)], "goes on ended share"),
            (3, &[(Share, Quiet), over(Surge)], "resolved as new normal"),
        ],
    );
}

#[test]
fn detectors_agree_with_what_is_stored() {
    let counts = crisis();
    let states = states(&counts);
    let open = states.iter().rposition(|state| state.course.as_ref().is_some_and(Course::is_open));
    let open = &states[open.expect("an open incident")];
    let policy = policy();
    let last = Minute(0);

    let mut same = open.clone();
    assert!(!policy.reconcile(&mut same, last, true, false));
    assert_eq!(&same, open, "nothing has changed");

    let mut gone = open.clone();
    assert!(!policy.reconcile(&mut gone, last, false, false), "there is nothing to close");
    assert!(gone.course.is_none() && gone.share.open().is_none(), "{gone:?}");
    assert!(gone.volumes.values().all(|volume| volume.opened().is_none()));
    assert_eq!(gone.share.excluded(), open.share.excluded(), "what was learned stays");

    let mut unreadable = BuzzState::default();
    assert!(policy.reconcile(&mut unreadable, last, true, false), "nobody watches it");

    let alone = BuzzPolicy { volumes: Vec::new(), ..policy.clone() };
    let mut fewer = open.clone();
    let without_share = fewer.share.open().is_none();
    assert_eq!(alone.reconcile(&mut fewer, last, true, false), without_share);
    assert!(fewer.volumes.is_empty(), "forgotten, to be learned anew");
    let course = fewer.course.expect("it is kept");
    assert!(course.phases.iter().all(|phase| phase.cause() == Share || !phase.is_open()));

    let ended = states
        .iter()
        .rev()
        .find(|state| state.course.as_ref().is_some_and(|course| !course.is_open()));
    let mut lost = ended.expect("a resolved incident").clone();
    policy.reconcile(&mut lost, last, false, false);
    assert_eq!(lost.course, None, "an incident that is not stored cannot open again");
}

/// Ten tweets a minute, two of them negative. On day 4 five times as many for two hours, after one hour
/// half of them negative; the same on day 5, and on day 8.
fn crisis() -> Vec<(Minute, Counts)> {
    let counts = |m: i64| {
        let since = [4, 5, 8].map(|day| m - (day * DAY + 600));
        let within = |length: i64| since.iter().any(|since| (0..length).contains(since));
        let late = since.iter().any(|since| (HOUR..3 * HOUR).contains(since));
        let total: u64 = if within(2 * HOUR) { 50 } else { 10 };
        let negative = if late { total / 2 } else { total / 5 };
        Counts { total, negative: negative + u64::from(m % 3 == 0) }
    };
    (0..10 * DAY).map(|m| (Minute(m), counts(m))).collect()
}

/// The state after each minute.
fn states(counts: &[(Minute, Counts)]) -> Vec<BuzzState> {
    let policy = policy();
    let last = counts[counts.len() - 1].0;
    let series = Series::new(Minute(0), last, counts, &[]);
    let volumes = policy.volumes.iter().map(|v| (v.counted.cause(), VolumeState::default()));
    let mut state = BuzzState { volumes: volumes.collect(), ..BuzzState::default() };
    let mut baseline = None;
    let mut states = Vec::new();
    for m in 0..=last.0 {
        if m % 240 == 0 && m > DAY {
            let excluded = state.share.excluded();
            baseline = Baseline::learn(&policy.share, &[], &excluded, &series, Minute(m));
        }
        let seen = Seen { counts: &series, all: &series, baseline: baseline.as_ref() };
        (state, _, _) = policy.evaluate(seen, state, Minute(m));
        if m % 30 == 0 {
            states.push(state.clone());
        }
    }
    states
}

fn alerts(counts: &[(Minute, Counts)], reopen_minutes: u32) -> Backtest {
    let policy = BuzzPolicy { reopen_minutes, ..policy() };
    backtest(&policy, counts, Minute(0), counts[counts.len() - 1].0)
}

#[test]
fn a_crisis_is_one_incident_with_its_relapse() {
    let found = alerts(&crisis(), 1440);
    let [first, second] = &found.alerts[..] else { panic!("{:#?}", found.alerts) };
    let causes = |alert: &crate::alerting::Alert| {
        let mut causes: Vec<_> = alert.phases.iter().map(Phase::cause).collect();
        causes.sort();
        causes
    };
    assert_eq!(causes(first), [Share, NegativeVolume, Surge], "{first:#?}");
    let days: Vec<_> = first.spans.iter().map(|(from, _)| from.0 / DAY).collect();
    assert!(days.contains(&4) && days.contains(&5), "opened again on the next day: {days:?}");
    assert_eq!(second.opened.0 / DAY, 8, "three days later it is another one");
    assert!(first.phases.iter().all(|phase| !phase.is_open()));
    // Without a time for relapses each day is another incident.
    assert!(alerts(&crisis(), 0).alerts.len() > 2);
}

#[test]
fn a_lasting_level_is_told_once() {
    // From day 4 on three times as many, half of them negative, for ten days.
    let counts: Vec<_> = (0..14 * DAY)
        .map(|m| {
            let (total, negative) = if m >= 4 * DAY { (30, 15) } else { (10, 2) };
            let noise = (m % 3) as u64;
            (Minute(m), Counts { total: total + noise, negative: negative + noise % 2 })
        })
        .collect();
    let found = alerts(&counts, 1440);
    let [alert] = &found.alerts[..] else { panic!("{:#?}", found.alerts) };
    assert!(matches!(alert.resolved, Some((_, ResolveReason::NewNormal))), "{alert:#?}");
    assert_eq!(alert.spans.len(), 1, "never opened again: {:?}", alert.spans);
    let (opened, resolved) = alert.spans[0];
    assert!(resolved.is_some_and(|end| end.0 - opened.0 > DAY), "more than a day");
}

#[test]
fn a_stored_state_gives_the_same_verdicts() {
    for state in states(&crisis()) {
        let json = serde_json::to_value(&state).expect("JSON");
        let read: BuzzState = serde_json::from_value(json.clone()).expect("a state");
        assert_eq!(serde_json::to_value(read).expect("JSON"), json);
    }
}

#[test]
fn a_calm_forecast_of_another_time_zone_is_forgotten_and_an_open_surge_is_not() {
    let elsewhere = policy().in_zone(Zone::parse("Asia/Tokyo").expect("a zone"));
    let last = Minute(10 * DAY - 1);
    let (mut forgotten, mut kept) = (0, 0);
    for state in states(&crisis()) {
        let is_open = |(_, volume): &(&Cause, &VolumeState)| volume.opened().is_some();
        let open = state.course.as_ref().is_some_and(Course::is_open);
        let mut same = state.clone();
        policy().reconcile(&mut same, last, open, true);
        assert_eq!(same.volumes.len(), state.volumes.len(), "the same zone");
        let mut changed = state.clone();
        elsewhere.reconcile(&mut changed, last, open, true);
        let lasting: Vec<_> =
            state.volumes.iter().filter(is_open).map(|(cause, _)| *cause).collect();
        let left: Vec<_> = changed.volumes.into_keys().collect();
        if state.volumes.values().all(|volume| *volume != VolumeState::default()) {
            assert_eq!(left, lasting);
        }
        forgotten += state.volumes.len() - left.len();
        kept += left.len();
    }
    assert!(forgotten > 100 && kept > 4, "{forgotten} forgotten, {kept} kept");
}
