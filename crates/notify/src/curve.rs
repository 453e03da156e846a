//! The picture in a mail: the share of negative tweets, or the number of tweets, over time;
//! pure.
//!
//! **Invariant.** The same curve gives the same bytes, so every attempt sends the same mail.
//! The picture contains numbers and times only, no string from outside. The mail also gives its
//! content in words, for people who do not see the picture.
//! Deliberately absent: a title and a legend; the name of each line is at its end.

mod canvas;

use chrono::{DateTime, TimeDelta, Utc};

use monitor_core::alerting::Volume;
use monitor_core::domain::{Counts, Interval};
use monitor_core::format::percent;
use monitor_store::CurvePoint;

use canvas::{Align, Canvas, Colour, Point, Weight};

/// Width in a mail, in layout pixels.
pub const WIDTH: u32 = 600;
/// Height in a mail, in layout pixels.
pub const HEIGHT: u32 = 300;

/// Bars, at most; a longer curve has longer bars.
pub const BARS_MAX: usize = 96;
/// A point of the line pools its bar with the bars before it until it covers this many tweets:
/// the share of few tweets is mostly noise ...
const POOL_TWEETS: u64 = 60;
/// ... but no bar older than this,
const POOL_MAX: TimeDelta = TimeDelta::hours(3);
/// or than this in the picture of a week.
const POOL_WEEK_MAX: TimeDelta = TimeDelta::hours(24);
/// With fewer tweets there is no point.
const POINT_TWEETS_MIN: u64 = 10;

const LEFT: f32 = 58.0;
const RIGHT: f32 = 500.0;
/// The x coordinate of the lines' names.
const NAMES: f32 = 512.0;
/// The y coordinates of the panel of shares: its top, and a share of 0.
const SHARE: (f32, f32) = (40.0, 190.0);
/// The same for the panel of volume below it ...
const VOLUME: (f32, f32) = (218.0, 262.0);
/// ... and if the picture shows only the volume, below its unit and the time of the incident.
const VOLUME_ALONE: (f32, f32) = (58.0, 262.0);
const TIMES: f32 = 288.0;
/// Smallest vertical distance of two names.
const NAME_GAP: f32 = 50.0;

const INK: Colour = (0x21, 0x21, 0x21);
const GREY: Colour = (0x5f, 0x6b, 0x73);
const RULE: Colour = (0xe3, 0xe7, 0xea);
const BAND: Colour = (0xd5, 0xdb, 0xe0);
const STRETCH: Colour = (0xfd, 0xee, 0xec);
const RED: Colour = (0xc6, 0x28, 0x28);
const ABOVE: Colour = (0xee, 0x8f, 0x86);
const BAR: Colour = (0xcf, 0xd8, 0xdc);
const BAR_WITHIN: Colour = (0xa3, 0x62, 0x5f);

/// A curve to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve<'a> {
    points: &'a [CurvePoint],
    /// Length of each point, in minutes.
    minutes: i64,
    /// When the incident began.
    pub since: DateTime<Utc>,
    /// When it ended, if it has.
    pub ended: Option<DateTime<Utc>>,
    /// The quantity shown.
    pub shows: Shows,
}

/// The quantity that a curve shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shows {
    /// The share of negative tweets, with the number of tweets below it.
    Share {
        /// The expected share, in 0..=1.
        expected: f64,
        /// Its confidence interval.
        band: Interval,
        /// The share in the short window; the line ends there.
        now: f64,
    },
    /// The same over a week, without an incident.
    Week {
        /// The share of the week before.
        before: f64,
        /// The share of the last day; the line ends there.
        last_day: f64,
    },
    /// The number of tweets.
    Volume {
        /// Which tweets.
        of: Volume,
        /// Expected tweets per minute.
        expected: f64,
    },
}

/// The tweets of an interval of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Start.
    pub from: DateTime<Utc>,
    /// End.
    pub to: DateTime<Utc>,
    /// Its tweets.
    pub counts: Counts,
}

impl Bar {
    /// Length, in minutes.
    pub fn minutes(&self) -> f64 {
        (self.to - self.from).num_minutes() as f64
    }
}

impl<'a> Curve<'a> {
    /// A curve of `points`, oldest first, each of which covers `minutes` (points without tweets
    /// may be missing). `None` if there is nothing to draw.
    pub fn new(
        points: &'a [CurvePoint],
        minutes: u32,
        since: DateTime<Utc>,
        ended: Option<DateTime<Utc>>,
        shows: Shows,
    ) -> Option<Self> {
        let some = minutes > 0 && points.iter().any(|point| point.total > 0);
        some.then_some(Self { points, minutes: i64::from(minutes), since, ended, shows })
    }

