//! float32 functions that vectorize: only arithmetic and selections, which LLVM turns into vector code.

/// A fused multiply-add, with or without the instruction.
trait Fused {
    /// `self · b + c`, rounded once.
    fn fused<const FMA: bool>(self, b: f32, c: f32) -> f32;
}

impl Fused for f32 {
    #[inline(always)]
    fn fused<const FMA: bool>(self, b: f32, c: f32) -> f32 {
        if FMA { self.mul_add(b, c) } else { fma_by_f64(self, b, c) }
    }
}

/// `a b + c` rounded once, without the instruction: the product is exact in float64, the sum is rounded there *to odd*,
/// which rounding to float32 then makes right (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
#[inline(always)]
pub(super) fn fma_by_f64(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What the addition lost, exactly (Knuth's two-sum).
    let part = sum - product;
    let lost = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    // The neighbor in the direction of what was lost, if the last bit is even; a NaN or an infinity has lost NaN.
    let towards = if (lost > 0.0) == (sum > 0.0) { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let inexact = lost.abs() > 0.0;
    let odd = if inexact && bits & 1 == 0 { towards } else { bits };
    f64::from_bits(odd) as f32
}

/// `e^x = 2^n e^r` with `n = round(x / ln 2)` and `|r| ≤ ln 2 / 2`, `e^r` by a polynomial of degree 7.
///
/// The test below measures its error.
#[inline(always)]
pub(super) fn exp_f32<const FMA: bool>(x: f32) -> f32 {
    // Beyond these the result is infinite or zero; a NaN passes both comparisons and stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    // Adding 1.5 · 2^23 rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x.fused::<FMA>(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = (-n).fused::<FMA>(0.693_359_4, x);
    let r = (-n).fused::<FMA>(-2.121_944_4e-4, r);
    // The minimax polynomial of Cephes' expf (Moshier).
    let p = 1.987_569_2e-4_f32
        .fused::<FMA>(r, 1.398_199_9e-3)
        .fused::<FMA>(r, 8.333_452e-3)
        .fused::<FMA>(r, 4.166_579_6e-2)
        .fused::<FMA>(r, 1.666_666_6e-1)
        .fused::<FMA>(r, 0.5)
        .fused::<FMA>(r * r, r);
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    // 2^n in two factors: for subnormal results neither factor may itself be subnormal.
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    (p + 1.0) * power(half) * power(n.wrapping_sub(half))
}

/// `erf(x) = x P(x²)` up to 1, and `1 − e^(−x²) Q(|x|)` with the sign of x beyond, until 4, where it is 1.
///
/// Both polynomials are minimax fits of the result's error: P to `erf(√z)/√z` relative to itself, Q to `e^(x²) erfc(x)`
/// weighted by its influence. Both are computed for every element, so that LLVM vectorizes them. The test below
/// measures the error.
#[inline(always)]
pub(super) fn erf_f32<const FMA: bool>(x: f32) -> f32 {
    let z = x * x;
    let near = 7.853_858e-5_f32
        .fused::<FMA>(z, -8.010_192_5e-4)
        .fused::<FMA>(z, 5.188_327_7e-3)
        .fused::<FMA>(z, -2.685_381_1e-2)
        .fused::<FMA>(z, 1.128_358_5e-1)
        .fused::<FMA>(z, -3.761_262_6e-1)
        .fused::<FMA>(z, 1.283_791_7e-1)
        // The first coefficient, 1.128…, minus 1, which is added last, without an error.
        .fused::<FMA>(x, x);
    let size = if x < 0.0 { -x } else { x };
    // A NaN passes the comparison and stays.
    let a = if size > 4.0 { 4.0 } else { size };
    let q = 1.068_428_8e-4_f32
        .fused::<FMA>(a, -1.911_796_5e-3)
        .fused::<FMA>(a, 1.530_225_2e-2)
        .fused::<FMA>(a, -7.275_913e-2)
        .fused::<FMA>(a, 2.305_707e-1)
        .fused::<FMA>(a, -5.188_603e-1)
        .fused::<FMA>(a, 8.627_207e-1)
        .fused::<FMA>(a, -1.079_844_6)
        .fused::<FMA>(a, 9.922_588_5e-1);
    let far = 1.0 - exp_f32::<FMA>(-(a * a)) * q;
    if size < 1.0 { near } else { f32::copysign(far, x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance in units of the last place of the true value.
    fn ulps(found: f32, exact: f64) -> f64 {
        let near = exact.abs() as f32;
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(found) - exact).abs() / ulp
    }

    /// The largest error of `f` against `exact` over every `step`th float of both signs from 2⁻¹² to the ends, and
    /// every 61st of the smaller ones, where both functions are nearly linear; one thread per sign.
    fn largest_error(f: fn(f32) -> f32, exact: fn(f64) -> f64, from_to: [f32; 2], step: usize) -> f64 {
        let smallest = (1.0f32 / 4096.0).to_bits();
        let of = |sign: f32, to: f32| {
            let bits = (0..smallest).step_by(61).chain((smallest..=to.to_bits()).step_by(step));
            bits.map(|bits| sign * f32::from_bits(bits))
                .map(|x| ulps(f(x), exact(f64::from(x))))
                .fold(0f64, f64::max)
        };
        std::thread::scope(|scope| {
            let below = scope.spawn(|| of(-1.0, -from_to[0]));
            of(1.0, from_to[1]).max(below.join().unwrap())
        })
    }

    fn exp_is_within_two_ulp(step: usize) {
        // Beyond these the result is subnormal or infinite.
        let range = [-87.336_5, 88.722_83];
        let error = largest_error(exp_f32::<true>, f64::exp, range, step);
        println!("exp f32: largest error {error:.3} ulp");
        assert!(error < 1.5, "{error}");
    }

    fn erf_is_within_two_ulp(step: usize) {
        let exact = candle_core::cpu::erf::erf_f64;
        let error = largest_error(erf_f32::<true>, exact, [-5.0, 5.0], step);
        println!("erf f32: largest error {error:.3} ulp");
        assert!(error < 2.0, "{error}");
    }

    #[test]
    fn exp_and_erf_are_within_two_ulp_at_every_61st_float() {
        exp_is_within_two_ulp(61);
        erf_is_within_two_ulp(61);
    }

    #[test]
    #[ignore = "long: minutes, for every float"]
    fn exp_and_erf_are_within_two_ulp_at_every_float() {
        exp_is_within_two_ulp(1);
        erf_is_within_two_ulp(1);
    }

    /// Values of all sizes, including those where rounding is critical: halves of a last place, subnormals, infinities.
    fn any_number(stream: &mut vulpes_random::Stream) -> f32 {
        let mut words = [0; 2];
        stream.fill_u32(&mut words);
        let [bits, kind] = words;
        match kind % 4 {
            0 => f32::from_bits(bits),
            1 => f32::from_bits(bits & 0x807f_ffff | 0x3f80_0000),
            2 => f32::from_bits(bits & 0xff80_0003),
            _ => (bits as i32 >> 24) as f32 * 2f32.powi((kind >> 8) as i32 % 60 - 30),
        }
    }

    #[test]
    fn fma_by_f64_equals_the_instruction() {
        let mut stream = vulpes_random::Key::new(1, "fma").stream();
        for _ in 0..3_000_000 {
            let (a, b, c) = (any_number(&mut stream), any_number(&mut stream), any_number(&mut stream));
            // Also where the product nearly cancels the addend, or just doesn't reach its last place.
            for c in [c, -(a * b), c * a * b, a * b * 2f32.powi(24), a * b * 2f32.powi(-24)] {
                let (found, right) = (fma_by_f64(a, b, c), a.mul_add(b, c));
                let same = found.to_bits() == right.to_bits() || found.is_nan() && right.is_nan();
                assert!(same, "fma({a:e}, {b:e}, {c:e}) = {right:e}, not {found:e}");
            }
        }
    }

    #[test]
    fn erf_and_exp_need_no_instruction() {
        let mut stream = vulpes_random::Key::new(2, "fma").stream();
        for _ in 0..1_000_000 {
            let x = any_number(&mut stream);
            for (with, without) in
                [(exp_f32::<true>(x), exp_f32::<false>(x)), (erf_f32::<true>(x), erf_f32::<false>(x))]
            {
                assert!(with.to_bits() == without.to_bits() || with.is_nan() && without.is_nan(), "{x}");
            }
        }
    }

    #[test]
    fn erf_at_the_ends() {
        for erf in [erf_f32::<true>, erf_f32::<false>] {
            assert_eq!([erf(0.0), erf(f32::INFINITY), erf(f32::NEG_INFINITY)], [0.0, 1.0, -1.0]);
            assert!(erf(-0.0).is_sign_negative() && erf(f32::NAN).is_nan());
        }
    }

    #[test]
    fn exp_at_the_ends() {
        for exp in [exp_f32::<true>, exp_f32::<false>] {
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(-1000.0), 0.0);
            assert_eq!(exp(f32::INFINITY), f32::INFINITY);
            assert_eq!(exp(88.73), f32::INFINITY);
            assert!(exp(f32::NAN).is_nan());
            // Subnormal results are within half of their own last place plus one.
            for x in [-88.0f32, -95.0, -100.0, -103.0] {
                let exact = f64::from(x).exp();
                assert!((f64::from(exp(x)) - exact).abs() < 1.5 * f64::from(f32::from_bits(1)), "{x}");
            }
        }
    }
}
