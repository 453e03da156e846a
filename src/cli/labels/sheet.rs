//! The sheet that people label: a CSV that survives a spreadsheet program.
//!
//! **Invariant.** A row is known by its key, such as `s7r12` (sample 7, row 12): spreadsheets round
//! long numbers, so tweet ids would be lost. A text that a spreadsheet would compute (`=1+1`) gets a
//! space before it. The model's own label is not shown, because it would influence people.

use chrono::SecondsFormat;
use monitor_core::domain::Label;
use monitor_store::{Sample, SampledTweet};

/// The first characters of a text that a spreadsheet takes for a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A sheet that was read.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub labels: Vec<LabelledRow>,
    /// Rows without a label.
    pub empty: usize,
    /// Lines that cannot be read, and why.
    pub mistakes: Vec<(usize, String)>,
}

/// A row with a label.
#[derive(Debug, PartialEq)]
pub(super) struct LabelledRow {
    pub line: usize,
    pub sample: i64,
    pub place: u32,
    pub label: Label,
}

/// The sheet of a sample.
pub(super) fn write(sample: &Sample, tweets: &[SampledTweet]) -> anyhow::Result<String> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(["row", "brand", "created_at", "text", "label"])?;
    for tweet in tweets {
        let safe = if tweet.text.starts_with(FORMULA) { " " } else { "" };
        out.write_record([
            format!("s{}r{}", sample.id, tweet.place),
            sample.brand.clone(),
            tweet.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            format!("{safe}{}", tweet.text),
            tweet.label.map_or("", Label::word).to_owned(),
        ])?;
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}

/// Reads a sheet with at least the columns `row` and `label`, in any order. Other columns may have
/// been changed, also in their encoding.
pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Sheet> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let most = |delimiter: &u8| header.iter().filter(|byte| *byte == delimiter).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(most).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(bytes);
    let column = |name: &str, header: &csv::ByteRecord| {
        let is_it = |field: &[u8]| field.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        header.iter().position(is_it).ok_or_else(|| {
            anyhow::anyhow!("it has no column {name:?}: give a sheet of `monitor labels sample`")
        })
    };
    let header = reader.byte_headers()?.clone();
    let (row_at, label_at) = (column("row", &header)?, column("label", &header)?);
    let mut sheet = Sheet::default();
    for record in reader.byte_records() {
        let record = record?;
        let line = record.position().map_or(0, |at| usize::try_from(at.line()).unwrap_or(0));
        let field =
            |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).into_owned();
        let (key, word) = (field(row_at), field(label_at));
        let (key, word) = (key.trim(), word.trim());
        if word.is_empty() {
            sheet.empty += usize::from(!key.is_empty());
            continue;
        }
        let place = key.strip_prefix('s').and_then(|rest| rest.split_once('r'));
        let place = place.and_then(|(sample, row)| Some((sample.parse().ok()?, row.parse().ok()?)));
        match (place, Label::of_word(word)) {
            (Some((sample, place)), Some(label)) if place > 0 => {
                sheet.labels.push(LabelledRow { line, sample, place, label });
            }
            (_, Some(_)) => {
                sheet.mistakes.push((line, format!("{key:?} is no row such as s7r12")));
            }
            (_, None) => {
                let wanted = "write negative, neutral or positive";
                sheet.mistakes.push((line, format!("the label {word:?} is not known: {wanted}")));
            }
        }
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels, rows without one, and mistakes.
    type Read = (Vec<(i64, u32, Label)>, usize, Vec<(usize, String)>);

    fn sheet(content: &str) -> Read {
        let Sheet { labels, empty, mistakes } = read(content.as_bytes()).unwrap();
        (labels.iter().map(|row| (row.sample, row.place, row.label)).collect(), empty, mistakes)
    }

    #[test]
    fn reads_what_spreadsheets_write() {
        let check = |name: &str, content: &str| {
            let expected = vec![(7, 1, Label::Negative), (7, 3, Label::Neutral)];
            assert_eq!(sheet(content), (expected, 1, Vec::new()), "{name}");
        };
        check("as written", "row,text,label\ns7r1,a,negative\ns7r2,b,\ns7r3,c,neutral\n");
        check(
            "semicolons, a mark, quotes, capitals",
            "\u{FEFF}Row;Text;Label\r\n\"s7r1\";\"a;b\nc\";NEG\r\ns7r2;b; \r\ns7r3;c; Neutral\r\n",
        );
        check("columns moved", "label\trow\nneg\ts7r1\n\ts7r2\nneu\ts7r3\n");
    }

    #[test]
    fn names_the_lines_that_it_cannot_read() {
        let (labels, _, mistakes) =
            sheet("row,label\ns7r1,angry\n12,negative\ns7r0,neg\ns7r2,positive\n");
        assert_eq!(labels, [(7, 2, Label::Positive)]);
        let lines: Vec<_> = mistakes.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4]);
        assert!(mistakes[0].1.contains("\"angry\""), "{mistakes:?}");
        let error = read(b"id,label\n1,neg\n").unwrap_err().to_string();
        assert!(error.contains("no column \"row\""), "{error}");
    }

    #[test]
    fn a_text_is_never_a_formula() {
        let sample = Sample {
            id: 7,
            brand: "acme".into(),
            from: chrono::DateTime::UNIX_EPOCH,
            to: chrono::DateTime::UNIX_EPOCH,
            population: 9,
            tweets: 1,
            labelled: 0,
            by: "ann".into(),
            at: chrono::DateTime::UNIX_EPOCH,
        };
        let tweet = |text: &str| SampledTweet {
            place: 1,
            tweet_id: "1".into(),
            created_at: chrono::DateTime::UNIX_EPOCH,
            text: text.into(),
            label: None,
            called: Label::Negative,
            model: "m@1".into(),
        };
        let written = write(&sample, &[tweet("=HYPERLINK(\"x\")"), tweet("plain")]).unwrap();
        assert!(written.contains("\" =HYPERLINK("), "{written}");
        assert!(written.contains(",plain,\n"), "{written}");
        assert!(!written.to_lowercase().contains("negative"), "the model's label is not shown");
    }
}
