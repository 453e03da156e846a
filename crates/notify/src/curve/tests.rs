use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

const END: &str = "2015-02-23T15:00:00Z";

/// `count` points of `minutes` each up to [`END`]; the share is 20 %, and 80 % from `since` on.
fn points(count: i64, minutes: i64, since: &str) -> Vec<CurvePoint> {
    (0..count)
        .map(|place| {
            let from = at(END) - TimeDelta::minutes(minutes * (count - place));
            let negative = if from >= at(since) { 80 } else { 20 };
            CurvePoint { at: from, total: 100, negative }
        })
        .collect()
}

const SHARE_NOW: Shows =
    Shows::Share { expected: 0.3, band: Interval { low: 0.25, high: 0.35 }, now: 0.8 };

/// The width and the RGB pixels of a picture.
fn pixels(file: &[u8]) -> (usize, Vec<Colour>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
    let palette: Vec<u8> = reader.info().palette.as_ref().expect("a palette").to_vec();
    assert_eq!(reader.info().trns, None, "nothing is transparent");
    let mut numbers = vec![0; reader.output_buffer_size().expect("it fits")];
    let info = reader.next_frame(&mut numbers).expect("whole");
    let colour = |n: &u8| {
        let from = usize::from(*n) * 3;
        (palette[from], palette[from + 1], palette[from + 2])
    };
    (info.width as usize, numbers.iter().map(colour).collect())
}

/// The first and the last column that contain a colour, from 0 (left) to 1 (right).
fn extent(file: &[u8], colour: Colour) -> Option<(f32, f32)> {
    let (width, pixels) = pixels(file);
    let columns = || {
        let found = pixels.iter().enumerate().filter(|(_, found)| **found == colour);
        found.map(|(place, _)| (place % width) as f32 / width as f32)
    };
    Some((columns().reduce(f32::min)?, columns().reduce(f32::max)?))
}

#[test]
fn the_same_curve_gives_the_same_bytes() {
    let since = "2015-02-23T13:15:00Z";
    let points = points(96, 15, since);
    let curve = Curve::new(&points, 15, at(since), None, SHARE_NOW).expect("a curve");
    assert_eq!(png(&curve), png(&curve));
}

#[test]
fn pictures_have_a_high_resolution_and_small_files() {
    // A noisy day compresses badly.
    let mut points = points(96, 15, END);
    for (place, point) in points.iter_mut().enumerate() {
        point.total = 100 + (place as u64 * 7919) % 97;
        point.negative = (place as u64 * 104_729) % 100;
    }
    let curve = Curve::new(&points, 15, at("2015-02-23T13:15:00Z"), None, SHARE_NOW);
    let file = png(&curve.expect("a curve"));
    let (width, pixels) = pixels(&file);
    assert_eq!((width, pixels.len() / width), (1200, 600));
    assert!(file.len() < 40 << 10, "{} bytes", file.len());
    assert_eq!(pixels[0], (255, 255, 255), "a white ground");
}

#[test]
fn only_the_incident_is_red_above_the_expected_share() {
    let check = |name, since: &str, ended: Option<&str>, rises: &str, expected: bool| {
        let points = points(24, 60, rises);
        let curve = Curve::new(&points, 60, at(since), ended.map(at), SHARE_NOW);
        let found = extent(&png(&curve.expect("a curve")), ABOVE);
        assert_eq!(found.is_some(), expected, "{name}: {found:?}");
        let place = |time: DateTime<Utc>| {
            let part = 1.0 - (at(END) - time).num_minutes() as f32 / (24.0 * 60.0);
            (LEFT + (RIGHT - LEFT) * part) / WIDTH as f32
        };
        if let Some((first, last)) = found {
            assert!(first >= place(at(since)) - 0.01, "{name}: {first}");
            assert!(last <= place(ended.map_or(at(END), at)) + 0.01, "{name}: {last}");
        }
    };
    let (noon, two) = ("2015-02-23T12:00:00Z", "2015-02-23T14:00:00Z");
    check("a rise", noon, None, noon, true);
    check("a rise that ended", noon, Some(two), noon, true);
    check("a rise before", noon, None, "2015-02-23T02:00:00Z", true);
    // The last point, "now", is high nevertheless.
    check("no rise but the last", two, Some(two), END, false);
}

