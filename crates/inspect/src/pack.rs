//! Encodes numbers as text for a page: float32 unchanged, weights in steps of 2⁻²⁰.

/// Float32 numbers, little-endian, as base64.
pub(crate) fn floats(numbers: &[f32]) -> String {
    base64(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
}

/// Weights from 0 to 1, each within 2⁻²¹, as base64: two of them in five bytes.
pub(crate) fn weights(weights: &[f32]) -> String {
    const MOST: f64 = ((1 << 20) - 1) as f64;
    let code = |weight: f32| (f64::from(weight).clamp(0.0, 1.0) * MOST).round() as u64;
    let pairs = weights.chunks(2).flat_map(|pair| {
        let bits = code(pair[0]) << 20 | pair.get(1).map_or(0, |second| code(*second));
        bits.to_be_bytes()[3..].to_vec()
    });
    base64(&pairs.collect::<Vec<u8>>())
}

/// [RFC 4648](https://www.rfc-editor.org/rfc/rfc4648).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_rfc_4648() {
        assert_eq!(floats(&[]), "");
        assert_eq!(floats(&[1.0]), "AACAPw==");
        assert_eq!(floats(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(floats(&[0.0, 0.0, 0.0]), "A".repeat(16));
    }

    #[test]
    fn two_weights_take_five_bytes() {
        assert_eq!(weights(&[1.0, 0.0]), base64(&[0xff, 0xff, 0xf0, 0, 0]));
        assert_eq!(weights(&[0.0, 1.0, 1.0]), base64(&[0, 0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xf0, 0, 0]));
    }
}
