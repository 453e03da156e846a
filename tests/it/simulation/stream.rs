//! What a seed draws: the records of some hours, and the troubles of that time.

use std::collections::BTreeSet;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use monitor_core::alerting::{Heard, Voice};
use monitor_core::domain::{Minute, Offset, Probabilities, Probability, Score, Tweet, TweetId};
use monitor_store::{ModelScore, ScoredTweet};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const BRANDS: [&str; 2] = ["acme", "zeta"];
pub const PARTITIONS: usize = 3;
pub const HOSTS: usize = 3;
pub const MINUTE: u64 = 60_000;
/// How long tweets come; from [`CALM`] on nothing fails.
pub const END: u64 = 300 * MINUTE;
pub const CALM: u64 = 240 * MINUTE;
/// The history ends at this offset in each partition.
pub const FIRST: i64 = 5;
const HISTORY_HOURS: i64 = 30;
/// Words of texts that several people write.
const COPIED: &str = "says each of the many who pass this on";

pub fn start() -> DateTime<Utc> {
    "2026-01-03T02:00:00Z".parse().expect("a time")
}

pub fn at(ms: u64) -> DateTime<Utc> {
    start() + TimeDelta::milliseconds(ms.cast_signed())
}

/// Random numbers of their own for each purpose, so that they do not depend on the order in which tasks draw.
pub fn random(seed: u64, purpose: &str) -> ChaCha8Rng {
    use sha2::{Digest, Sha256};
    ChaCha8Rng::from_seed(Sha256::digest(format!("{seed} {purpose}")).into())
}

/// A calm day and more: two tweets a minute about each brand, a fifth of them negative.
pub fn history() -> Vec<ScoredTweet> {
    let tweet = |n: i64| {
        let time = start() - TimeDelta::seconds(n * 15 + 1);
        let brand = BRANDS[n as usize % 2];
        let negative = n * 7919 % 100 / 2 % 5 == 0;
        let text = text(&[brand], negative, &format!("h{n}"));
        let p = Probability::new(if negative { 0.9 } else { 0.1 }).expect("p");
        let score = Score::new(Probabilities::two(p), Probability::HALF.into());
        let id = TweetId::new(format!("h{n}")).expect("an id");
        ScoredTweet {
            tweet: Tweet::new(id, text, time, Vec::new()).expect("a tweet"),
            brands: vec![brand.into()],
            score: Some(ModelScore::new(score, "null@1")),
            heard: Heard::Always,
        }
    };
    (0..HISTORY_HOURS * 240).map(tweet).collect()
}

fn text(brands: &[&str], negative: bool, own: &str) -> String {
    format!("{} {} {own}", brands.join(" and "), if negative { "awful" } else { "fine" })
}

/// A record of a partition, and when it is written.
pub struct Entry {
    pub at: u64,
    pub offset: Offset,
    pub payload: String,
}

/// All records, and what must become of them.
#[derive(Default)]
pub struct Stream {
    /// What counts as one voice.
    pub voice: Voice,
    pub partitions: [Vec<Entry>; PARTITIONS],
    /// Tweets that are stored in the end.
    pub kept: BTreeSet<String>,
    /// Tweets that were deleted, or replaced by a later version.
    pub gone: BTreeSet<String>,
    /// Their texts, and the hours that they are dated.
    pub gone_texts: BTreeSet<(i64, String)>,
    /// Records that are no tweets.
    pub letters: u64,
    /// When the tweets about each brand become many and negative, if they do.
    pub risen: [Option<u64>; 2],
}

/// The troubles of a seed.
pub struct Troubles {
    /// How likely it is that a call of the store fails.
    pub fails: f64,
    /// How often daemons die, against the usual.
    pub deaths: f64,
    /// When no daemon runs.
    pub absent: Range<u64>,
    /// When nothing can be stored.
    pub away: Vec<Range<u64>>,
    /// Of each host, from when on its clock is how many milliseconds ahead.
    pub clocks: [Vec<(u64, i64)>; HOSTS],
    /// Mean time between two rebalances.
    pub rebalance_every: u64,
    /// How likely it is that an owner does not hear of a rebalance for a while.
    pub stale: f64,
    /// How likely it is that a receiver fails, and when it is away.
    pub refuses: f64,
    pub deaf: Vec<Range<u64>>,
    /// How likely it is that a tweet comes late.
    pub late: f64,
    /// Edits, deletions, dates ahead.
    pub odd: f64,
}

impl Troubles {
    pub fn draw(seed: u64) -> Self {
        let random = &mut random(seed, "troubles");
        let mut one_of = |values: [f64; 4]| values[random.random_range(0..4)];
        let (fails, deaths) = (one_of([0.0, 0.001, 0.01, 0.05]), one_of([0.0, 0.5, 1.0, 3.0]));
        let (away, deaf) = (one_of([0.0, 0.0, 1.0, 3.0]), one_of([0.0, 0.0, 1.0, 3.0]));
        let skew = one_of([0.0, 5_000.0, 120_000.0, 1_200_000.0]) as i64;
        let rebalance_every = one_of([1e9, 60.0, 20.0, 4.0]) as u64 * MINUTE;
        let (stale, refuses) = (one_of([0.0, 0.1, 0.3, 0.5]), one_of([0.0, 0.1, 0.3, 0.6]));
        let (late, odd) = (one_of([0.0, 0.0, 0.02, 0.1]), one_of([0.0, 0.0, 0.01, 0.03]));
        let mut spans = |number: f64| {
            let span = |_| {
                let from = random.random_range(0..CALM);
                from..(from + random.random_range(5_000..10 * MINUTE)).min(CALM)
            };
            (0..number as u32).map(span).collect()
        };
        let (away, deaf) = (spans(away), spans(deaf));
        let from = random.random_range(10..40) * MINUTE;
        let absent = from..if random.random_bool(0.15) { from + 200 * MINUTE } else { 0 };
        let clocks = [(); HOSTS].map(|()| {
            let mut offset = || if skew == 0 { 0 } else { random.random_range(-skew..=skew) };
            let mut steps = vec![(0, offset())];
            for part in 1..4 {
                steps.push((CALM / 4 * part, offset()));
            }
            steps.push((CALM, 0));
            steps
        });
        Self {
            fails,
            deaths,
            absent,
            away,
            clocks,
            rebalance_every,
            stale,
            refuses,
            deaf,
            late,
            odd,
        }
    }
}

