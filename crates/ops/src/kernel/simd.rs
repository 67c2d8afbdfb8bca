//! SIMD dispatch at run time: one source, compiled for AVX-512, for AVX2 with FMA, and portably.
//!
//! A kernel is a plain generic loop marked `#[inline(always)]`; [`multiversion!`] compiles it three times and selects
//! one by the processor's features. Sums run in [`LANES`] lanes whatever the register width, so AVX-512 and AVX2 yield
//! the same bits; so does portable code, whose float32 fused multiply-adds go through float64.
#![allow(unsafe_code)]

use super::Float;
use std::sync::OnceLock;

/// Partial sums of a reduction, added up in a fixed order at its end.
pub(crate) const LANES: usize = 16;

/// Whether the portable code has a fused multiply-add in hardware.
pub(crate) const PORTABLE_FMA: bool = cfg!(target_arch = "aarch64");

/// The instruction sets that kernels are written for, the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The environment variable that limits the kernels' instruction set.
const VARIABLE: &str = "VULPES_SIMD";

impl Level {
    /// The best that this processor has.
    fn of_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return if wide { Self::Avx512 } else { Self::Avx2 };
        }
        Self::Portable
    }

    /// The level of a name, if the processor has it.
    fn named(name: &str) -> Result<Self, String> {
        let most = Self::of_processor();
        let named = match name {
            "plain" => Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            "avx2" => Some(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            "avx512" => Some(Self::Avx512),
            _ => None,
        };
        match named {
            Some(level) if level <= most => Ok(level),
            Some(_) => Err(format!(
                "{VARIABLE}={name}: this processor has no {name}; the best it has is {}",
                most.name()
            )),
            None => Err(format!("{VARIABLE}={name}: expected avx512, avx2 or plain")),
        }
    }

    /// Its name in the environment variable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable => "plain",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
        }
    }

    /// The variable's level, else the processor's.
    pub(crate) fn chosen() -> Result<Self, String> {
        match std::env::var_os(VARIABLE) {
            Some(name) => Self::named(&name.to_string_lossy()),
            None => Ok(Self::of_processor()),
        }
    }
}

/// The level that kernels use, determined once.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    // Programs check beforehand, and report what is wrong.
    *LEVEL.get_or_init(|| Level::chosen().unwrap_or_else(|_| Level::of_processor()))
}

/// `fn name = body(args)` defines `name::<T>(args)`, which runs `body::<T, FMA>(args)` compiled for this processor.
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
                    // SAFETY: the processor was checked for exactly these features.
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

/// `x ← f(x)` for each element, by full registers: the rest of a slice is at most a part of one.
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

/// The largest element; −∞ if there are none. A NaN may be skipped: later steps meet it anyway.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_level_is_refused_by_name() {
        assert_eq!(Level::named("plain"), Ok(Level::Portable));
        let most = Level::of_processor();
        assert_eq!(Level::named(most.name()), Ok(most));
        assert_eq!(Level::named("sse9").unwrap_err(), "VULPES_SIMD=sse9: expected avx512, avx2 or plain");
    }
}
