//! Every variant of the product against its definition, bit for bit.

use super::blocked::{DEPTH, Product, Right, product};
use super::dispatch::Form;
use super::machine::Machine;
use super::*;
use crate::threads::with_kernel_threads;
use vulpes_random::Key;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Key::new(seed, "matmul").stream();
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// The nearest bfloat16 values.
fn halved(x: Vec<f32>) -> Vec<f32> {
    x.into_iter().map(|x| Half::from_f32(x).to_f32()).collect()
}

/// The definition in the module's documentation, element by element.
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

/// Adds the product of one word of each factor to a sum.
type Step = fn(f32, &[(f32, f32)]) -> f32;

/// The portable variant, and all others that this processor supports.
fn forms(precision: Precision) -> Vec<Form> {
    let mut forms: Vec<Form> = match precision {
        Precision::Float32 => vec![("plain", product::<plain::Numbers<f32, false>>)],
        Precision::Bfloat16 => vec![("plain", product::<plain::Pairs<false>>)],
    };
    forms.extend(dispatch::forms(precision));
    forms
}

/// Sizes at the edges of tiles, panels, blocks and stretches, and at the limit for unpacked factors.
const SIZES: [(usize, usize, usize); 16] = [
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
    (5, 35, 2 * STRETCH + 3),
    (241, 1, STRETCH + 1),
];

/// Elements of the inner dimension that are packed at a time in the product of a vocabulary head's backward pass.
const STRETCH: usize = 22 * DEPTH;

#[test]
fn every_variant_is_bit_identical_to_the_definition() {
    for precision in [Precision::Float32, Precision::Bfloat16] {
        for (m, n, k) in SIZES {
            let (a, b, start) = (numbers(m * k, 1), halved(numbers(k * n, 2)), numbers(m * n, 3));
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
                            b: right.numbers().0,
                            out: out.as_mut_ptr(),
                            stride: n,
                            scale,
                            add: write == Write::Add,
                        };
                        // SAFETY: the views fit, and `forms` returns only what the processor supports.
                        unsafe { form(&whole) };
                        let of = format!("{precision:?} {m} {n} {k} {write:?} {name}");
                        let same = |out: &[f32]| {
                            out.iter().zip(&right_bits).all(|(a, b)| a.to_bits() == b.to_bits())
                        };
                        assert!(same(&out), "{of}");
                        // The values are exact in bfloat16: a factor of that type has the same product.
                        let halves: Vec<Half> = right.data.iter().map(|x| Half::from_f32(*x)).collect();
                        out.copy_from_slice(&start);
                        let lines =
                            Lines { start: halves.as_ptr().cast(), line: right.column, step: right.row };
                        let whole = Product { b: Right::Halves(lines), out: out.as_mut_ptr(), ..whole };
                        // SAFETY: as above.
                        unsafe { form(&whole) };
                        assert!(same(&out), "{of}, a factor in bfloat16");
                    }
                }
            }
        }
    }
}

#[test]
fn float64_products_equal_the_definition() {
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
fn results_are_bit_identical_on_any_number_of_threads() {
    for (m, n, k) in [(1, 768, 768), (64, 64, 64), (129, 257, 511), (512, 768, 3072), (768, 2304, 512)] {
        let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
        for precision in [Precision::Float32, Precision::Bfloat16] {
            let run = |threads: usize| {
                let mut out = start.clone();
                with_kernel_threads(threads, || {
                    let views = (View::new(&a, m, k), View::new(&b, n, k).t());
                    in_precision(precision, &mut out, n, Write::Add, 0.7, (views.0, views.1.numbers()));
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
fn strided_transposed_and_empty_views_are_multiplied() {
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

/// Values of all magnitudes, including subnormals, infinities and ties between two bfloat16 values.
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
fn bfloat16_rounding_matches_the_half_crate() {
    let mut stream = Key::new(1, "rounding").stream();
    for _ in 0..1_000_000 {
        let (x, y) = (any_number(&mut stream), any_number(&mut stream));
        // Subnormal inputs and results are flushed to zero here.
        let rounded = |x: f32| {
            let x = if x.is_subnormal() { x * 0.0 } else { x };
            u32::from(half::bf16::from_f32(x).to_bits())
        };
        assert_eq!(bf16::pair(x, y), rounded(y) << 16 | rounded(x), "{x:e} {y:e}");
    }
}

/// Pairs are multiplied the same by every variant, also subnormals and infinities, in tiles of every size.
#[test]
fn pairs_agree_on_subnormals_and_infinities() {
    let mut stream = Key::new(2, "steps").stream();
    let mut n_small = 0;
    for (round, (m, k, n)) in
        [(1, 2, 1), (14, 2, 35), (8, 3, 16), (12, 4, 33)].into_iter().cycle().take(800).enumerate()
    {
        let mut drawn = |n: usize| -> Vec<f32> { (0..n).map(|_| any_number(&mut stream)).collect() };
        let (a, b) = (drawn(m * k), drawn(n * k));
        let (left, right) = (View::new(&a, m, k), View::new(&b, n, k).t());
        let wanted = by_definition(&vec![0.0; m * n], Write::Store, 1.0, (left, right), pair, 2);
        n_small += wanted.iter().filter(|x| x.abs() < 1e-30).count();
        for (name, form) in forms(Precision::Bfloat16) {
            let mut out = vec![0.0; m * n];
            let whole = Product {
                sizes: (m, k, n),
                a: Lines { start: a.as_ptr(), line: k, step: 1 },
                b: right.numbers().0,
                out: out.as_mut_ptr(),
                stride: n,
                scale: 1.0,
                add: false,
            };
            // SAFETY: the views fit, and `forms` returns only what the processor supports.
            unsafe { form(&whole) };
            for (at, (found, wanted)) in out.iter().zip(&wanted).enumerate() {
                // `scale ·` a sum may change the sign of a zero; the bits of a NaN may differ.
                let same = found == wanted || found.is_nan() && wanted.is_nan();
                assert!(same, "{round}, {name}, {at}: {found:e}, expected {wanted:e}");
            }
        }
    }
    assert!(n_small > 1000, "{n_small}");
}

/// The mode of the processor is what it was after a product in another one: subnormals are numbers.
#[test]
fn products_leave_subnormals_to_others() {
    let (a, b) = (halved(numbers(12 * 4, 1)), halved(numbers(4 * 32, 2)));
    for (_, form) in forms(Precision::Bfloat16) {
        let mut out = vec![0.0; 12 * 32];
        let right = View::new(&b, 4, 32);
        let whole = Product {
            sizes: (12, 4, 32),
            a: Lines { start: a.as_ptr(), line: 4, step: 1 },
            b: right.numbers().0,
            out: out.as_mut_ptr(),
            stride: 32,
            scale: 1.0,
            add: false,
        };
        // SAFETY: the views fit, and `forms` returns only what the processor supports.
        unsafe { form(&whole) };
        let small = std::hint::black_box(f32::MIN_POSITIVE);
        assert!(small * 0.5 > 0.0 && std::hint::black_box(small * 0.5) * 2.0 == small);
    }
}

/// A machine's tiles must divide panels of 12, 8 and 4 rows, and of 32 columns.
#[test]
fn tiles_divide_panels() {
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
