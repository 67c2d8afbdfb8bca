//! Every form of a product against its definition, to the bit.

use super::blocked::{DEPTH, Product, product};
use super::dispatch::Form;
use super::machine::Machine;
use super::*;
use crate::threads::with_kernel_threads;
use vulpes_random::Key;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Key::new(seed, "matmul").stream();
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// The definition of the module's first lines, element by element.
fn by_definition<T: Float>(
    start: &[T],
    write: Write,
    scale: T,
    (a, b): (View<'_, T>, View<'_, T>),
    step: impl Fn(T, &[(T, T)]) -> T,
    per_word: usize,
) -> Vec<T> {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let mut out = start.to_vec();
    for (at, out) in out.iter_mut().enumerate().take(m * n) {
        let (r, c) = (at / n, at % n);
        let factor = |s: usize| (a.data[r * a.row + s * a.column], b.data[s * b.row + c * b.column]);
        let factors: Vec<(T, T)> = (0..k).map(factor).collect();
        let mut add = write == Write::Add;
        let blocks: Vec<&[(T, T)]> = factors.chunks(DEPTH * per_word).collect();
        for block in if blocks.is_empty() { vec![&[][..]] } else { blocks } {
            let sum = block.chunks(per_word).fold(T::default(), &step);
            *out = if add { scale.fma::<true>(sum, *out) } else { scale * sum };
            add = true;
        }
    }
    out
}

fn single<T: Float>(sum: T, word: &[(T, T)]) -> T {
    word[0].0.fma::<true>(word[0].1, sum)
}

fn pair(sum: f32, word: &[(f32, f32)]) -> f32 {
    let second = word.get(1).copied().unwrap_or_default();
    bf16::step::<true>(sum, bf16::pair(word[0].0, second.0), bf16::pair(word[0].1, second.1))
}

/// What one word of both factors adds to a sum.
type Step = fn(f32, &[(f32, f32)]) -> f32;

/// The plain form without the processor's instructions, and what else this processor has.
fn forms(precision: Precision) -> Vec<Form> {
    let mut forms: Vec<Form> = match precision {
        Precision::Float32 => vec![("plain", product::<plain::Numbers<f32, false>>)],
        Precision::Bfloat16 => vec![("plain", product::<plain::Pairs<false>>)],
    };
    forms.extend(dispatch::forms(precision));
    forms
}

/// Sizes at the edges of tiles, panels, blocks and of what is read where it lies.
const SIZES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (1, 5, 0),
    (3, 2, 7),
    (4, 16, 33),
    (5, 17, 16),
    (9, 33, 48),
    (12, 32, 40),
    (13, 65, 31),
    (28, 64, DEPTH),
    (64, 48, 37),
    (68, 16, 35),
    (241, 40, DEPTH + 1),
    (7, 300, 2 * DEPTH + 3),
    (253, 70, 2 * DEPTH + 65),
];

#[test]
fn every_form_gives_the_bits_of_the_definition() {
    for precision in [Precision::Float32, Precision::Bfloat16] {
        for (m, n, k) in SIZES {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let lefts = [View::new(&a, m, k), View::new(&a, k, m).t()];
            let rights = [View::new(&b, k, n), View::new(&b, n, k).t()];
            for (left, right) in lefts.into_iter().flat_map(|left| rights.map(|right| (left, right))) {
                for (write, scale) in [(Write::Store, 1.0), (Write::Add, 0.7)] {
                    let (step, per_word): (Step, _) =
                        if precision == Precision::Float32 { (single, 1) } else { (pair, 2) };
                    let right_bits = by_definition(&start, write, scale, (left, right), step, per_word);
                    for (name, form) in forms(precision) {
                        let mut out = start.clone();
                        let whole = Product {
                            sizes: (m, k, n),
                            a: Lines { start: left.data.as_ptr(), line: left.row, step: left.column },
                            b: Lines { start: right.data.as_ptr(), line: right.column, step: right.row },
                            out: out.as_mut_ptr(),
                            stride: n,
                            scale,
                            add: write == Write::Add,
                        };
                        // SAFETY: the views fit, and `forms` gives only what the processor has.
                        unsafe { form(&whole) };
                        let of = format!("{precision:?} {m} {n} {k} {write:?} {name}");
                        assert!(out.iter().zip(&right_bits).all(|(a, b)| a.to_bits() == b.to_bits()), "{of}");
                    }
                }
            }
        }
    }
}

