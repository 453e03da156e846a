//! Distances between histograms.

use super::Values;

/// How many tweets are in each bin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Histogram {
    bins: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(super) fn of(bins: impl Iterator<Item = usize>) -> Self {
        let mut found = Self::default();
        for bin in bins {
            if bin >= found.bins.len() {
                found.bins.resize(bin + 1, 0);
            }
            found.bins[bin] += 1;
            found.total += 1;
        }
        found
    }

    fn count(&self, bin: usize) -> u64 {
        self.bins.get(bin).copied().unwrap_or(0)
    }

    fn share(&self, bin: usize) -> f64 {
        self.count(bin) as f64 / self.total.max(1) as f64
    }

    fn add(&mut self, other: &Self) {
        self.bins.resize(self.bins.len().max(other.bins.len()), 0);
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, more)| *bin += more);
        self.total += other.total;
    }

    /// `self` must contain `part`.
    fn without(&self, part: &Self) -> Self {
        let bins = (0..self.bins.len()).map(|bin| self.count(bin) - part.count(bin)).collect();
        Self { bins, total: self.total - part.total }
    }
}

/// Distance of each period of the reference to the others together, and of the recent period to all.
pub(super) fn distances(
    (reference, recent): (Vec<Histogram>, Histogram),
    distance: fn(&Histogram, &Histogram) -> f64,
) -> Values {
    let mut all = Histogram::default();
    reference.iter().for_each(|period| all.add(period));
    let values = reference.iter().map(|period| distance(period, &all.without(period))).collect();
    (values, distance(&recent, &all))
}

/// Largest difference of the cumulative shares, in 0..=1.
pub(super) fn kolmogorov_smirnov(a: &Histogram, b: &Histogram) -> f64 {
    let (mut difference, mut largest) = (0.0_f64, 0.0_f64);
    for bin in 0..a.bins.len().max(b.bins.len()) {
        difference += a.share(bin) - b.share(bin);
        largest = largest.max(difference.abs());
    }
    largest
}

/// Square root of the Jensen-Shannon divergence in bits (Lin 1991), in 0..=1; a metric (Endres and
/// Schindelin 2003).
pub(super) fn jensen_shannon(a: &Histogram, b: &Histogram) -> f64 {
    let part = |share: f64, middle: f64| {
        if share > 0.0 { share * (share / middle).log2() } else { 0.0 }
    };
    let divergence: f64 = (0..a.bins.len().max(b.bins.len()))
        .map(|bin| {
            let (p, q) = (a.share(bin), b.share(bin));
            let middle = (p + q) / 2.0;
            (part(p, middle) + part(q, middle)) / 2.0
        })
        .sum();
    divergence.clamp(0.0, 1.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(bins: &[u64]) -> Histogram {
        Histogram { bins: bins.to_vec(), total: bins.iter().sum() }
    }

    #[test]
    fn distances_of_histograms() {
        let check = |name, a: &[u64], b: &[u64], smirnov: f64, shannon: f64| {
            let (a, b) = (histogram(a), histogram(b));
            let found = [kolmogorov_smirnov(&a, &b), jensen_shannon(&a, &b)];
            for (found, expected) in found.into_iter().zip([smirnov, shannon]) {
                assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
            }
        };
        check("the same shares", &[1, 3], &[10, 30], 0.0, 0.0);
        check("nothing in common", &[5], &[0, 7], 1.0, 1.0);
        // scipy.spatial.distance.jensenshannon([.1, .2, .7], [.3, .3, .4], base=2)
        check("three bins", &[1, 2, 7], &[3, 3, 4], 0.3, 0.273_666_9);
        check("more bins on one side", &[1, 1], &[1, 1, 2], 0.5, 0.557_923_0);
    }

    #[test]
    fn a_period_is_compared_with_the_others() {
        let periods = vec![histogram(&[8, 2]), histogram(&[6, 4]), histogram(&[0, 0, 10])];
        let (values, value) = distances((periods, histogram(&[10])), kolmogorov_smirnov);
        let expected = [0.5, 0.5, 1.0];
        for (found, expected) in values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{values:?}");
        }
        assert!((value - (1.0 - 14.0 / 30.0)).abs() < 1e-9, "{value}");
    }
}
