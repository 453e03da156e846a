//! A network that computes a batch in one pass, and recognises when memory runs out.
//!
//! **Invariant.** The batch is computed whole, in one pass, or not at all. If memory runs
//! out, the budget of tokens is halved for good and the error says [`Fault::Memory`]: the
//! caller plans smaller passes. If a single row does not fit, or a GPU fails in another way,
//! the device is at fault and no row is. Deliberately absent: choosing the rows of a pass
//! (see [`plan_passes`](monitor_core::batching::plan_passes)), and raising the budget again,
//! which would fail repeatedly on a GPU shared with other programs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use metrics::counter;
use tch::Kind;

use monitor_core::domain::{Classes, InvalidProbability, Probabilities, Probability};
use monitor_telemetry::TOKENS;

use super::network::{Network, Padded, values};
use super::{Classifier, ClassifyError, Encoding, Fault, check_ids, panic_message};

/// libtorch's messages when memory runs out: on a GPU, in its libraries, on a CPU.
const OUT_OF_MEMORY: [&str; 3] = ["out of memory", "ALLOC_FAILED", "can't allocate memory"];
/// Its messages when a GPU or its libraries fail, which is permanent.
const GPU_FAULTS: [&str; 4] = ["CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUDNN_STATUS"];

/// A network for scoring.
pub(super) struct BatchedNetwork<N> {
    network: N,
    tokens_max: usize,
}

impl<N: Network> BatchedNetwork<N> {
    /// `tokens_max` is the budget of a pass until memory runs out: tokens with padding.
    pub fn new(network: N, tokens_max: usize) -> Self {
        Self { network, tokens_max }
    }

    /// Probabilities of the classes, row by row, or libtorch's error message.
    fn forward(&self, rows: &[&[u32]]) -> Result<Vec<f32>, String> {
        // tch reports missing memory only as a panic.
        catch_unwind(AssertUnwindSafe(|| {
            let _no_grad = tch::no_grad_guard();
            let rows = Padded::new(rows, self.network.variables().device());
            values(&self.network.logits(&rows, 0.0).softmax(-1, Kind::Float))
        }))
        .map_err(|panic| panic_message(panic.as_ref()))
    }

    /// Halves the budget if several rows did not fit, and says what is at fault.
    fn failure(&mut self, rows: usize, padded_tokens: usize, reason: String) -> ClassifyError {
        let memory = contains_any(&reason, &OUT_OF_MEMORY);
        let fault = if memory && rows > 1 {
            self.tokens_max = self.tokens_max.min(padded_tokens) / 2;
            let tokens_max = self.tokens_max;
            tracing::warn!(reason, tokens_max, "out of memory; halved the tokens of a pass");
            Fault::Memory
        } else if memory || contains_any(&reason, &GPU_FAULTS) {
            Fault::Device
        } else {
            Fault::Row
        };
        ClassifyError { rows, reason, fault }
    }
}

impl<N: Network> Classifier for BatchedNetwork<N> {
    fn classify(&mut self, batch: &[&Encoding]) -> Result<Vec<Probabilities>, ClassifyError> {
        check_ids(batch, self.network.vocabulary())?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or_default();
        let padded = longest * rows.len();
        let scores =
            self.forward(&rows).map_err(|reason| self.failure(rows.len(), padded, reason))?;
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        counter!(TOKENS, "kind" => "text").increment(tokens as u64);
        counter!(TOKENS, "kind" => "padding").increment((padded - tokens) as u64);
        let classes = self.network.classes();
        let row = |row: &[f32]| probabilities(classes, row);
        let rows: Result<Vec<_>, _> = scores.chunks(classes.count()).map(row).collect();
        rows.map_err(|error| ClassifyError::new(batch.len(), error.to_string()))
    }

    fn tokens_max(&self) -> Option<usize> {
        Some(self.tokens_max)
    }
}