    /// Whether a bar overlaps the incident.
    pub fn holds(&self, bar: &Bar) -> bool {
        bar.to > self.since && self.ended.is_none_or(|ended| bar.from < ended)
    }

    /// Sums the points into at most `limit` bars of equal length, at least one. The last bar ends
    /// with the points; an incomplete oldest bar is left out.
    pub fn bars(&self, limit: usize) -> Vec<Bar> {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return Vec::new();
        };
        let end = last.at + TimeDelta::minutes(self.minutes);
        let (span, limit) = ((end - first.at).num_minutes(), limit.max(1) as i64);
        let step = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440]
            .into_iter()
            .filter(|step| step % self.minutes == 0)
            .find(|step| span <= step * limit)
            .unwrap_or_else(|| self.minutes * ((span / self.minutes + limit - 1) / limit).max(1));
        let count = usize::try_from(span / step).unwrap_or_default().max(1);
        let mut bars: Vec<Bar> = (0..count)
            .map(|place| {
                let to = end - TimeDelta::minutes(step * (count - 1 - place) as i64);
                Bar { from: to - TimeDelta::minutes(step), to, counts: Counts::default() }
            })
            .collect();
        for point in self.points {
            let back = usize::try_from(((end - point.at).num_minutes() - 1) / step);
            let place = back.ok().and_then(|back| (count - 1).checked_sub(back));
            if let Some(bar) = place.and_then(|place| bars.get_mut(place)) {
                bar.counts += Counts { total: point.total, negative: point.negative };
            }
        }
        bars
    }
}

/// Draws a curve as a PNG file of [`WIDTH`] by [`HEIGHT`] layout pixels; the PNG has twice as
/// many pixels in each direction.
pub fn png(curve: &Curve<'_>) -> Vec<u8> {
    let bars = curve.bars(BARS_MAX);
    let (from, to) = match (bars.first(), bars.last()) {
        (Some(first), Some(last)) => (first.from, last.to),
        _ => (curve.since, curve.since),
    };
    let mut sheet = Sheet { canvas: Canvas::new(WIDTH, HEIGHT), from, to };
    match curve.shows {
        Shows::Share { expected, band, now } => {
            sheet.stretch(curve, SHARE.0);
            sheet.share(curve, &line(&bars, now, POOL_MAX), (expected, band), ["now", "expected"]);
            sheet.volume_below(curve, &bars);
            sheet.began(curve, SHARE.0);
        }
        Shows::Week { before, last_day } => {
            let band = Interval { low: before, high: before };
            sheet.share(
                curve,
                &line(&bars, last_day, POOL_WEEK_MAX),
                (before, band),
                ["last day", "before"],
            );
            sheet.volume_below(curve, &bars);
        }
        Shows::Volume { of, expected } => {
            sheet.stretch(curve, VOLUME_ALONE.0);
            sheet.volume(curve, &bars, VOLUME_ALONE, (of, Some(expected)));
            sheet.began(curve, VOLUME_ALONE.0);
            let unit = format!("{} per {}", of.noun(), stretch(&bars));
            sheet.write(&unit, (LEFT, VOLUME_ALONE.0 - 36.0), Align::Left, GREY);
        }
    }
    sheet.times();
    sheet.canvas.png()
}

/// The line's points (time and share), interrupted where there are too few tweets. It ends with
/// the value that the mail calls "now".
fn line(bars: &[Bar], now: f64, pool_max: TimeDelta) -> Vec<Option<(DateTime<Utc>, f64)>> {
    let mut line: Vec<_> = (0..bars.len())
        .map(|place| {
            let mut pooled = Counts::default();
            for bar in bars[..=place].iter().rev() {
                if pooled.total >= POOL_TWEETS || bar.from < bars[place].to - pool_max {
                    break;
                }
                pooled += bar.counts;
            }
            let share = pooled.share().filter(|_| pooled.total >= POINT_TWEETS_MIN)?;
            Some((bars[place].to, share))
        })
        .collect();
    if let (Some(end), Some(bar)) = (line.last_mut(), bars.last()) {
        *end = Some((bar.to, now));
    }
    line
}

/// The part of a line above a level, with the points where it crosses the level.
fn above(line: &[(f32, f32)], level: f32) -> Vec<Point> {
    // The y axis points down: a smaller y is higher.
    let mut area: Vec<Point> = Vec::new();
    for (place, &(x, y)) in line.iter().enumerate() {
        if let Some(&(x0, y0)) = place.checked_sub(1).and_then(|before| line.get(before))
            && (y0 < level) != (y < level)
        {
            area.push((x0 + (x - x0) * (level - y0) / (y - y0), level));
        }
        area.push((x, y.min(level)));
    }
    if let (Some(&(first, _)), Some(&(last, _))) = (area.first(), area.last()) {
        area.extend([(last, level), (first, level)]);
    }
    area
}

