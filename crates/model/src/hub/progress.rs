//! What a program can tell of a fetch while it goes on.

/// How far a file has come.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes that are here.
    pub n_done: u64,
    /// Bytes that it has, where the hub says so.
    pub n_bytes: Option<u64>,
}
