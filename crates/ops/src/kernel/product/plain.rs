//! Portable products, for any processor, and for float64 on all of them.
#![allow(unsafe_code)]

use super::bf16;
use super::machine::Machine;
use crate::kernel::Float;
use std::marker::PhantomData;

/// Elements of one type; `FMA` as for [`Float::fma`].
pub(super) struct Numbers<T, const FMA: bool>(PhantomData<T>);
/// Pairs of bfloat16, summed in float32.
pub(super) struct Pairs<const FMA: bool>;

const LANES: usize = 8;

// SAFETY of all that follows: the trait's caller guarantees valid pointers.
impl<T: Float, const FMA: bool> Machine for Numbers<T, FMA> {
    type Number = T;
    type Word = T;
    type Sums = [T; LANES];
    type Words = [T; LANES];
    const LANES: usize = LANES;
    const PER_WORD: usize = 1;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> [T; LANES] {
        [T::default(); LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> [T; LANES] {
        unsafe { from.cast::<[T; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const T) -> [T; LANES] {
        [unsafe { *from }; LANES]
    }
    #[inline(always)]
    unsafe fn step(sums: [T; LANES], a: [T; LANES], b: [T; LANES]) -> [T; LANES] {
        std::array::from_fn(|lane| a[lane].fma::<FMA>(b[lane], sums[lane]))
    }
    #[inline(always)]
    unsafe fn finish(out: *mut T, sums: [T; LANES], scale: T, add: bool) {
        unsafe { finish::<T, FMA>(out, sums, scale, add) }
    }
    #[inline(always)]
    fn word(first: T, _: T) -> T {
        first
    }
    #[inline(always)]
    fn of_halves(first: u16, _: u16) -> T {
        T::of(f64::from(bf16::of_half(first)))
    }
}

impl<const FMA: bool> Machine for Pairs<FMA> {
    type Number = f32;
    type Word = u32;
    type Sums = [f32; LANES];
    type Words = [u32; LANES];
    const LANES: usize = LANES;
    const PER_WORD: usize = 2;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> [f32; LANES] {
        [0.0; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> [u32; LANES] {
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u32) -> [u32; LANES] {
        [unsafe { *from }; LANES]
    }
    #[inline(always)]
    unsafe fn step(sums: [f32; LANES], a: [u32; LANES], b: [u32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| bf16::step::<FMA>(sums[lane], a[lane], b[lane]))
    }
    #[inline(always)]
    unsafe fn finish(out: *mut f32, sums: [f32; LANES], scale: f32, add: bool) {
        unsafe { finish::<f32, FMA>(out, sums, scale, add) }
    }
    #[inline(always)]
    fn word(first: f32, second: f32) -> u32 {
        bf16::pair(first, second)
    }
    #[inline(always)]
    fn of_halves(first: u16, second: u16) -> u32 {
        bf16::pair_of_halves(first, second)
    }
}

#[inline(always)]
unsafe fn finish<T: Float, const FMA: bool>(out: *mut T, sums: [T; LANES], scale: T, add: bool) {
    unsafe {
        let out = std::slice::from_raw_parts_mut(out, LANES);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if add { scale.fma::<FMA>(sum, *out) } else { scale * sum };
        }
    }
}
