//! What is read of files, what is left out, and which files are refused.

use super::*;
use crate::data::Layout;
use std::io::Write;

fn line(target: &str, user: &str, text: &str) -> String {
    format!("\"{target}\",\"1\",\"today\",\"NO_QUERY\",\"{user}\",\"{text}\"\n")
}

fn file(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn texts(dataset: &Dataset) -> Vec<(bool, &str)> {
    dataset.rows.iter().map(|row| (row.is_negative(), row.text.as_str())).collect()
}

#[test]
fn reads_rows_and_counts_those_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = Vec::new();
    for part in [
        line("0", "ann", "it broke, \"\"again\"\""),
        line("4", "bob", "lovely"),
        line("4", "cid", "lovely "),
        line("0", "dan", "so so"),
        line("4", "eve", "so so"),
        line("2", "eve", "a table"),
        line("4", "", "Hand labelled &lt;3  at last"),
    ] {
        content.extend(part.into_bytes());
    }
    content.extend(b"\"4\",\"1\",\"d\",\"q\",\"u\",\"caf\xe9\"\n");
    content.extend(line("4", "u", "caf\u{e9} \u{266b}").bytes());
    let test = line("2", "x", "hand LABELLED &amp;lt;3 at last ");
    let test = file(folder.path(), "test.csv", test.as_bytes());
    let plain = file(folder.path(), "a.csv", &content);
    let found = read_excluding(&plain, std::slice::from_ref(&test)).unwrap();
    let expected = [
        (true, "it broke, \"again\""),
        (false, "lovely"),
        (false, "a table"),
        (false, "café"),
        (false, "café ♫"),
    ];
    assert_eq!(texts(&found), expected);
    let expected =
        ReadReport { read: 9, duplicate: 1, conflicting: 2, excluded: 1, ..ReadReport::default() };
    assert_eq!(found.report, expected);
    assert_eq!(found.file, "a.csv");
    assert_eq!(
        found.report.to_string(),
        "9 rows of sentiment140 read; left out 0 neutral, 1 duplicate, 2 conflicting, 1 of the \
         test file"
    );
    let all: Vec<Label> = read_all(&plain).unwrap().iter().map(|row| row.label).collect();
    use Label::*;
    let expected =
        [Negative, Positive, Positive, Negative, Positive, Neutral, Positive, Positive, Positive];
    assert_eq!(all, expected);

    let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
    packed.write_all(&content).unwrap();
    let packed = file(folder.path(), "a.csv.xz", &packed.finish().unwrap());
    let unpacked = read_excluding(&packed, std::slice::from_ref(&test)).unwrap();
    assert_eq!(unpacked.rows, found.rows);
    assert_ne!(unpacked.sha256, found.sha256, "of the file as it lies there");
}

#[test]
fn reads_each_layout() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, layout: Layout, expected: &[Row]| {
        let path = file(folder.path(), "data", content.as_bytes());
        let parsed = parse(&path, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        let Parsed { rows, report, .. } = parsed;
        assert_eq!((report.layout, report.malformed), (layout, 0), "{name}");
        assert_eq!(rows, expected, "{name}");
    };
    use Label::*;
    let row = |label: Label, user: &str, at: &str, text: &str| {
        let created_at = at.parse().ok();
        Row { user: user.to_owned(), created_at, ..Row::new(label, text) }
    };
    check(
        "sentiment140",
        "\"0\",\"1\",\"Mon Apr 06 22:19:45 PDT 2009\",\"NO_QUERY\",\"ann\",\"so, \"\"sad\"\"\"\r\n\
         \"2\",\"2\",\"\",\"NO_QUERY\",\"\",\"a table\"",
        Layout::Sentiment140,
        &[
            row(Negative, "ann", "2009-04-07T05:19:45Z", "so, \"sad\""),
            row(Neutral, "", "", "a table"),
        ],
    );
    check(
        "two columns, numbers",
        "label,text\n0,so sad\n\n1,\"glad,\nat last\"\n",
        Layout::Csv,
        &[row(Negative, "", "", "so sad"), row(Positive, "", "", "glad,\nat last")],
    );
    check(
        "the last row decides what 0 means",
        "Tweet,Polarity\nso so,0\nglad,1\nsad,-1\n",
        Layout::Csv,
        &[
            row(Neutral, "", "", "so so"),
            row(Positive, "", "", "glad"),
            row(Negative, "", "", "sad"),
        ],
    );
    check(
        "as the airlines' file",
        "\u{FEFF}tweet_id,airline_sentiment,name,text,tweet_created\n\
         5,neutral,cid,café?,2015-02-24 11:35:52 -0800\n6,Positive,dan,6'2\" of joy,\n",
        Layout::Csv,
        &[
            row(Neutral, "cid", "2015-02-24T19:35:52Z", "café?"),
            row(Positive, "dan", "", "6'2\" of joy"),
        ],
    );
    let of_set = |set, row| Row { set: Some(set), ..row };
    check(
        "tabs, with sets",
        "split\tlabel\ttext\ntrain\tneutral\t\"Plus, a busy day\ndev\tnegative\tno\r\n\
         test\tpositive\t\"hi\"\nother\t0\tit's\n",
        Layout::Tsv,
        &[
            of_set(RowSet::Training, row(Neutral, "", "", "\"Plus, a busy day")),
            of_set(RowSet::Validation, row(Negative, "", "", "no")),
            of_set(RowSet::HeldOut, row(Positive, "", "", "hi")),
            row(Negative, "", "", "it's"),
        ],
    );
    check(
        "SemEval",
        "1\tneutral\tPlus\\u002c a \"very\" busy day\n\
         2\tnegative\t\"he said \\\"\"no\\\"\"\"\t\n\
         3\tpositive\tNot Available\n\
         4\tpositive\thi\tWed Jul 29 12:01:22 +0000 2015\n",
        Layout::SemEval,
        &[
            row(Neutral, "", "", "Plus, a \"very\" busy day"),
            row(Negative, "", "", "he said \"no\""),
            row(Positive, "", "2015-07-29T12:01:22Z", "hi"),
        ],
    );
}

