//! The classification report: precision, recall, F1 and support of each class.
//!
//! **Invariant.** The text is identical to that of scikit-learn's
//! `classification_report(labels, digits=4, zero_division=0)`: an undefined figure counts as 0,
//! in averages too, and is listed in [`ClassificationReport::undefined`].
//! Deliberately absent: probabilities; see `metrics.rs`.

use std::fmt;

use serde::Serialize;

/// The figures of any number of classes, their averages, and the confusion matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassificationReport {
    /// The classes, in the order given.
    pub classes: Vec<ClassReport>,
    /// Share of rows with the right predicted class.
    pub accuracy: f64,
    /// Unweighted mean of the classes.
    pub macro_average: Figures,
    /// Mean of the classes, weighted by support.
    pub weighted_average: Figures,
    /// Number of rows.
    pub rows: usize,
    /// Number of rows by true class (outer) and predicted class (inner).
    pub confusion: Vec<Vec<usize>>,
    /// Figures that divide by zero and are reported as 0, such as "neutral: precision".
    pub undefined: Vec<String>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Rows of this class.
    pub support: usize,
}

/// Precision, recall, and their harmonic mean; each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Share of the rows predicted as this class that are of it.
    pub precision: f64,
    /// Share of the rows of this class that are predicted as it.
    pub recall: f64,
    /// 2PR / (P + R)
    pub f1: f64,
}

impl ClassificationReport {
    /// Compares each row's class in `truth` with the one in `predicted`; both are indices
    /// into `classes` and have the same length.
    pub fn of(classes: &[&str], truth: &[usize], predicted: &[usize]) -> Self {
        debug_assert_eq!(truth.len(), predicted.len());
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        for (truth, predicted) in truth.iter().zip(predicted) {
            confusion[*truth][*predicted] += 1;
        }
        Self::of_confusion(classes, confusion)
    }

    fn of_confusion(classes: &[&str], confusion: Vec<Vec<usize>>) -> Self {
        let rows: usize = confusion.iter().flatten().sum();
        let mut undefined = Vec::new();
        let mut share = |class: &str, figure: &str, part: usize, whole: usize| {
            if whole == 0 {
                undefined.push(format!("{class}: {figure}"));
                return 0.0;
            }
            part as f64 / whole as f64
        };
        let reports: Vec<ClassReport> = (classes.iter().enumerate())
            .map(|(at, class)| {
                let right = confusion[at][at];
                let support: usize = confusion[at].iter().sum();
                let found: usize = confusion.iter().map(|row| row[at]).sum();
                let figures = Figures {
                    precision: share(class, "precision", right, found),
                    recall: share(class, "recall", right, support),
                    f1: share(class, "F1", 2 * right, support + found),
                };
                ClassReport { class: (*class).to_owned(), figures, support }
            })
            .collect();
        let right = (0..classes.len()).map(|at| confusion[at][at]).sum();
        let accuracy = share("all", "accuracy", right, rows);
        Self {
            macro_average: average(&reports, |_| 1.0),
            weighted_average: average(&reports, |class| class.support as f64),
            classes: reports,
            accuracy,
            rows,
            confusion,
            undefined,
        }
    }

    /// The confusion matrix as a table of text.
    pub fn confusion_table(&self) -> String {
        let names = || self.classes.iter().map(|class| class.class.as_str());
        let width = names().map(|name| name.chars().count()).max().unwrap_or(0).max(7);
        let mut table = format!("{:>1$}", "", width + 5);
        names().for_each(|name| table.push_str(&format!("  {name:>width$}")));
        table.push_str("  <- found\n");
        for (name, row) in names().zip(&self.confusion) {
            table.push_str(&format!("true {name:>width$}"));
            row.iter().for_each(|count| table.push_str(&format!("  {count:>width$}")));
            table.push('\n');
        }
        table
    }
}

fn average(classes: &[ClassReport], weight: impl Fn(&ClassReport) -> f64) -> Figures {
    let total: f64 = classes.iter().map(&weight).sum();
    if total == 0.0 {
        return Figures::default();
    }
    let mean = |figure: fn(&Figures) -> f64| {
        classes.iter().map(|class| weight(class) * figure(&class.figures)).sum::<f64>() / total
    };
    Figures { precision: mean(|f| f.precision), recall: mean(|f| f.recall), f1: mean(|f| f.f1) }
}

