//! The progress of a download, for programs to report.

/// The progress of one file.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes received.
    pub n_done: u64,
    /// Bytes in total, if the hub says so.
    pub n_bytes: Option<u64>,
}