#[test]
fn draws_unusual_curves() {
    let since = at("2015-02-23T13:15:00Z");
    let check = |name, points: &[CurvePoint], minutes, since, ended, shows| {
        let curve = Curve::new(points, minutes, since, ended, shows);
        let file = png(&curve.unwrap_or_else(|| panic!("{name}: no curve")));
        assert_eq!(pixels(&file).0, 1200, "{name}");
    };
    let share =
        |expected, low, high, now| Shows::Share { expected, band: Interval { low, high }, now };
    let day = points(96, 15, END);
    check("one point", &day[..1], 15, since, None, SHARE_NOW);
    check("begun long before", &day, 15, since - TimeDelta::days(400), None, SHARE_NOW);
    check("begun after", &day, 15, since + TimeDelta::days(2), None, SHARE_NOW);
    check("over before it began", &day, 15, since, Some(since - TimeDelta::hours(1)), SHARE_NOW);
    check("nothing negative", &day, 15, since, None, share(0.0, 0.0, 0.0, 0.0));
    check("all negative", &day, 15, since, None, share(1.0, 1.0, 1.0, 1.0));
    check("an inverted band", &day, 15, since, None, share(0.5, 0.9, 0.1, 0.5));
    check("a gap", &[day[0].clone(), day[95].clone()], 15, since, None, SHARE_NOW);
    check("unordered", &[day[95].clone(), day[0].clone()], 15, since, None, SHARE_NOW);
    check("minutes of a month", &points(43_200, 1, END), 1, since, None, SHARE_NOW);
    check("volume", &day, 15, since, None, Shows::Volume { of: Volume::All, expected: 2.0 });
    check(
        "no volume expected",
        &day,
        15,
        since,
        None,
        Shows::Volume { of: Volume::Negative, expected: 0.0 },
    );
    let mut many = points(96, 15, END);
    many[95].total = u64::MAX / 2;
    check("a flood", &many, 15, since, None, Shows::Volume { of: Volume::All, expected: 1e12 });
}

#[test]
fn nothing_to_draw_gives_no_curve() {
    let since = at(END);
    let check = |name, points: &[CurvePoint], minutes| {
        assert_eq!(Curve::new(points, minutes, since, None, SHARE_NOW), None, "{name}");
    };
    check("no points", &[], 15);
    check("no tweets", &[CurvePoint { at: since, total: 0, negative: 0 }], 15);
    check("points of no length", &points(3, 15, END), 0);
}

#[test]
fn limits_the_number_of_bars() {
    let check = |name, count: i64, minutes: u32, limit, bars_expected: usize, length: f64| {
        let points = points(count, i64::from(minutes), END);
        let curve = Curve::new(&points, minutes, at(END), None, SHARE_NOW).expect("a curve");
        let bars = curve.bars(limit);
        assert_eq!(bars.len(), bars_expected, "{name}");
        assert!(bars.iter().all(|bar| bar.minutes() == length), "{name}: {bars:?}");
        assert_eq!(bars.last().map(|bar| bar.to), Some(at(END)), "{name}");
        let whole = (length / f64::from(minutes)) as u64 * 100;
        assert!(bars.iter().all(|bar| bar.counts.total == whole), "{name}: {bars:?}");
    };
    check("a day by the hour", 24, 60, 96, 24, 60.0);
    check("a day by the hour, in few", 24, 60, 12, 12, 120.0);
    check("a day by quarters", 96, 15, 96, 96, 15.0);
    check("a day of minutes", 1440, 1, 96, 96, 15.0);
    check("the oldest is not whole", 25, 60, 12, 8, 180.0);
    check("by stretches like no other", 96, 7, 12, 12, 56.0);
    check("one", 1, 15, 96, 1, 15.0);
}

#[test]
fn the_font_has_all_characters() {
    for month in 1..=12 {
        let day = at(&format!("2015-{month:02}-01T00:00:00Z")).format("%-d %b, %H:%M");
        let words = format!(
            "{day} 0123456789 % since to now expected UTC tweets per minutes \
             hours last day before"
        );
        assert_eq!(canvas::missing(&words), "", "{words}");
    }
}

#[test]
fn a_week_of_few_tweets_has_a_line() {
    let hour = |n: i64| CurvePoint {
        at: at(END) + TimeDelta::hours(n),
        total: 3,
        negative: if n < 84 { 0 } else { 3 },
    };
    let week: Vec<CurvePoint> = (0..168).map(hour).collect();
    let end = at(END) + TimeDelta::hours(168);
    let shows = Shows::Week { before: 0.0, last_day: 1.0 };
    let curve = Curve::new(&week, 60, end, None, shows).expect("something to draw");
    let bars = curve.bars(BARS_MAX);
    assert!(bars.iter().all(|bar| !curve.holds(bar)), "no incident is marked");
    let drawn = |pool_max| line(&bars, 1.0, pool_max).into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(drawn(POOL_MAX).len(), 1, "too few tweets in three hours");
    let shares: Vec<f64> = drawn(POOL_WEEK_MAX).into_iter().map(|(_, share)| share).collect();
    assert!(shares.len() > 80, "{}", shares.len());
    assert_eq!((shares.first(), shares.last()), (Some(&0.0), Some(&1.0)));
    assert!(shares.is_sorted(), "{shares:?}");
    assert_eq!(extent(&png(&curve), RED), None, "nothing is red");
}