impl fmt::Display for ClassificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WEIGHTED: &str = "weighted avg";
        let names = self.classes.iter().map(|class| class.class.chars().count());
        let width = names.max().unwrap_or(0).max(WEIGHTED.len());
        writeln!(
            f,
            "{:width$}  {:>9} {:>9} {:>9} {:>9}\n",
            "", "precision", "recall", "f1-score", "support"
        )?;
        for class in &self.classes {
            class.figures.line(f, width, &class.class, class.support)?;
        }
        let (accuracy, rows) = (self.accuracy, self.rows);
        writeln!(f, "\n{:>width$}  {:>9} {:>9} {accuracy:>9.4} {rows:>9}", "accuracy", "", "")?;
        self.macro_average.line(f, width, "macro avg", rows)?;
        self.weighted_average.line(f, width, WEIGHTED, rows)
    }
}

impl Figures {
    fn line(
        &self,
        f: &mut fmt::Formatter<'_>,
        width: usize,
        name: &str,
        support: usize,
    ) -> fmt::Result {
        let Self { precision, recall, f1 } = self;
        writeln!(f, "{name:>width$}  {precision:>9.4} {recall:>9.4} {f1:>9.4} {support:>9}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Expected {
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        classes: Vec<String>,
        confusion: Vec<Vec<usize>>,
        report: String,
    }

    fn cases() -> Vec<Case> {
        let text = include_str!("../../../../tests/fixtures/evaluation/reports.json");
        serde_json::from_str::<Expected>(text).unwrap().cases
    }

    fn report(case: &Case) -> ClassificationReport {
        let classes: Vec<&str> = case.classes.iter().map(String::as_str).collect();
        let (mut truth, mut predicted) = (Vec::new(), Vec::new());
        for (at, row) in case.confusion.iter().enumerate() {
            for (found, count) in row.iter().enumerate() {
                truth.extend(std::iter::repeat_n(at, *count));
                predicted.extend(std::iter::repeat_n(found, *count));
            }
        }
        ClassificationReport::of(&classes, &truth, &predicted)
    }

    #[test]
    fn prints_what_scikit_learn_prints() {
        let cases = cases();
        assert_eq!(cases.len(), 6);
        for case in &cases {
            let found = report(case);
            assert_eq!(found.to_string(), case.report, "{}", case.name);
            assert_eq!(found.confusion, case.confusion, "{}", case.name);
        }
    }

    #[test]
    fn lists_undefined_figures() {
        let check = |name: &str, expected: &[&str]| {
            let case = cases().into_iter().find(|case| case.name == name).unwrap();
            assert_eq!(report(&case).undefined, expected, "{name}");
        };
        check("three classes", &[]);
        check("a class never found", &["neutral: precision"]);
        check("a class without rows", &["neutral: recall"]);
        check("a class in neither", &["neutral: precision", "neutral: recall", "neutral: F1"]);
        let none = ClassificationReport::of(&["a"], &[], &[]);
        assert_eq!(none.undefined, ["a: precision", "a: recall", "a: F1", "all: accuracy"]);
        assert_eq!((none.accuracy, none.weighted_average), (0.0, Figures::default()));
    }

    #[test]
    fn prints_json_and_the_confusion_matrix() {
        let found = ClassificationReport::of(&["no", "yes"], &[0, 0, 1, 1], &[0, 1, 1, 1]);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["classes"][0]["class"], "no");
        assert_eq!(json["classes"][0]["recall"], 0.5);
        assert_eq!(json["classes"][0]["support"], 2);
        assert_eq!(json["accuracy"], 0.75);
        assert_eq!(json["confusion"], serde_json::json!([[1, 1], [0, 2]]));
        let expected = "                   no      yes  <- found\n\
                        true      no        1        1\n\
                        true     yes        0        2\n";
        assert_eq!(found.confusion_table(), expected);
    }
}
