//! Recognizes files that are not text by their first bytes, with advice on each.

/// The number of first bytes needed.
pub(crate) const N_HEAD: usize = 64;

/// The first bytes of each kind of file, what it is, and how to make text of it.
const KINDS: [(&[u8], &str, &str); 9] = [
    (b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: unzstd FILE"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it first: unxz FILE"),
    (b"BZh", "compressed with bzip2", "unpack it first: bunzip2 FILE"),
    (b"PK\x03\x04", "a zip archive", "unpack it first: unzip FILE"),
    (b"PAR1", "a Parquet file", "read it with data.kind = \"parquet\""),
    (b"\xff\xfe", "text in UTF-16", "write it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "write it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (
        b"version https://git-lfs.github.com/spec/",
        "a git-lfs pointer instead of the file",
        "fetch the file itself: git lfs pull",
    ),
];

/// What a file that begins with `head` is if it is not text, and what to do about it, from the verb on.
///
/// # Examples
/// ```
/// assert!(vulpes_data::foreign(b"\x1f\x8b\x08").is_some_and(|words| words.contains("gunzip")));
/// assert_eq!(vulpes_data::foreign(b"The quick brown fox"), None);
/// ```
pub fn foreign(head: &[u8]) -> Option<String> {
    let kind = KINDS.iter().find(|(begin, ..)| head.starts_with(begin));
    // Three letters don't distinguish a packed file from text: the level and the block's magic follow them.
    let is_bzip = |head: &[u8]| head.get(4..10) == Some(b"1AY&SY");
    let (_, what, advice) = kind.filter(|(begin, ..)| *begin != b"BZh" || is_bzip(head))?;
    Some(format!("is {what}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        assert!(foreign(b"\x1f\x8b\x08").is_some_and(|words| words.contains("gunzip")));
        assert!(foreign(b"BZh91AY&SY").is_some_and(|words| words.contains("bunzip2")));
        assert!(
            foreign(b"version https://git-lfs.github.com/spec/v1")
                .is_some_and(|w| w.contains("git lfs pull"))
        );
        for text in ["BZhou is a name", "PARIS", "version 1", "", "\u{feff}The fox"] {
            assert_eq!(foreign(text.as_bytes()), None, "{text}");
        }
    }
}
