//! SIMD chosen at run time: one source, compiled for AVX-512, for AVX2 with FMA, and portably.
//!
//! A kernel is a plain generic loop marked `#[inline(always)]`; [`multiversion!`] compiles it three times and picks
//! one by what the processor has. Sums run in [`LANES`] lanes whatever the width of a register is, so AVX-512 and
//! AVX2 give the same bits; portable code has no fused multiply-add and may differ in the last.
#![allow(unsafe_code)]

use super::Float;
use std::sync::OnceLock;

/// Partial sums of a reduction, added up in a fixed order at its end.
pub(crate) const LANES: usize = 16;

/// Whether the portable code has a fused multiply-add in hardware.
pub(crate) const PORTABLE_FMA: bool = cfg!(target_arch = "aarch64");

/// What the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// What the processor has, asked once.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if wide { Level::Avx512 } else { Level::Avx2 };
        }
        Level::Portable
    })
}

/// `fn name = body(args)` makes `name::<T>(args)`, which runs `body::<T, FMA>(args)` compiled for this processor.
macro_rules! multiversion {
    ($($(#[$meta:meta])* fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?;)*) => { $(
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        pub(crate) fn $name<T: $crate::kernel::Float>($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512<T: $crate::kernel::Float>($($arg: $type),*) $(-> $result)? {
                    $body::<T, true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<T: $crate::kernel::Float>($($arg: $type),*) $(-> $result)? {
                    $body::<T, true>($($arg),*)
                }
                match $crate::kernel::simd::level() {
                    // SAFETY: the processor was asked for exactly these features.
                    $crate::kernel::simd::Level::Avx512 => return unsafe { avx512::<T>($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::simd::Level::Avx2 => return unsafe { avx2::<T>($($arg),*) },
                    $crate::kernel::simd::Level::Portable => {}
                }
            }
            $body::<T, { $crate::kernel::simd::PORTABLE_FMA }>($($arg),*)
        }
    )* };
}
pub(crate) use multiversion;

/// Adds the lanes up, always in the same order.
#[inline(always)]
pub(crate) fn join<T: Float>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] += other;
        }
        width /= 2;
    }
    lanes[0]
}

/// `x ← f(x)` for each element, whole registers at a time: what a slice leaves over is at most a part of one.
#[inline(always)]
pub(crate) fn map<T: Float>(x: &mut [T], f: impl Fn(T) -> T) {
    let mut chunks = x.chunks_exact_mut(LANES);
    for x in &mut chunks {
        for x in x.iter_mut() {
            *x = f(*x);
        }
    }
    for x in chunks.into_remainder() {
        *x = f(*x);
    }
}

/// `Σ f(partial, a)` in lanes: `f` adds one term to a partial sum.
#[inline(always)]
pub(crate) fn reduce<T: Float>(a: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::default(); LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder();
    for a in chunks {
        for lane in 0..LANES {
            lanes[lane] = f(lanes[lane], a[lane]);
        }
    }
    for (lane, &a) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, a);
    }
    join(lanes)
}

/// [`reduce`] over two slices of one length.
#[inline(always)]
pub(crate) fn reduce2<T: Float>(a: &[T], b: &[T], f: impl Fn(T, T, T) -> T) -> T {
    let mut lanes = [T::default(); LANES];
    let (chunks_a, chunks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = chunks_a.remainder().iter().zip(chunks_b.remainder());
    for (lane, (&a, &b)) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, a, b);
    }
    for (a, b) in chunks_a.zip(chunks_b) {
        for lane in 0..LANES {
            lanes[lane] = f(lanes[lane], a[lane], b[lane]);
        }
    }
    join(lanes)
}

/// The greatest of the elements; −∞ where there are none. A NaN may or may not win: what follows meets it anyway.
#[inline(always)]
pub(crate) fn greatest<T: Float>(a: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder();
    for a in chunks {
        for lane in 0..LANES {
            lanes[lane] = if a[lane] > lanes[lane] { a[lane] } else { lanes[lane] };
        }
    }
    let mut greatest = T::NEG_INFINITY;
    for &a in lanes.iter().chain(rest) {
        greatest = if a > greatest { a } else { greatest };
    }
    greatest
}
