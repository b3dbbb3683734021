//! Medians and their intervals. Pure.

/// Resamples of the bootstrap: the interval's third digit no longer moves.
const RESAMPLES: usize = 10_000;
/// Where the randomness starts, so that the same figures give the same interval.
const SEED: u64 = 20_110_822;

/// A median with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The median of some figures; 0 of none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The median of some figures and its interval by bootstrap.
pub fn with_interval(figures: &[f64]) -> Median {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample: Vec<f64> =
                figures.iter().map(|_| figures[rng.usize(0..figures.len())]).collect();
            median(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |part: f64| medians[((RESAMPLES - 1) as f64 * part) as usize];
    Median { value: median(figures), low: at(0.025), high: at(0.975) }
}

/// The ratio of two medians and its interval: runs that were made one after the other stay together, so
/// that whatever else the machine did meets both.
pub fn ratio_of_medians(ours: &[f64], theirs: &[f64]) -> Median {
    let count = ours.len().min(theirs.len());
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let picked: Vec<usize> = (0..count).map(|_| rng.usize(0..count)).collect();
            let of = |figures: &[f64]| picked.iter().map(|at| figures[*at]).collect::<Vec<_>>();
            median(&of(ours)) / median(&of(theirs))
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part: f64| ratios[((RESAMPLES - 1) as f64 * part) as usize];
    Median { value: median(ours) / median(theirs), low: at(0.025), high: at(0.975) }
}

/// The value below which this part of the figures lies.
pub fn percentile(sorted: &[u64], part: f64) -> u64 {
    match sorted.len() {
        0 => 0,
        count => sorted[((count - 1) as f64 * part) as usize],
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_and_in_its_interval() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let found = with_interval(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(found.value, 5.0);
        assert!(found.low < 5.0 && found.high > 5.0 && found.low >= 2.0 && found.high <= 8.0);
        assert_eq!(found, with_interval(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]));
    }

    #[test]
    fn a_ratio_of_medians_is_in_its_interval_and_spikes_do_not_move_it() {
        let theirs: Vec<f64> = (0..201).map(|at| 100.0 + f64::from(at % 7)).collect();
        let mut ours: Vec<f64> = theirs.iter().map(|figure| figure / 4.0).collect();
        ours[3] = 1e9;
        let found = ratio_of_medians(&ours, &theirs);
        assert!((found.value - 0.25).abs() < 0.01, "{found:?}");
        assert!(found.low <= found.value && found.value <= found.high, "{found:?}");
    }

    #[test]
    fn a_percentile_is_one_of_the_figures() {
        assert_eq!(percentile(&[1, 2, 3, 4, 100], 0.99), 4);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
