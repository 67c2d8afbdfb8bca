//! Runs workers in alternating rounds and compares their times.

use anyhow::Result;
use serde::Serialize;

use super::worker::{Request, Worker};

/// Warm-up steps: allocators fill, caches warm, compilers compile.
const WARM_UP: usize = 3;

/// One worker's times.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Timings {
    /// The worker's name.
    pub(crate) name: String,
    /// Milliseconds per step, the median over all rounds.
    pub(crate) median_ms: f64,
    /// The fastest step.
    pub(crate) best_ms: f64,
    /// The median of each round, in order.
    pub(crate) rounds_ms: Vec<f64>,
    /// The peak memory of the process.
    pub(crate) peak_rss_mib: f64,
}

/// All workers' times with one config; the others are compared with the first worker.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    /// The config's name.
    pub(crate) config: String,
    /// The workers' times.
    pub(crate) workers: Vec<Timings>,
    /// For each worker after the first: the first one's time divided by its, round by round (smallest, median,
    /// largest).
    pub(crate) ratios: Vec<[f64; 3]>,
    /// Tokens per second of the first worker.
    pub(crate) tokens_per_s: f64,
    /// The fraction of the machine's measured peak that the first worker reaches: of the matrix product in training, of
    /// the memory bandwidth in generation.
    pub(crate) peak_share: f64,
}

/// Lets each worker do `request` once per round, one worker after another, for `rounds` rounds; `before` runs at the
/// beginning of each, to measure the machine.
///
/// # Errors
/// Returns an error if a worker fails.
pub(crate) fn compare(
    workers: &mut [Worker],
    request: Request,
    rounds: usize,
    before: &mut dyn FnMut(),
) -> Result<Vec<Timings>> {
    let mut all: Vec<(Vec<f64>, Vec<f64>, f64)> = vec![Default::default(); workers.len()];
    for worker in workers.iter_mut() {
        worker.ask(match request {
            Request::Step(_) => Request::Step(WARM_UP),
            Request::Generate(_) => Request::Generate(WARM_UP),
        })?;
    }
    for _ in 0..rounds {
        before();
        for (worker, (times, medians, peak)) in workers.iter_mut().zip(&mut all) {
            let (ms, peak_rss_mib) = worker.ask(request)?;
            medians.push(median(&ms));
            times.extend(ms);
            *peak = peak_rss_mib;
        }
    }
    Ok(workers
        .iter()
        .zip(all)
        .map(|(worker, (times, rounds_ms, peak_rss_mib))| Timings {
            name: worker.name().to_owned(),
            median_ms: median(&times),
            best_ms: times.iter().copied().fold(f64::INFINITY, f64::min),
            rounds_ms,
            peak_rss_mib,
        })
        .collect())
}

impl Comparison {
    /// The same with the first worker's peak share computed per round, from the machine's peak in that round.
    pub(crate) fn of_peaks(mut self, work: f64, peaks: &[f64]) -> Self {
        let ours = self.workers.first().map(|first| first.rounds_ms.as_slice()).unwrap_or_default();
        let share = |(ms, peak): (&f64, &f64)| work / (ms / 1e3) / (peak * 1e9);
        let shares: Vec<f64> = ours.iter().zip(peaks).map(share).collect();
        self.peak_share = median(&shares);
        self
    }

    /// The comparison of the first worker with the others.
    ///
    /// `tokens` and `work` are those of one step; `peak` is the machine's, in billions per second: operations in
    /// training, bytes in generation.
    pub(crate) fn new(config: &str, workers: Vec<Timings>, tokens: usize, work: f64, peak: f64) -> Self {
        let (ours, seconds) = match workers.first() {
            Some(first) => (first.rounds_ms.clone(), first.median_ms / 1e3),
            None => (Vec::new(), f64::NAN),
        };
        let ratios = workers.iter().skip(1).map(|peer| {
            let mut pairs: Vec<f64> = ours.iter().zip(&peer.rounds_ms).map(|(a, b)| a / b).collect();
            pairs.sort_by(f64::total_cmp);
            [
                pairs.first().copied().unwrap_or(f64::NAN),
                median(&pairs),
                pairs.last().copied().unwrap_or(f64::NAN),
            ]
        });
        Self {
            config: config.to_owned(),
            ratios: ratios.collect(),
            tokens_per_s: tokens as f64 / seconds,
            peak_share: work / seconds / (peak * 1e9),
            workers,
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings(name: &str, rounds_ms: &[f64]) -> Timings {
        let (median_ms, best_ms) = (median(rounds_ms), rounds_ms[0]);
        Timings { name: name.into(), median_ms, best_ms, rounds_ms: rounds_ms.into(), peak_rss_mib: 1.0 }
    }

    #[test]
    fn ratios_are_computed_per_round() {
        let workers = vec![timings("ours", &[10.0, 20.0, 30.0]), timings("peer", &[20.0, 80.0, 30.0])];
        let comparison = Comparison::new("a", workers, 100, 1e9, 100.0);
        assert_eq!(comparison.ratios, [[0.25, 0.5, 1.0]]);
        assert_eq!(comparison.tokens_per_s, 5000.0);
        assert_eq!(comparison.peak_share, 0.5);
    }

    #[test]
    fn the_peak_share_is_computed_per_round() {
        let comparison = Comparison::new("b", vec![timings("ours", &[10.0, 20.0, 40.0])], 1, 1e9, 100.0);
        // 100, 50 and 25 billion per second, of 125, 100 and 25.
        assert_eq!(comparison.of_peaks(1e9, &[125.0, 100.0, 25.0]).peak_share, 0.8);
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
