//! Mean, standard deviation, and Welch's test of whether two means differ.

/// The mean and standard deviation of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// The number of values.
    pub(super) n: usize,
    /// Their mean.
    pub(super) mean: f64,
    /// Their standard deviation, `√(Σ (x − mean)² / (n − 1))`; `None` for a single value.
    pub(super) deviation: Option<f64>,
}

impl Sample {
    /// Computes the statistics of `numbers`; `None` if empty.
    pub(super) fn of(numbers: &[f64]) -> Option<Self> {
        let n = numbers.len();
        let mean = numbers.iter().sum::<f64>() / n as f64;
        let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        (n > 0).then_some(Self { n, mean, deviation })
    }

    /// The two-sided p-value of Welch's test: the probability that samples of two normal distributions with the same
    /// mean differ at least as much as these ([Welch 1947](https://doi.org/10.1093/biomet/34.1-2.28)); `None` if one of
    /// them has no standard deviation.
    pub(super) fn p_value(&self, other: &Self) -> Option<f64> {
        let share = |of: &Self| Some(of.deviation?.powi(2) / of.n as f64);
        let (a, b) = (share(self)?, share(other)?);
        if a + b == 0.0 {
            return None;
        }
        let squared = (self.mean - other.mean).powi(2) / (a + b);
        let freedom = (a + b).powi(2) / (a * a / (self.n - 1) as f64 + b * b / (other.n - 1) as f64);
        Some(incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + squared)))
    }
}

/// `ln Γ(x)` for x > 0, to about 1e-10: Stirling's series from `x + 8` on, and down from there.
fn ln_gamma(x: f64) -> f64 {
    let down: f64 = (0..8).map(|n| (x + f64::from(n)).ln()).sum();
    let y = x + 8.0;
    let series = 1.0 / (12.0 * y) - 1.0 / (360.0 * y.powi(3)) + 1.0 / (1260.0 * y.powi(5));
    (y - 0.5) * y.ln() - y + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - down
}

/// The regularized incomplete beta function `I_x(a, b)`, by its continued fraction (DLMF 8.17.22).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on one side, and the function is symmetric.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let away_from_0 = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away_from_0(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..300 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for step in [even, odd] {
            d = 1.0 / away_from_0(1.0 + step * d);
            c = away_from_0(1.0 + step / c);
            fraction *= c * d;
        }
        if (fraction / before - 1.0).abs() < 1e-14 {
            break;
        }
    }
    front * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(a: &[f64], b: &[f64]) -> Option<f64> {
        Sample::of(a)?.p_value(&Sample::of(b)?)
    }

    /// The values of Student's density, integrated by Simpson's rule.
    #[test]
    fn p_values_match_the_integral_of_students_density() {
        for (a, b, wanted) in [
            (&[1.0, 2.0, 3.0][..], &[2.0, 3.0, 4.0][..], 0.287_864_134_7),
            (&[1.70, 1.72, 1.69, 1.71, 1.73], &[1.65, 1.66, 1.60, 1.64, 1.68], 0.005_135_711_7),
            (&[0.1, 0.5, 0.9, 0.2], &[10.0, 11.0], 0.016_408_073_7),
        ] {
            let found = p(a, b).unwrap();
            assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
            assert!((found - p(b, a).unwrap()).abs() < 1e-12);
        }
        assert_eq!(p(&[1.0, 2.0], &[1.0, 2.0]), Some(1.0));
        assert_eq!((p(&[1.0], &[1.0, 2.0]), p(&[1.0, 1.0], &[2.0, 2.0])), (None, None));
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let found = Sample::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(found, Sample { n: 3, mean: 2.0, deviation: Some(1.0) });
        assert_eq!(Sample::of(&[4.0]), Some(Sample { n: 1, mean: 4.0, deviation: None }));
        assert_eq!(Sample::of(&[]), None);
    }
}
