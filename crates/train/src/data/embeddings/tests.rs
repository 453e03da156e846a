//! Tests of every layout and every fault.

use super::*;

fn with_file<T>(name: &str, bytes: &[u8], then: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    then(&path)
}

fn read_bytes(bytes: &[u8], wanted: &[&str]) -> Result<Embeddings, EmbeddingError> {
    with_file("vectors", bytes, |path| read(path, &wanted.iter().copied().collect()))
}

fn binary(header: &str, rows: &[(&[u8], &[f32])], end: &str) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    for (word, numbers) in rows {
        bytes.extend_from_slice(word);
        bytes.push(b' ');
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend_from_slice(end.as_bytes());
    }
    bytes
}

#[test]
fn reads_every_layout() {
    let check = |name, bytes: &[u8]| {
        let found = read_bytes(bytes, &["good", "bad", "none"]).expect(name);
        assert_eq!((found.width, found.words_read), (3, 3), "{name}");
        assert_eq!(found.get("good"), Some(&[1.0, -0.5, 0.25][..]), "{name}");
        assert_eq!(found.get("bad"), Some(&[2e-3, 0.0, 7.0][..]), "{name}");
        assert_eq!((found.get("none"), found.get("other")), (None, None), "{name}");
    };
    let rows: [(&[u8], &[f32]); 3] = [
        (b"good", &[1.0, -0.5, 0.25]),
        (b"caf\xe9", &[0.0, 0.0, 0.0]),
        (b"bad", &[2e-3, 0.0, 7.0]),
    ];
    let text = b"good 1 -.5 0.25\nother 0 0 0\nbad 2e-3 0 7\n";
    check("GloVe", text);
    check("GloVe with CR LF", b"good 1 -.5 0.25\r\nother 0 0 0\r\nbad 2e-3 0 7\r\n");
    check("GloVe, last line open", text.trim_ascii_end());
    check("GloVe, a word with spaces", b"good 1 -.5 .25\n. . . 0 0 0\nbad .002 0 7\n");
    check("GloVe, a word that ends in a number", b"good 1 -.5 .25\ngate 2 0 0 0\nbad .002 0 7\n");
    check("GloVe, a word that is a number", b"good 1 -.5 .25\n5 0 0 0\nbad .002 0 7\n");
    check("tabs", b"good\t1\t-.5\t.25\nother\t0\t0\t0\nbad\t.002\t0\t7\n");
    check("word2vec text", &[b"3 3\n", &text[..]].concat());
    check("word not in UTF-8", b"good 1 -.5 .25\ncaf\xe9 0 0 0\nbad .002 0 7\n");
    check("fastText", b"3 3\ngood 1 -.5 .25 \nother 0 0 0 \nbad .002 0 7 \n");
    check("a word twice", b"good 1 -.5 .25\nbad .002 0 7\ngood 9 9 9\n");
    check("binary", &binary("3 3\n", &rows, ""));
    check("binary in lines", &binary("3 3\n", &rows, "\n"));
}

#[test]
fn unpacks() {
    use std::io::Write;
    let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
    packed.write_all(b"good 1 2\n").unwrap();
    with_file("vectors.txt.xz", &packed.finish().unwrap(), |path| {
        assert_eq!(read(path, &["good"].into()).unwrap().get("good"), Some(&[1.0, 2.0][..]));
    });
}

#[test]
fn prefers_the_exact_spelling() {
    let file = b"PARIS 1 1\nParis 2 2\nGood 3 3\ngood 4 4\nGOOD 5 5\nTHE 6 6\n";
    let check = |name, wanted: &str, expected: Option<f32>| {
        let found = read_bytes(file, &[wanted, "good"]).unwrap();
        assert_eq!(found.get(wanted).map(|v| v[0]), expected, "{name}");
    };
    check("exact lower", "good", Some(4.0));
    check("exact later than another case", "GOOD", Some(5.0));
    check("lower case before the first other", "gOOd", Some(4.0));
    check("first other case", "paris", Some(1.0));
    check("exact before the first other", "Paris", Some(2.0));
    check("the by THE", "the", Some(6.0));
    check("none", "them", None);
}