/// The canvas and its time axis.
struct Sheet {
    canvas: Canvas,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Sheet {
    fn x(&self, at: DateTime<Utc>) -> f32 {
        let whole = (self.to - self.from).num_seconds().max(1) as f32;
        let part = (at.clamp(self.from, self.to) - self.from).num_seconds() as f32;
        LEFT + (RIGHT - LEFT) * part / whole
    }

    fn write(&mut self, text: &str, at: Point, align: Align, colour: Colour) {
        self.canvas.text(text, at, align, (Weight::Regular, 16.0), colour);
    }

    /// Marks the time of the incident.
    fn stretch(&mut self, curve: &Curve<'_>, top: f32) {
        let (from, to) = (self.x(curve.since), self.x(curve.ended.unwrap_or(self.to)));
        self.canvas.rectangle((from, top), (to.max(from + 2.0), VOLUME.1), STRETCH);
    }

    /// Marks the beginning of the incident, with its time.
    fn began(&mut self, curve: &Curve<'_>, top: f32) {
        let x = self.x(curve.since);
        if curve.since >= self.from {
            self.canvas.line(&[(x, top - 6.0), (x, VOLUME.1)], 1.5, None, RED);
        }
        let today = curve.since.date_naive() == self.to.date_naive();
        let since = curve.since.format(if today { "%H:%M" } else { "%-d %b, %H:%M" });
        let words = match curve.ended {
            None => format!("since {since}"),
            Some(ended) => format!("{since} to {}", ended.format("%H:%M")),
        };
        let right = x > (LEFT + RIGHT) / 2.0;
        let align = if right { Align::Right } else { Align::Left };
        self.write(&words, (if right { x + 1.0 } else { x }, top - 11.0), align, RED);
    }

    fn share(
        &mut self,
        curve: &Curve<'_>,
        line: &[Option<(DateTime<Utc>, f64)>],
        (expected, band): (f64, Interval),
        [name, usual_name]: [&str; 2],
    ) {
        let highest = line.iter().flatten().map(|point| point.1).fold(band.high, f64::max);
        let top = [0.1, 0.2, 0.4, 0.6, 0.8].into_iter().find(|&t| highest <= t).unwrap_or(1.0);
        let y = |share: f64| SHARE.1 + (SHARE.0 - SHARE.1) * (share / top) as f32;
        let now = line.iter().flatten().next_back().map_or(0.0, |point| point.1);

        self.canvas.rectangle((LEFT, y(band.high)), (RIGHT, y(band.low)), BAND);
        for share in [0.0, top / 2.0, top] {
            self.canvas.line(&[(LEFT, y(share)), (RIGHT, y(share))], 1.0, None, RULE);
            self.write(&percent(share), (LEFT - 8.0, y(share) + 6.0), Align::Right, GREY);
        }
        let end = curve.ended.unwrap_or(self.to);
        for run in line.split(Option::is_none) {
            let run: Vec<_> = run.iter().flatten().copied().collect();
            let within: Vec<_> = cut(&run, curve.since, end)
                .into_iter()
                .map(|(at, share)| (self.x(at), y(share)))
                .collect();
            self.canvas.area(&above(&within, y(expected)), ABOVE);
        }
        let level = [(LEFT, y(expected)), (RIGHT, y(expected))];
        self.canvas.line(&level, 2.0, Some(6.0), GREY);
        for run in line.split(Option::is_none) {
            let run: Vec<_> =
                run.iter().flatten().map(|&(at, share)| (self.x(at), y(share))).collect();
            self.canvas.line(&run, 2.5, None, INK);
        }
        let is_open = curve.ended.is_none() && curve.since < self.to;
        let colour = if is_open { RED } else { INK };
        self.canvas.dot((RIGHT, y(now)), 5.0, colour);

        let (at, usual) = apart(y(now), y(expected));
        self.name(name, &percent(now), at, colour);
        self.name(usual_name, &percent(expected), usual, GREY);
    }

    /// The number of tweets below the share, with its unit.
    fn volume_below(&mut self, curve: &Curve<'_>, bars: &[Bar]) {
        self.volume(curve, bars, VOLUME, (Volume::All, None));
        let foot = VOLUME.1 - 1.0;
        self.write("tweets", (NAMES, foot - 20.0), Align::Left, GREY);
        self.write(&format!("per {}", stretch(bars)), (NAMES, foot), Align::Left, GREY);
    }

    /// A line's name at its end: the number, and the word below it.
    fn name(&mut self, word: &str, number: &str, y: f32, colour: Colour) {
        self.canvas.text(number, (NAMES, y + 4.0), Align::Left, (Weight::SemiBold, 24.0), colour);
        self.write(word, (NAMES, y + 22.0), Align::Left, colour);
    }

    /// The number of tweets as bars, and the expected number per minute, if given.
    fn volume(
        &mut self,
        curve: &Curve<'_>,
        bars: &[Bar],
        (top, foot): (f32, f32),
        (of, expected): (Volume, Option<f64>),
    ) {
        let minutes = bars.first().map_or(0.0, Bar::minutes);
        let expected = expected.map(|rate| rate * minutes);
        let counted = bars.iter().map(|bar| of.of(bar.counts)).max().unwrap_or_default();
        let most = (counted as f64).max(expected.unwrap_or_default()).max(1.0);
        let y = |tweets: f64| foot + (top - foot) * (tweets / most) as f32;
        let ended = curve.ended.unwrap_or(self.to);
        for bar in bars {
            let (left, right) = (self.x(bar.from), self.x(bar.to));
            let colour = if curve.holds(bar) { BAR_WITHIN } else { BAR };
            let gap = ((right - left) * 0.15).min(1.5);
            let corner = (left + gap, y(of.of(bar.counts) as f64));
            self.canvas.rectangle(corner, (right - gap, foot), colour);
        }
        self.canvas.line(&[(LEFT, foot), (RIGHT, foot)], 1.0, None, GREY);
        let peak = (LEFT - 8.0, y(counted as f64).max(top) + 6.0);
        self.write(&short(counted), peak, Align::Right, GREY);
        let Some(expected) = expected else { return };
        let within = [(self.x(curve.since), y(expected)), (self.x(ended), y(expected))];
        self.canvas.line(&within, 2.0, Some(4.0), INK);
        let last = bars.last().map_or(0, |bar| of.of(bar.counts));
        let (at, usual) = apart(y(last as f64), y(expected));
        let colour = if curve.ended.is_none() { RED } else { INK };
        self.name("now", &short(last), at, colour);
        self.name("expected", &short(expected.round() as u64), usual, GREY);
    }

    /// The time axis, with about five marks.
    fn times(&mut self) {
        let span = (self.to - self.from).num_minutes();
        let every = [5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080]
            .into_iter()
            .find(|every| span / every <= 5)
            .unwrap_or(40_320);
        self.write("UTC", (LEFT - 8.0, TIMES), Align::Right, GREY);
        let first = self.from.timestamp().div_euclid(every * 60) + 1;
        for mark in first..=self.to.timestamp().div_euclid(every * 60) {
            let Some(at) = DateTime::from_timestamp(mark * every * 60, 0) else { continue };
            let x = self.x(at);
            self.canvas.line(&[(x, VOLUME.1), (x, VOLUME.1 + 6.0)], 1.0, None, GREY);
            let midnight = at.time() == chrono::NaiveTime::MIN;
            let text = at.format(if midnight { "%-d %b" } else { "%H:%M" }).to_string();
            if x > LEFT + 20.0 && x < NAMES {
                self.write(&text, (x, TIMES), Align::Middle, GREY);
            }
        }
    }
}

/// The part of a line between two times, with a point at each of them.
fn cut(
    line: &[(DateTime<Utc>, f64)],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<(DateTime<Utc>, f64)> {
    let mut part = Vec::new();
    for (place, &(at, share)) in line.iter().enumerate() {
        if let Some(&(at0, share0)) = place.checked_sub(1).and_then(|before| line.get(before)) {
            for edge in [from, to] {
                if at0 < edge && edge < at {
                    let along = (edge - at0).num_seconds() as f64 / (at - at0).num_seconds() as f64;
                    part.push((edge, share0 + (share - share0) * along));
                }
            }
        }
        if (from..=to).contains(&at) {
            part.push((at, share));
        }
    }
    part
}

/// The heights of two names whose lines end at these heights, moved apart if they would overlap,
/// and kept within the picture.
fn apart(one: f32, other: f32) -> (f32, f32) {
    let lack = (NAME_GAP - (one - other).abs()).max(0.0) / 2.0;
    let (one, other) =
        if one <= other { (one - lack, other + lack) } else { (one + lack, other - lack) };
    let over = (one.max(other) - (SHARE.1 - 10.0)).max(0.0);
    let under = (SHARE.0 - 10.0 - one.min(other)).max(0.0);
    (one - over + under, other - over + under)
}

/// A count in at most four characters.
fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// The length of the bars in words.
fn stretch(bars: &[Bar]) -> String {
    match bars.first().map_or(0.0, Bar::minutes) as i64 {
        1 => "minute".into(),
        60 => "hour".into(),
        1440 => "day".into(),
        minutes if minutes % 60 == 0 => format!("{} hours", minutes / 60),
        minutes => format!("{minutes} min"),
    }
}

#[cfg(test)]
mod tests;
