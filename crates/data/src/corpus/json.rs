//! Messages about faulty JSON lines, with the column as the only position.

/// The JSON library's message without its line number, which is always 1 here, and with clearer terms.
pub(crate) fn fault(error: &serde_json::Error, line: &str) -> String {
    let words = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let words = words.strip_suffix(&place).unwrap_or(&words);
    let column = error.column();
    let about_escape = words.contains("hex escape") || words.contains("surrogate");
    if about_escape && has_lone_surrogate(line) {
        return format!(
            "a lone surrogate (half of a \\uD800–\\uDFFF pair) before column {column} is not a character"
        );
    }
    format!("{words} at column {column}")
}

/// Whether a line contains an escape that is half of a surrogate pair.
fn has_lone_surrogate(line: &str) -> bool {
    let bytes = line.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        (bytes.get(at..at + 2)? == b"\\u").then_some(())?;
        u16::from_str_radix(std::str::from_utf8(bytes.get(at + 2..at + 6)?).ok()?, 16).ok()
    };
    let mut at = 0;
    while at < bytes.len() {
        match unit(at) {
            Some(0xD800..=0xDBFF) => match unit(at + 6) {
                Some(0xDC00..=0xDFFF) => at += 12,
                _ => return true,
            },
            Some(0xDC00..=0xDFFF) => return true,
            Some(_) => at += 6,
            // A backslash and the character after it.
            None => at += if bytes[at] == b'\\' { 2 } else { 1 },
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_faults_name_lone_surrogates_and_columns() {
        let fault_of =
            |line: &str| fault(&serde_json::from_str::<serde_json::Value>(line).unwrap_err(), line);
        for line in
            [r#"{"a": "\ud83d"}"#, r#"{"a": "\ud83d\u0041"}"#, r#"{"a": "x\udc00"}"#, r#"{"a": "\ud83dx"}"#]
        {
            assert!(fault_of(line).starts_with("a lone surrogate"), "{line}: {}", fault_of(line));
        }
        for line in [r#"{"a": "\u12"}"#, r#"{"a" 1}"#, r#"{"a": "\ud83d\udd00\u1"}"#] {
            let words = fault_of(line);
            assert!(
                words.contains("column") && !words.contains("line") && !words.contains("surrogate"),
                "{words}"
            );
        }
    }
}
