//! Decodes what `pack` has encoded.

use serde_json::Value;

use super::Rows;

fn bytes(text: &str) -> Vec<u8> {
    let code = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let text: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(code).collect();
    let bits = |i: usize| text[i / 6] >> (5 - i % 6) & 1;
    (0..text.len() * 6 / 8).map(|byte| (0..8).fold(0, |all, i| all << 1 | bits(8 * byte + i))).collect()
}

pub(super) fn floats(value: &Value) -> Vec<f64> {
    let bytes = bytes(value.as_str().unwrap());
    bytes.chunks(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect()
}

pub(super) fn rows(value: &Value, width: usize) -> Rows {
    floats(value).chunks(width).map(<[f64]>::to_vec).collect()
}

/// The same as the page's script computes from packed weights.
pub(super) fn weights(text: &Value, mask: &[Vec<bool>]) -> Rows {
    let bytes = bytes(text.as_str().unwrap());
    let bit = |i: usize| u32::from(bytes[i / 8] >> (7 - i % 8) & 1);
    let mut at = 0;
    let mut next = || {
        let code = (0..20).fold(0, |code, i| code << 1 | bit(20 * at + i));
        at += 1;
        f64::from(code) / f64::from((1 << 20) - 1)
    };
    mask.iter().map(|row| row.iter().map(|seen| if *seen { next() } else { 0.0 }).collect()).collect()
}
