//! Chooses the instruction set of a product, and splits it across threads.
#![allow(unsafe_code)]

use super::blocked::{Product, product};
use super::machine::COLUMNS;
use super::plain;
use crate::kernel::Float;
use crate::kernel::simd::{Level, PORTABLE_FMA, level};
use crate::kernel::team;
use crate::threads::{Precision, kernel_threads};
use candle_core::DType;

/// `fn name = Machine with "features"`: a product compiled for these features.
macro_rules! compiled {
    ($($name:ident = $machine:ty, $features:literal;)*) => { $(
        #[target_feature(enable = $features)]
        #[cfg(target_arch = "x86_64")]
        unsafe fn $name(whole: &Product<<$machine as super::machine::Machine>::Number>) {
            // SAFETY: the caller's promise; the features are named above.
            unsafe { product::<$machine>(whole) }
        }
    )* };
}

compiled! {
    single_avx512 = super::avx512::Single, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma";
    pairs_avx512 = super::avx512::Pairs, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma";
    split_pairs_avx512 = super::avx512::SplitPairs, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma";
    double_avx512 = plain::Numbers<f64, true>, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma";
    single_avx2 = super::avx2::Single, "avx2,fma";
    pairs_avx2 = super::avx2::Pairs, "avx2,fma";
    double_avx2 = plain::Numbers<f64, true>, "avx2,fma";
}

/// Runs a product on this thread; float64 ignores the precision.
///
/// # Safety
/// As for [`product`], on any processor.
unsafe fn multiply<T: Float>(whole: &Product<T>, precision: Precision) {
    let whole = std::ptr::from_ref(whole);
    // SAFETY: [`Float`] is implemented only for these two types, and the dtype tells which one `T` is.
    unsafe {
        match T::DTYPE {
            DType::F32 => single(&*whole.cast(), precision),
            _ => double(&*whole.cast()),
        }
    }
}

/// # Safety
/// As for [`multiply`].
unsafe fn single(whole: &Product<f32>, precision: Precision) {
    // SAFETY: exactly these features were detected; the rest is the caller's promise.
    unsafe {
        match (level(), precision) {
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Precision::Float32) => single_avx512(whole),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Precision::Bfloat16) if is_x86_feature_detected!("avx512bf16") => {
                pairs_avx512(whole);
            }
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Precision::Bfloat16) => split_pairs_avx512(whole),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, Precision::Float32) => single_avx2(whole),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, Precision::Bfloat16) => pairs_avx2(whole),
            (Level::Portable, Precision::Float32) => product::<plain::Numbers<f32, PORTABLE_FMA>>(whole),
            (Level::Portable, Precision::Bfloat16) => product::<plain::Pairs<PORTABLE_FMA>>(whole),
        }
    }
}

/// # Safety
/// As for [`multiply`].
unsafe fn double(whole: &Product<f64>) {
    // SAFETY: as above.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => double_avx512(whole),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => double_avx2(whole),
            Level::Portable => product::<plain::Numbers<f64, PORTABLE_FMA>>(whole),
        }
    }
}

/// Minimum number of multiplications per thread.
const GRAIN: usize = 64 * 64 * 64;
/// The result is split at multiples of this many rows.
const ROWS: usize = 12;

/// A part of a product on another thread.
struct Piece<T>(Product<T>);

// SAFETY: the pieces of one product write rectangles that don't overlap, and the factors are only read; the
// caller borrows everything until all pieces are done.
unsafe impl<T: Float> Send for Piece<T> {}

impl<T: Float> Piece<T> {
    /// # Safety
    /// As for [`product`].
    unsafe fn run(&self, precision: Precision) {
        // SAFETY: the caller's promise.
        unsafe { multiply(&self.0, precision) }
    }
}

/// Runs a product on the kernel's threads: each computes a rectangle of the result and packs its part of both factors,
/// so the rectangles are as square as the number of threads allows.
///
/// # Safety
/// As for [`product`].
pub(super) unsafe fn shared_out<T: Float>(whole: &Product<T>, precision: Precision) {
    let (m, k, n) = whole.sizes;
    let worth = (m.saturating_mul(n).saturating_mul(k)).div_ceil(GRAIN);
    let (down, across) = grid(kernel_threads().min(worth), (m, n));
    if down * across <= 1 {
        // SAFETY: the caller's promise.
        return unsafe { multiply(whole, precision) };
    }
    let rows = |part: usize| (part * m.div_ceil(ROWS) / down * ROWS).min(m);
    let columns = |part: usize| (part * n.div_ceil(COLUMNS) / across * COLUMNS).min(n);
    let places = (0..down).flat_map(|i| (0..across).map(move |j| (i, j)));
    let pieces = places.map(|(i, j)| {
        // SAFETY: both corners are inside the product.
        Piece(unsafe { whole.part(rows(i)..rows(i + 1), columns(j)..columns(j + 1)) })
    });
    // SAFETY: the caller's promise, of each piece.
    team::each(&mut pieces.collect::<Vec<_>>(), &|piece| unsafe { piece.run(precision) });
}

/// Into how many parts to split rows and columns: as many in total as possible, then with the least to pack.
fn grid(threads: usize, (m, n): (usize, usize)) -> (usize, usize) {
    let (most_down, most_across) = (m.div_ceil(ROWS), n.div_ceil(COLUMNS));
    let shapes = (1..=threads.min(most_down)).map(|down| (down, (threads / down).clamp(1, most_across)));
    shapes.min_by_key(|&(down, across)| (usize::MAX - down * across, m / down + n / across)).unwrap_or((1, 1))
}

/// A named variant of the product.
#[cfg(test)]
pub(super) type Form = (&'static str, unsafe fn(&Product<f32>));

/// All variants that this processor supports, regardless of which [`single`] would choose.
#[cfg(test)]
#[allow(unused_mut, unused_variables)]
pub(super) fn forms(precision: Precision) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let single = precision == Precision::Float32;
        if level() != Level::Portable {
            forms.push(("AVX2", if single { single_avx2 } else { pairs_avx2 }));
        }
        if level() == Level::Avx512 {
            forms.push(("AVX-512", if single { single_avx512 } else { split_pairs_avx512 }));
            if !single && is_x86_feature_detected!("avx512bf16") {
                forms.push(("AVX512-BF16", pairs_avx512));
            }
        }
    }
    forms
}