#[test]
fn names_the_fault() {
    let check = |name, bytes: &[u8], expected: &str| {
        let message = read_bytes(bytes, &["good"]).unwrap_err().to_string();
        assert!(message.contains("vectors: ") && message.contains(expected), "{name}: {message}");
    };
    check("empty", b"", "it is empty");
    check("blank", b" \n\n", "it is empty");
    check("a CSV file", b"\"0\",\"1\",\"text\"\n", "no word embeddings in it (it begins with");
    check("prose", b"good is a word\n", "no word embeddings");
    check("words only", b"good\nbad\n", "no word embeddings");
    check("zeros", &[0; 300_000], "no word embeddings");
    check("NaN", b"good 1 2\nbad nan 2\n", "line 2 (\"bad\") holds \"nan\"");
    check("infinity", b"good 1 2\n\nbad 1 -inf\n", "line 3 (\"bad\") holds \"-inf\"");
    check("too large", b"good 1 2\nbad 1 1e39\n", "not a finite number");
    check("NaN in the first row", b"good NaN 2\n", "line 1 (\"good\")");
    check("no number", b"good 1 2\nbad 1 x\n", "line 2 (\"bad\") holds \"x\"");
    check("narrow", b"good 1 2\nbad 1\n", "line 2 has 1 numbers behind its word and should");
    check("a word alone", b"good 1 2\nbad\n", "line 2 has 0 numbers");
    check("wide", b"2 2\ngood 1 2\nbad 1.5 2 3\n", "line 3 has 3 numbers");
    check("wider than the header", b"1 2\ngood 1.5 2 3\n", "line 2 has 3 numbers");
    check("cut off", b"3 2\ngood 1 2\nbad 1 2\n", "promises 3 words, and it ends after 2");
    check("nothing but a header", b"3 2\n", "ends after 0");
    check("too long", b"1 2\ngood 1 2\nbad 1 2\n", "promises 1 words, and there is more");
    check("no words promised", b"0 2\ngood 1 2\n", "promises 0 words");
    check("absurd count", b"999999999999 2\ngood 1 2\n", "promises 999999999999 words");
    check("absurd width", b"1 4000000000\ngood 1 2\n", "of 4000000000 numbers");
    check("coverage", b"gut 1 2\nfein 1 2\n", "none of its 2 words is among the 1 of the");
    let long = [&b"good 1 2\nbad "[..], &vec![b'1'; 1 << 21]].concat();
    check("endless line", &long, "line 2 does not end");

    let rows: [(&[u8], &[f32]); 2] = [(b"good", &[1.0, 2.0]), (b"bad", &[1.5, f32::NAN])];
    check("binary NaN", &binary("2 2\n", &rows, ""), "word 2 (\"bad\") holds \"NaN\"");
    let sound = binary("2 2\n", &[rows[0], (b"bad", &[1.5, 1.0])], "");
    check("binary cut in a vector", &sound[..sound.len() - 1], "it ends after 1");
    check("binary cut in a word", &sound[..sound.len() - 10], "it ends after 1");
    check("binary, more", &[&sound[..], b"x"].concat(), "there is more");
    let endless = [&sound[..sound.len() - 9], &vec![1; 1 << 21]].concat();
    check("binary, endless word", &endless, "word 2 does not end");
    let missing = read(Path::new("nowhere.txt"), &["good"].into()).unwrap_err().to_string();
    assert!(missing.contains("nowhere.txt: it cannot be read"), "{missing}");
}

#[test]
fn computes_coverage() {
    let found = read_bytes(b"good 1 2\nbad 1 2\n", &["good", "bad", "lol", "omg"]).unwrap();
    let counts = [("good", 50), ("lol", 10), ("bad", 30), ("omg", 10)];
    let coverage = found.coverage(counts);
    assert_eq!((coverage.types, coverage.tokens), (0.5, 0.8));
    assert_eq!(coverage.missing, [("lol".to_owned(), 10), ("omg".to_owned(), 10)]);
    assert_eq!(
        coverage.to_string(),
        "50.0 % of the words have a vector, 80.0 % of their occurrences; most frequent \
         without lol (10), omg (10)"
    );
    let many: Vec<String> = (0..30).map(|n| format!("w{n}")).collect();
    let coverage = found.coverage(many.iter().zip(1..).map(|(word, n)| (word.as_str(), n)));
    assert_eq!((coverage.missing.len(), coverage.missing[0].1), (20, 30));
    assert_eq!(found.coverage([]).tokens, 0.0);
}

/// The larger files are outside the repository.
#[test]
#[ignore = "needs ../shared"]
fn reads_the_shared_files() {
    let check = |name, words, width, first: f32| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/embeddings");
        let path = folder.join(name);
        let found = read(&path, &["good", "Paris", "qqqq-not-a-word"].into()).expect(name);
        assert_eq!((found.words_read, found.width), (words, width), "{name}");
        let good = found.get("good").expect(name);
        assert!((good[0] - first).abs() < 1e-6 && good.len() == width, "{name}: {}", good[0]);
        assert!(found.get("Paris").is_some(), "{name}");
        assert_eq!(found.get("qqqq-not-a-word"), None, "{name}");
    };
    check("glove.6B.50d.top.txt.xz", 82_133, 50, -0.35586);
    check("en-300d.word2vec.bin.xz", 61_321, 300, -0.733_398);
}
