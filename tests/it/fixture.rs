//! The fixture with a week of airline tweets is complete, sorted, and mentions no person.

use std::collections::BTreeSet;
use std::fs::File;

#[test]
fn the_airline_week_is_complete_and_mentions_no_person() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/airline-week.csv.xz");
    let file = liblzma::read::XzDecoder::new(File::open(path).unwrap());
    let mut reader = csv::Reader::from_reader(file);
    assert_eq!(reader.headers().unwrap(), vec!["id", "created_at", "text", "label", "airline"]);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 14_640);
    assert_eq!(rows.iter().map(|row| &row[0]).collect::<BTreeSet<_>>().len(), 14_485);
    assert!(rows.is_sorted_by_key(|row| row[1].to_owned()), "sorted by time");
    for row in &rows {
        chrono::DateTime::parse_from_rfc3339(&row[1]).unwrap();
    }
    let handles: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| row[2].split('@').skip(1).collect::<Vec<_>>())
        .map(|rest| {
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        })
        .map(|handle| handle.to_lowercase())
        .filter(|handle| !handle.is_empty())
        .collect();
    let known = [
        "americanair",
        "delta",
        "deltaassist",
        "jetblue",
        "southwestair",
        "united",
        "usairways",
        "user",
        "virginamerica",
    ];
    assert_eq!(handles, known.map(str::to_owned).into());
}
