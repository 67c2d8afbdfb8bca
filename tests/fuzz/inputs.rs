//! Fuzz inputs: mutated valid inputs, and random inputs from bytes typical of the format, reproducible by number.

use vulpes_random::{Key, Stream};

/// More than any of these inputs (up to ten kilobytes) needs: a reader that takes more trusted a number in a header.
const MOST_BYTES: u64 = 1 << 30;

/// Numbers that readers use as sizes, offsets and counts.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "255",
    "65536",
    "2147483647",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999",
    "1e308",
    "1e999",
    "0.5",
];

/// Calls `read` with `n` inputs made from `seeds`, and checks that no memory was allocated for a claimed size.
pub(super) fn feed(
    target: &str,
    n: u64,
    seeds: &[Vec<u8>],
    fond_of: &[u8],
    mut read: impl FnMut(&[u8], u64),
) {
    let key = Key::new(11, "fuzz").with(target);
    let before = memory();
    for number in 0..n {
        let mut draw = key.row(number);
        let input = if draw.below(2) == 0 { mutated(seeds, &mut draw) } else { made_up(fond_of, &mut draw) };
        let told = Told { target, number };
        read(&input, number);
        drop(told);
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < MOST_BYTES, "{target}: {grown} bytes were taken");
    eprintln!("{target}: {n} inputs, memory's peak grew by {} MiB", grown >> 20);
}

/// Says which input it was if reading it panics.
struct Told<'a> {
    target: &'a str,
    number: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: input {} made the reader panic", self.target, self.number);
        }
    }
}

/// The peak memory of this process; 0 if unknown.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

fn mutated(seeds: &[Vec<u8>], draw: &mut Stream) -> Vec<u8> {
    let pick = |draw: &mut Stream| seeds[draw.below(seeds.len() as u64) as usize].clone();
    let mut bytes = pick(draw);
    for _ in 0..1 + draw.below(4) {
        let n = bytes.len() as u64;
        let at = draw.below(n.max(1)) as usize;
        let end = (at + draw.below(16) as usize).min(bytes.len());
        match draw.below(8) {
            0 if n > 0 => bytes[at] = draw.next_u32() as u8,
            1 if n > 0 => bytes[at] ^= 1 << draw.below(8),
            2 => drop(bytes.drain(at.min(bytes.len())..end)),
            3 => {
                let part = bytes[at.min(bytes.len())..end].to_vec();
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), part);
            }
            4 => bytes.truncate(at),
            5 | 6 => number(&mut bytes, at, draw),
            _ => {
                let other = pick(draw);
                let from = draw.below(other.len().max(1) as u64) as usize;
                bytes.truncate(at);
                bytes.extend(&other[from.min(other.len())..]);
            }
        }
    }
    bytes
}

/// Replaces the first number from `at` on by another.
fn number(bytes: &mut Vec<u8>, at: usize, draw: &mut Stream) {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(start) = rest.iter().position(u8::is_ascii_digit).map(|start| at + start) else { return };
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let other = NUMBERS[draw.below(NUMBERS.len() as u64) as usize];
    bytes.splice(start..start + length, other.bytes());
}

fn made_up(fond_of: &[u8], draw: &mut Stream) -> Vec<u8> {
    let n = draw.below(200);
    let byte = |draw: &mut Stream| match draw.below(8) {
        0 => draw.next_u32() as u8,
        _ => fond_of[draw.below(fond_of.len() as u64) as usize],
    };
    (0..n).map(|_| byte(draw)).collect()
}