/// A row's probabilities, from those of its classes in the order of [`Classes::labels`].
fn probabilities(classes: Classes, row: &[f32]) -> Result<Probabilities, InvalidProbability> {
    match classes {
        Classes::Two => Probability::new(row[0]).map(Probabilities::two),
        Classes::Three => Probabilities::new(row[0], row[1]),
    }
}

fn contains_any(reason: &str, any: &[&str]) -> bool {
    any.iter().any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::nn::VarStore;
    use tch::{Device, Tensor};

    use super::*;
    use crate::classify_all;

    /// Returns a row's mean id as the logit of negative. Has memory for `tokens` tokens; counts its passes.
    struct SmallMemory {
        variables: VarStore,
        tokens: usize,
        passes: Arc<AtomicUsize>,
    }

    impl Network for SmallMemory {
        fn variables(&self) -> &VarStore {
            &self.variables
        }
        fn variables_mut(&mut self) -> &mut VarStore {
            &mut self.variables
        }
        fn vocabulary(&self) -> usize {
            100
        }
        fn classes(&self) -> Classes {
            Classes::Two
        }
        fn logits(&self, rows: &Padded, _: f64) -> Tensor {
            self.passes.fetch_add(1, Ordering::Relaxed);
            let tokens = rows.ids.numel();
            assert!(tokens <= self.tokens, "CUDA out of memory. Tried to allocate {tokens} B");
            assert!(!Vec::<i64>::try_from(rows.ids.flatten(0, -1)).unwrap().contains(&99), "99");
            let mean =
                rows.ids.sum_dim_intlist(1, false, Kind::Float) / rows.lengths.squeeze_dim(1);
            Tensor::stack(&[&mean, &mean.zeros_like()], 1)
        }
    }

    #[test]
    fn out_of_memory_halves_the_budget() {
        let check = |name: &str, has: usize, lengths: &[usize], left: usize, passes: usize| {
            let variables = VarStore::new(Device::Cpu);
            let counted = Arc::new(AtomicUsize::new(0));
            let network = SmallMemory { variables, tokens: has, passes: counted.clone() };
            let mut batched = BatchedNetwork::new(network, 1_000);
            let rows: Vec<Encoding> =
                (1..).zip(lengths).map(|(id, n)| Encoding::new(vec![id; *n])).collect();
            let scores = classify_all(&mut batched, &rows.iter().collect::<Vec<_>>());
            assert_eq!(batched.tokens_max(), Some(left), "{name}");
            assert_eq!(counted.load(Ordering::Relaxed), passes, "{name}: passes");
            scores.map(|scores| {
                for (row, score) in rows.iter().zip(scores) {
                    let expected = 1.0 / (1.0 + (-(row.ids[0] as f32)).exp());
                    assert!(
                        (score.negative().get() - expected).abs() < 1e-6,
                        "{name}: {row:?} {score:?}"
                    );
                }
            })
        };
        check("enough", 1_000, &[10; 60], 1_000, 1).unwrap();
        // 600 tokens fail, then 300; then four passes of 150.
        check("a quarter", 200, &[10; 60], 150, 6).unwrap();
        // 400 tokens fail, then 200; a budget of 100 holds one long row, or both short ones.
        check("mixed", 160, &[100, 10, 100, 10, 100, 100], 100, 7).unwrap();
        let error = check("one row is too much", 50, &[10, 60], 60, 2).unwrap_err();
        assert!(error.reason.contains("out of memory"), "{error}");
        assert_eq!(error.fault, Fault::Device);
        assert!(contains_any(
            "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
            &OUT_OF_MEMORY
        ));
    }

    #[test]
    fn other_failures_leave_the_budget() {
        let variables = VarStore::new(Device::Cpu);
        let network = SmallMemory { variables, tokens: 100, passes: Arc::default() };
        let mut batched = BatchedNetwork::new(network, 80);
        let (sound, poison) = (Encoding::new(vec![1]), Encoding::new(vec![99]));
        let error = batched.classify(&[&sound, &poison]).unwrap_err();
        assert_eq!((error.reason.as_str(), error.fault), ("99", Fault::Row));
        assert_eq!(batched.tokens_max(), Some(80));
    }
}