#[test]
fn reads_what_spreadsheets_write() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8]| {
        let path = file(folder.path(), name, content);
        let data = read_with_columns(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(texts(&data), [(true, "triste, café"), (false, "très bien")], "{name}");
        assert_eq!(data.columns, ["rubrique donnée"], "{name}");
        assert_eq!(data.rows[0].columns, ["où"], "{name}");
    };
    let text = "label,rubrique donnée,text\r\nnegative,où,\"triste, café\"\r\n1,,très bien\r\n";
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    check("Windows-1252", &latin1);
    let marked = "\u{FEFF}".to_owned() + text;
    check("UTF-8 with a mark", marked.as_bytes());
    check("UTF-16", &marked.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let semeval = b"1\tnegative\tpas de caf\xe9\n2\tpositive\tun caf\xc3\xa9\n";
    let data = read(&file(folder.path(), "semeval", semeval)).unwrap();
    assert_eq!(texts(&data), [(true, "pas de café"), (false, "un café")]);
}

#[test]
fn a_few_malformed_rows_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str, sound: usize, expected: &str| {
        let path = file(folder.path(), "few.csv", content.as_bytes());
        let parsed = parse(&path, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        let Parsed { rows, report, .. } = parsed;
        assert_eq!((rows.len(), report.faults().as_str()), (sound, expected), "{name}");
    };
    let good: String = (0..500).map(|n| line("0", "u", &format!("text {n}"))).collect();
    let bad = [
        "\"0\",\"short row\"\n".to_owned(),
        line("7", "u", "no such target"),
        line("0", "u", " "),
        line("0", "u", &"far too long ".repeat(200)),
    ];
    check(
        "of each kind",
        &(good.clone() + &bad.concat()),
        500,
        "1 wrong number of columns (line 501), 1 unknown label (line 502), 1 no text (line \
         503), 1 text too long (line 504)",
    );
    let swallowed = good.replace("text 10\"", "text 10").replace("\"text 20\"", "text 20\"");
    check(
        "a missing quote costs its own row",
        &swallowed,
        498,
        "2 a quote missing or too many (lines 11, 21)",
    );
    let quoted = "1,\"fine\"\n".repeat(300);
    check(
        "so it does where texts may have line feeds",
        &format!("label,text\n1,\"never closed\n{quoted}0,\"a\nb\",c\n"),
        300,
        "1 wrong number of columns (line 303), 1 a quote missing or too many (line 2), 1 \
         unknown label (line 304)",
    );
    let gone = "1\tpositive\tNot Available\n".repeat(7);
    check(
        "tweets that are gone are no fault of the file",
        &(gone + "2\tnegative\tstill here\n"),
        1,
        "7 tweet not available (lines 1, 2, 3, 4, 5, ...)",
    );
}

#[test]
fn invalid_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8], expected: &str| {
        let path = file(folder.path(), "bad.csv", content);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("bad.csv"), "{name}: {error}");
    };
    check("empty", b"", "is empty");
    check("only empty lines", b"\n\n", "is empty");
    check("only a header", b"label,text\n", "is empty");
    let other = b"text;label\nhello;1\n";
    check("other layout", other, "its first line has 1 columns (\"text;label\")");
    check("five columns", b"\"0\",\"1\",\"d\",\"q\",\"u\"\n", "has 5 columns");
    let some = line("0", "u", "fine") + "\"0\",\"1\",\"hello\"\n";
    check(
        "too many malformed",
        some.as_bytes(),
        "1 of 2 rows are not rows of sentiment140: 1 wrong number of columns (line 2)",
    );
    let numbers = b"label,text\n0,a\n1,b\n2,c\n";
    check("numbers that say too little", numbers, "labels [0, 1, 2] could mean");
    let cut = b"label,text\n0,caf\xc3\xa9 cr\xc3\n";
    check("UTF-8 that was cut", cut, "1 damaged UTF-8 (line 2)");
    check("binary", &[0, 1, 2, 255, 254, 10, 0, 0], "laid out in no way known here");
    check("cut short", b"\xFD7zXZ\0\0", "cut short");
    let error = read(&folder.path().join("none.csv")).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("none.csv"), "{error}");
}

#[test]
fn adding_a_source_keeps_its_weight_and_adds_no_text_twice() {
    let folder = tempfile::tempdir().unwrap();
    let one = "label,text\n0,sad\n1,glad\n1,so so\n";
    let mut one = read(&file(folder.path(), "one.csv", one.as_bytes())).unwrap();
    let two = "label,text\n0,late\n1,glad \n0,so so\n0,kept out\n";
    let test = file(folder.path(), "test.csv", b"label,text\n1,Kept  out\n");
    let two = file(folder.path(), "two.csv", two.as_bytes());
    let two = read_excluding(&two, &[test]).unwrap();
    assert_eq!(two.report.excluded, 1);
    assert_eq!(one.add(two, 2.5), 1);
    assert_eq!(texts(&one), [(true, "sad"), (false, "glad"), (true, "late")]);
    let weights: Vec<f32> = one.rows.iter().map(|row| row.weight).collect();
    assert_eq!(weights, [1.0, 1.0, 2.5]);
    assert_eq!((one.report.duplicate, one.report.conflicting), (1, 2));
}
