//! Packed factors against the ordinary product, bit for bit.

use super::super::project;
use super::*;
use crate::threads::{Precision, with_precision};
use vulpes_random::Key;

/// The variants that this processor supports.
fn forms() -> Vec<Form> {
    #[allow(unused_mut)]
    let mut forms = vec![PLAIN];
    #[cfg(target_arch = "x86_64")]
    {
        if level() != Level::Portable {
            forms.push(AVX2);
        }
        if level() == Level::Avx512 {
            forms.push(SPLIT);
            if is_x86_feature_detected!("avx512bf16") {
                forms.push(PAIRS);
            }
        }
    }
    forms
}

/// Entire factors and parts of them, in every variant, against the ordinary product.
#[test]
fn packed_factors_are_bit_identical_to_the_product() {
    for (m, n, k) in [(1, 1, 1), (5, 33, 7), (12, 64, 32), (64, 70, 64), (63, 100, 2 * DEPTH + 5)] {
        let mut stream = Key::new(1, "factor").stream();
        let mut numbers = |n: usize| (0..n).map(|_| stream.normal() as f32).collect::<Vec<_>>();
        let (a, b, start) = (numbers(m * k), numbers(n * k), numbers(m * n));
        for turned in [false, true] {
            let left = if turned { View::new(&a, k, m).t() } else { View::new(&a, m, k) };
            let right = if turned { View::new(&b, k, n).t() } else { View::new(&b, n, k) };
            for (write, scale) in [(Write::Store, 1.0), (Write::Add, 0.7)] {
                let mut wanted = start.clone();
                with_precision(Precision::Bfloat16, || {
                    project(&mut wanted, n, write, scale, left, right.t());
                });
                for Form { name, pack, multiply } in forms() {
                    let [mut of_left, mut of_right] = [Side::Left, Side::Right].map(Factor::new);
                    // Allocates buffers and sets sizes, then packs with this variant.
                    of_left.fill(left);
                    of_right.fill(right);
                    let mut out = start.clone();
                    let target = Target {
                        out: out.as_mut_ptr(),
                        stride: n,
                        rows: m,
                        columns: n,
                        scale,
                        add: write == Write::Add,
                    };
                    // SAFETY: the buffers were allocated for these sizes; the processor supports the variant.
                    unsafe {
                        for (factor, view, lines) in [(&mut of_left, left, m), (&mut of_right, right, n)] {
                            let first = factor.first;
                            let to = factor.room[first..].as_mut_ptr().cast();
                            pack(view.t().numbers().0, factor.side, lines, k, to);
                        }
                        multiply(of_left.all(), of_right.all(), &target);
                    }
                    let same = out.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{m} {n} {k} {write:?} {name}, transposed: {turned}");
                }
            }
        }
    }
}

#[test]
fn products_of_parts_are_parts_of_the_product() {
    let (m, n, k) = (20, 75, 90);
    let numbers =
        |n: usize, step: usize| (0..n).map(|i| (i * step % 31) as f32 / 7.0 - 2.0).collect::<Vec<_>>();
    let (a, b) = (numbers(m * k, 11), numbers(n * k, 13));
    let halves: Vec<bf16> = b.iter().map(|x| bf16::from_f32(*x)).collect();
    let product = |left: View<'_, f32>, right: View<'_, f32>| {
        let mut out = vec![0.0; m * right.rows];
        with_precision(Precision::Bfloat16, || {
            project(&mut out, right.rows, Write::Store, 1.0, left, right.t());
        });
        out
    };
    let (mut left, mut right) = (Factor::new(Side::Left), Factor::new(Side::Right));
    left.fill(View::new(&a, m, k));
    right.fill_halves(View::new(&halves, n, k));
    let lines = 32..70;
    let mut out = vec![0.0f32; m * lines.len()];
    multiply(&mut out, lines.len(), Write::Store, 1.0, left.all(), right.lines(lines.clone()));
    assert_eq!(out, product(View::new(&a, m, k), View::new(&b[32 * k..], lines.len(), k)));
    let some = 6..k;
    left.fill(View::strided(&a[6..], m, some.len(), k));
    let mut out = vec![0.0f32; m * n];
    multiply(&mut out, n, Write::Store, 1.0, left.all(), right.numbers(some.clone()));
    assert_eq!(
        out,
        product(View::strided(&a[6..], m, some.len(), k), View::strided(&b[6..], n, some.len(), k))
    );
}
