//! The columns of a labelled file beside label and text, for the analysis of errors.
//!
//! **Invariant.** A row has one value for each name, empty where the file has none. Deliberately
//! absent: their meaning; training does not read them.

use super::Fields;
use super::layouts::Format;

/// Names and positions of the other columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OtherColumns {
    pub(super) names: Vec<String>,
    at: Vec<usize>,
}

impl OtherColumns {
    /// Those of a file; `header` is its first line, which only a CSV has.
    pub(super) fn of(format: Format, header: &[u8]) -> Self {
        let (names, at) = match format {
            Format::Sentiment140 => {
                (["id", "date", "query", "user"].map(String::from).to_vec(), vec![1, 2, 3, 4])
            }
            Format::SemEval => (["id", "topic", "date"].map(String::from).to_vec(), vec![]),
            Format::Csv(columns, _) => columns
                .names(header)
                .into_iter()
                .enumerate()
                .filter(|(at, _)| !columns.is_label_or_text(*at))
                .map(|(at, name)| (name, at))
                .unzip(),
        };
        Self { names, at }
    }

    /// The values of a valid row, which was the last one that `fields` split.
    pub(super) fn values(&self, format: Format, fields: &Fields, record: &[u8]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if let Format::SemEval = format {
            let record = text(record);
            let columns: Vec<&str> = record.split('\t').collect();
            let topic = format.has_topic(&columns);
            let date = if topic { "" } else { columns.get(3).copied().unwrap_or("") };
            return [columns[0], if topic { columns[1] } else { "" }, date]
                .map(String::from)
                .into();
        }
        self.at.iter().map(|at| text(fields.get(*at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::data::read_with_columns;

    #[test]
    fn each_layout() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, content: &str, names: &[&str], rows: &[&[&str]]| {
            let path = folder.path().join("data");
            std::fs::write(&path, content).unwrap();
            let data = read_with_columns(&path).unwrap();
            assert_eq!(data.columns, names, "{name}");
            let found: Vec<&[String]> = data.rows.iter().map(|row| &row.columns[..]).collect();
            assert_eq!(found, rows, "{name}");
        };
        check(
            "sentiment140",
            "\"0\",\"7\",\"today\",\"NO_QUERY\",\"ann\",\"so sad\"\n",
            &["id", "date", "query", "user"],
            &[&["7", "today", "NO_QUERY", "ann"]],
        );
        check(
            "a CSV, its names as written",
            "Airline,label,\"Reason\",text\nDelta,0,\"late, \"\"again\"\"\",so sad\nUnited,1,,glad\n",
            &["Airline", "Reason"],
            &[&["Delta", "late, \"again\""], &["United", ""]],
        );
        check(
            "SemEval with a topic or a date",
            "1\tmilan\tnegative\tno goal\n2\tpositive\tglad\t2015-02-24\n3\tneutral\ta table\n",
            &["id", "topic", "date"],
            &[&["1", "milan", ""], &["2", "", "2015-02-24"], &["3", "", ""]],
        );
        check("nothing else", "label,text\n0,sad\n1,glad\n", &[], &[&[], &[]]);
    }
}
