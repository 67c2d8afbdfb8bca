//! GPT-2's mapping of bytes to printable characters, both ways.

/// Two bytes that never occur in UTF-8: a merge of them marks a character vocabulary, whose tokens are
/// merged from bytes that are not tokens themselves.
pub const NEVER: [u8; 2] = [0xc0, 0xc1];

fn is_seen(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

fn letter(byte: u8) -> char {
    match is_seen(byte) {
        true => char::from(byte),
        false => {
            let place = (0..byte).filter(|other| !is_seen(*other)).count() as u32;
            char::from_u32(0x100 + place).unwrap_or_default()
        }
    }
}

/// Spells bytes in GPT-2's characters: printable ones are themselves, the others the characters from U+0100 on, in
/// order ([Radford et al.
/// 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
/// `encoder.py`).
pub fn spelled(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| letter(*byte)).collect()
}

/// Inverts [`spelled`]; `None` if a character maps to no byte, or the bytes are not UTF-8.
pub(super) fn unspelled(text: &str) -> Option<String> {
    let byte = |wanted: char| (0..=u8::MAX).find(|byte| letter(*byte) == wanted);
    String::from_utf8(text.chars().map(byte).collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_through_gpt2_characters() {
        assert_eq!(spelled("a b\n\té".as_bytes()), "aĠbĊĉÃ©");
        assert_eq!(spelled(&[0, 0x7f, 0xa0, 0xad]), "ĀġłŃ");
        assert_eq!(unspelled("aĠbĊĉÃ©").as_deref(), Some("a b\n\té"));
        assert_eq!((unspelled("狐"), unspelled("Ã")), (None, None));
    }
}