impl Stream {
    /// Tweets about the brands; in an hour of the first one, and half of the seeds of the second, many more, and
    /// most of them negative.
    pub fn draw(seed: u64, troubles: &Troubles) -> Self {
        let mut drawing = Drawing {
            random: random(seed, "stream"),
            stream: Self::default(),
            records: Default::default(),
            number: 0,
        };
        let risen = drawing.random.random_range(40..70) * MINUTE;
        let both = drawing.random.random_bool(0.5);
        drawing.stream.voice = [Voice::Tweet, Voice::Original][drawing.random.random_range(0..2)];
        let risen = [Some(risen), Some(risen).filter(|_| both)];
        drawing.stream.risen = risen;
        for second in (0..END / 1000).step_by(10) {
            for (place, brand) in BRANDS.into_iter().enumerate() {
                let is_risen = risen[place]
                    .is_some_and(|from| (from..from + 60 * MINUTE).contains(&(second * 1000)));
                let (often, negative) = if is_risen { (1.0, 0.7) } else { (0.34, 0.2) };
                if drawing.random.random_bool(often) {
                    drawing.tweet(brand, second, negative, troubles);
                }
            }
        }
        drawing.finished()
    }
}

struct Drawing {
    random: ChaCha8Rng,
    stream: Stream,
    records: [Vec<(u64, String)>; PARTITIONS],
    number: u64,
}

impl Drawing {
    fn tweet(&mut self, brand: &str, second: u64, negative: f64, troubles: &Troubles) {
        let random = &mut self.random;
        let (late, odd) = (troubles.late, troubles.odd);
        let written = second * 1000 + random.random_range(0..10_000);
        let mut comes = written + random.random_range(50..3_000);
        if random.random_bool(late) {
            // Within the lateness, or beyond it.
            let longest = if random.random() { 50_000 } else { 40 * MINUTE };
            comes += random.random_range(1..longest);
        }
        let mut dated = at(written);
        if random.random_bool(odd) {
            dated += TimeDelta::minutes(random.random_range(1..30));
        }
        let is_negative = random.random_bool(negative);
        let brands: &[&str] = if random.random_bool(0.1) { &BRANDS } else { &[brand] };
        let partition = random.random_range(0..PARTITIONS);
        let copied = random.random_bool(0.3).then(|| random.random_range(0..4));
        let id = self.id();
        let words = |id: &str| {
            let own = copied.map_or_else(|| id.to_owned(), |of| format!("{COPIED} {of}"));
            text(brands, is_negative, &own)
        };
        let tweet = |id: &str, history: &[&str]| {
            let mut tweet = serde_json::json!({"id": id, "text": words(id), "created_at": dated});
            if !history.is_empty() {
                tweet["edit_history_tweet_ids"] = serde_json::json!(history);
            }
            tweet.to_string()
        };
        self.write(partition, comes, tweet(&id, &[]));
        if self.random.random_bool(0.04) {
            let (other, later) =
                (self.random.random_range(0..PARTITIONS), self.random.random_range(0..30 * MINUTE));
            self.write(other, comes + later, tweet(&id, &[]));
        }
        let change = comes + self.random.random_range(1..20 * MINUTE);
        if self.random.random_bool(odd) {
            let event = serde_json::json!({"delete": {"status": {"id_str": id}}});
            self.write(partition, change, event.to_string());
            self.goes(id, dated, words);
        } else if self.random.random_bool(odd) {
            let later = self.id();
            self.write(partition, change, tweet(&later, &[&id, &later]));
            self.goes(id, dated, words);
            self.stream.kept.insert(later);
        } else {
            self.stream.kept.insert(id);
        }
        if self.random.random_bool(0.01) {
            self.stream.letters += 1;
            self.write(partition, comes, format!("no tweet {}", self.number));
        }
    }

    fn goes(&mut self, id: String, dated: DateTime<Utc>, words: impl Fn(&str) -> String) {
        self.stream.gone_texts.insert((Minute::of(dated).hour(), words(&id)));
        self.stream.gone.insert(id);
    }

    fn id(&mut self) -> String {
        self.number += 1;
        (1_000_000 + self.number).to_string()
    }

    fn write(&mut self, partition: usize, at: u64, payload: String) {
        self.records[partition].push((at.min(END), payload));
    }

    fn finished(mut self) -> Stream {
        for (partition, mut records) in std::mem::take(&mut self.records).into_iter().enumerate() {
            records.sort_by_key(|(at, _)| *at);
            let mut offset = FIRST;
            for (at, payload) in records {
                // Gaps, as transactions and compaction leave them.
                offset += if self.random.random_bool(0.02) { 7 } else { 1 };
                let entry = Entry { at, offset: Offset(offset), payload };
                self.stream.partitions[partition].push(entry);
            }
        }
        self.stream
    }
}