#[test]
fn float64_is_its_definition() {
    for (m, n, k) in SIZES {
        let wide = |x: Vec<f32>| -> Vec<f64> { x.into_iter().map(f64::from).collect() };
        let (a, b, start) = (wide(numbers(m * k, 1)), wide(numbers(k * n, 2)), wide(numbers(m * n, 3)));
        let views = (View::new(&a, m, k), View::new(&b, n, k).t());
        let mut out = start.clone();
        matmul(&mut out, n, Write::Add, 0.7, views.0, views.1);
        assert!(out == by_definition(&start, Write::Add, 0.7, views, single, 1), "{m} {n} {k}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    for (m, n, k) in [(1, 768, 768), (64, 64, 64), (129, 257, 511), (512, 768, 3072), (768, 2304, 512)] {
        let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
        for precision in [Precision::Float32, Precision::Bfloat16] {
            let run = |threads: usize| {
                let mut out = start.clone();
                with_kernel_threads(threads, || {
                    let views = (View::new(&a, m, k), View::new(&b, n, k).t());
                    in_precision(precision, &mut out, n, Write::Add, 0.7, views);
                });
                out
            };
            let one = run(1);
            for threads in [2, 3, 4, 7, 16] {
                assert!(one == run(threads), "{m} {n} {k} {precision:?} with {threads} threads");
            }
        }
    }
}

#[test]
fn strides_transposes_and_empty_sizes() {
    // [[1, 2], [3, 4]] inside rows of three, times its transpose.
    let a = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
    let view = View::strided(&a, 2, 2, 3);
    let mut out = [7.0; 8];
    matmul(&mut out, 4, Write::Store, 1.0, view, view.t());
    assert_eq!(out, [5.0, 11.0, 7.0, 7.0, 11.0, 25.0, 7.0, 7.0]);
    let mut out = [7.0; 4];
    matmul(&mut out, 2, Write::Store, 1.0, View::new(&[], 2, 0), View::new(&[], 0, 2));
    assert_eq!(out, [0.0; 4]);
    matmul::<f64>(&mut [], 2, Write::Store, 1.0, View::new(&[], 0, 2), View::new(&[0.0; 4], 2, 2));
}

/// Numbers of all sizes, with subnormal and infinite ones and ties between two bfloat16.
fn any_number(stream: &mut vulpes_random::Stream) -> f32 {
    let mut words = [0; 2];
    stream.fill_u32(&mut words);
    match words[1] % 4 {
        0 => f32::from_bits(words[0]),
        1 => f32::from_bits(words[0] & 0x807f_ffff),
        2 => f32::from_bits(words[0] & 0xbfff_8000),
        _ => f32::from_bits(words[0] & 0x87ff_ffff | 0x3800_0000),
    }
}

#[test]
fn rounding_to_bfloat16_is_half_s() {
    let mut stream = Key::new(1, "rounding").stream();
    for _ in 0..1_000_000 {
        let (x, y) = (any_number(&mut stream), any_number(&mut stream));
        // Subnormal numbers are taken and given as zeros here.
        let rounded = |x: f32| {
            let x = if x.is_subnormal() { x * 0.0 } else { x };
            u32::from(half::bf16::from_f32(x).to_bits())
        };
        assert_eq!(bf16::pair(x, y), rounded(y) << 16 | rounded(x), "{x:e} {y:e}");
    }
}

/// A step of pairs is the same in every form, also on subnormal numbers and infinities.
#[test]
fn pairs_step_alike_at_the_ends() {
    let mut stream = Key::new(2, "steps").stream();
    for _ in 0..200_000 {
        let numbers: [f32; 4] = std::array::from_fn(|_| any_number(&mut stream));
        let [a0, a1, b0, b1] = numbers;
        let right = bf16::step::<true>(0.0, bf16::pair(a0, a1), bf16::pair(b0, b1));
        for (name, form) in forms(Precision::Bfloat16) {
            let mut out = [0.0];
            let (a, b) = ([a0, a1], [b0, b1]);
            let line = |x: &[f32; 2]| Lines { start: x.as_ptr(), line: 2, step: 1 };
            let (a, b) = (line(&a), line(&b));
            let whole =
                Product { sizes: (1, 2, 1), a, b, out: out.as_mut_ptr(), stride: 1, scale: 1.0, add: false };
            // SAFETY: one row, one column, two steps; `forms` gives only what the processor has.
            unsafe { form(&whole) };
            // `scale ·` a sum may make a negative zero of none; a NaN's bits are its own.
            let same = out[0] == right || out[0].is_nan() && right.is_nan();
            assert!(same, "{numbers:?}: {name} gives {:e}, not {right:e}", out[0]);
        }
    }
}

/// A machine's tiles have to fit into panels: 12, 8 and 4 rows, and 32 columns.
#[test]
fn tiles_fit_into_panels() {
    fn check<M: Machine>() {
        assert!([6, 12].contains(&M::ROWS) && machine::COLUMNS.is_multiple_of(2 * M::LANES));
    }
    check::<plain::Numbers<f64, true>>();
    check::<plain::Pairs<true>>();
    #[cfg(target_arch = "x86_64")]
    {
        check::<avx2::Single>();
        check::<avx2::Pairs>();
        check::<avx512::Single>();
        check::<avx512::Pairs>();
        check::<avx512::SplitPairs>();
    }
}
