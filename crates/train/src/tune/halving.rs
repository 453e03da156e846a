//! Which trial is trained next, and on how many rows: successive halving without rounds (ASHA).
//!
//! Each trial is first trained on a small part of the training rows, the lowest rung. Whenever a
//! rung has at least three times as many results as have gone on, its best one that has not is trained
//! on three times as many rows; otherwise a new trial begins. So poor trials stop after a few rows, and
//! there is a good model early. Method: Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht and Talwalkar
//! ("A system for massively parallel hyperparameter tuning", arXiv 1810.05934 of 2018, MLSys 2020),
//! Algorithm 2 with one worker; unlike there, no more than a third of a rung goes on, even if later
//! results are better, which bounds the time.
//!
//! **Invariant.** A pure function of the results so far, so a search that was killed goes on with the
//! same trials. The first trial, that of the defaults, is trained on all rows in the end. Deliberately
//! absent: what a trial is.

/// One of so many results of a rung goes on, on so many times as many rows.
pub(super) const REDUCTION: usize = 3;

/// A result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Done {
    /// From 0.
    pub(super) trial: usize,
    /// From 0, the one with the fewest rows.
    pub(super) rung: usize,
    /// On the validation rows; `None` if the training diverged.
    pub(super) loss: Option<f64>,
}

/// What to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) trial: usize,
    pub(super) rung: usize,
}

/// Share of the training rows on a rung.
pub(super) fn share(rung: usize, rungs: usize) -> f64 {
    (0..rungs - 1 - rung).fold(1.0, |share, _| share / REDUCTION as f64)
}

/// What to train after these results; `None` if the search is at its end. Once all trials have
/// begun, at least one of each rung goes on.
pub(super) fn next(done: &[Done], trials: usize, rungs: usize) -> Option<Job> {
    let begun = done.iter().filter(|it| it.rung == 0).count();
    let has = |job: Job| done.iter().any(|it| (it.trial, it.rung) == (job.trial, job.rung));
    let goes_on = |at_least: usize| {
        (0..rungs - 1).rev().find_map(|rung| {
            let above = |trial| Job { trial, rung: rung + 1 };
            let here: Vec<&Done> = done.iter().filter(|it| it.rung == rung).collect();
            let places = (here.len() / REDUCTION).max(at_least);
            let (gone, here): (Vec<&Done>, Vec<&Done>) =
                here.into_iter().partition(|it| has(above(it.trial)));
            let sound = here.into_iter().filter_map(|it| Some((it.loss?, it.trial)));
            let best = sound.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            best.filter(|_| gone.len() < places).map(|(_, trial)| above(trial))
        })
    };
    let defaults = Job { trial: 0, rung: rungs - 1 };
    goes_on(0)
        .or_else(|| (begun < trials).then_some(Job { trial: begun, rung: 0 }))
        .or_else(|| goes_on(1))
        .or_else(|| (begun > 0 && !has(defaults)).then_some(defaults))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search in which `loss` of trial and rung is what a training gives.
    fn search(trials: usize, rungs: usize, loss: fn(usize, usize) -> Option<f64>) -> Vec<Job> {
        let (mut done, mut jobs) = (Vec::new(), Vec::new());
        while let Some(job) = next(&done, trials, rungs) {
            assert!(jobs.len() < 1_000, "it never ends");
            let Job { trial, rung } = job;
            done.push(Done { trial, rung, loss: loss(trial, rung) });
            jobs.push(job);
        }
        jobs
    }

    fn of_rung(jobs: &[Job], rung: usize) -> Vec<usize> {
        jobs.iter().filter(|job| job.rung == rung).map(|job| job.trial).collect()
    }

    #[test]
    fn a_third_of_each_rung_goes_on() {
        let jobs = search(9, 3, |trial, _| Some(9.0 - trial as f64));
        assert_eq!(of_rung(&jobs, 0), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(of_rung(&jobs, 1), [2, 5, 8], "the best, each time there were three more");
        assert_eq!(of_rung(&jobs, 2), [8, 0], "and the defaults, to compare with");
        assert_eq!(jobs[3], Job { trial: 2, rung: 1 }, "not only when all have begun");
    }

    #[test]
    fn a_result_on_more_rows_counts_more() {
        // On few rows 1 looks best, on more 2 is.
        let loss = |trial: usize, rung| match (trial, rung) {
            (1, 0) => Some(0.1),
            (1, _) => Some(0.9),
            (2, _) => Some(0.2),
            (trial, _) => Some(0.5 + trial as f64 / 100.0),
        };
        let jobs = search(9, 3, loss);
        assert_eq!(of_rung(&jobs, 2), [2, 0]);
    }

    #[test]
    fn few_trials_reach_the_end_and_diverged_ones_do_not() {
        let first = |trial: usize, _| Some(trial as f64);
        assert_eq!(search(1, 3, first).len(), 3, "the only one climbs");
        assert_eq!(of_rung(&search(2, 3, first), 2), [0]);
        assert_eq!(of_rung(&search(5, 1, first), 0), [0, 1, 2, 3, 4], "one rung is random search");
        assert_eq!(search(5, 1, first).len(), 5);
        let diverges = |trial: usize, _| (trial != 1).then_some(5.0 - trial as f64);
        assert_eq!(of_rung(&search(2, 2, diverges), 1), [0]);
        let all = search(4, 3, |_, _| None);
        assert_eq!(of_rung(&all, 1), [0; 0]);
    }

    #[test]
    fn is_continued_by_what_was_done() {
        let whole = search(12, 3, |trial, rung| Some((trial * 7 % 5 + rung) as f64));
        let done: Vec<Done> = (whole.iter())
            .map(|job| Done {
                trial: job.trial,
                rung: job.rung,
                loss: Some((job.trial * 7 % 5 + job.rung) as f64),
            })
            .collect();
        for at in 0..whole.len() {
            assert_eq!(next(&done[..at], 12, 3), Some(whole[at]), "after {at}");
        }
        let more = next(&done, 13, 3).unwrap();
        assert_eq!(more, Job { trial: 12, rung: 0 }, "a larger number adds trials");
    }

    #[test]
    fn shares_of_rows() {
        let shares: Vec<f64> = (0..3).map(|rung| share(rung, 3)).collect();
        assert!((shares[0] - 1.0 / 9.0).abs() < 1e-12 && shares[2] == 1.0, "{shares:?}");
        assert_eq!(share(0, 1), 1.0);
    }
}
