//! Plain text: checked as UTF-8 and split into documents, block by block.

use std::io::Read;

use super::files::Source;
use super::{Document, LONGEST_MB, Reading, WHOLE_MB};
use crate::config::DocumentConfig;
use crate::error::{Error, Result};

/// How many bytes are read at once.
const BLOCK: usize = 1 << 18;

/// Passes on the documents of a text file.
pub(super) fn read(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    let mut blocks = Blocks::open(source)?;
    let document = &reading.config.document;
    let mut splitter = Splitter { document, reading, line: 1, has_part: false };
    let is_whole = *document == DocumentConfig::File && reading.look.is_some();
    let limit_mb = if is_whole { WHOLE_MB } else { LONGEST_MB };
    loop {
        let at_end = blocks.fill()?;
        blocks.drop_mark();
        let used = splitter.split(blocks.text(), blocks.offset, at_end, each)?;
        if used == 0 && blocks.bytes.len() as u64 > limit_mb << 20 {
            return Err(Error::TooLong { path: source.path.clone(), limit_mb });
        }
        if at_end {
            return Ok(());
        }
        blocks.consume(used);
    }
}

struct Splitter<'a> {
    document: &'a DocumentConfig,
    reading: &'a Reading<'a>,
    line: u64,
    /// Whether a part of the current document was passed on.
    has_part: bool,
}

impl Splitter<'_> {
    /// Passes on what is complete of `text`, which is at `offset` in its file; returns how many bytes that took.
    fn split(
        &mut self,
        text: &str,
        offset: u64,
        at_end: bool,
        each: &mut dyn FnMut(Document<'_>) -> Result<()>,
    ) -> Result<usize> {
        let document = |text, line, last, end: usize| Document {
            text,
            pair: None,
            label: None,
            line,
            last,
            skipped: 0,
            read: offset + end as u64,
        };
        match self.document {
            DocumentConfig::File if at_end => {
                if self.has_part || !text.trim().is_empty() {
                    each(document(text, 1, true, text.len()))?;
                }
                Ok(text.len())
            }
            DocumentConfig::File => {
                let (used, skipped) = match self.reading.look {
                    Some(look) => look(text).unwrap_or_default(),
                    None => (self.reading.cut.last(text).unwrap_or(0), 0),
                };
                if used > 0 {
                    each(Document { skipped, ..document(&text[..used], 1, false, used) })?;
                    self.has_part = true;
                }
                Ok(used + skipped)
            }
            DocumentConfig::Line | DocumentConfig::Marker(_) => {
                let marker = match self.document {
                    DocumentConfig::Marker(marker) => marker.as_str(),
                    _ => "\n",
                };
                let mut used = 0;
                loop {
                    let rest = &text[used..];
                    let (len, taken) = match rest.find(marker) {
                        Some(at) => (at, at + marker.len()),
                        None if at_end => (rest.len(), rest.len()),
                        None => return Ok(used),
                    };
                    let one = &rest[..len];
                    let one = if marker == "\n" { one.strip_suffix('\r').unwrap_or(one) } else { one };
                    if !one.trim().is_empty() {
                        each(document(one, self.line, true, used + taken))?;
                    }
                    self.line +=
                        rest.as_bytes()[..taken].iter().filter(|&&byte| byte == b'\n').count() as u64;
                    used += taken;
                    if taken == rest.len() && (at_end || taken == 0) {
                        return Ok(used);
                    }
                }
            }
        }
    }
}

/// A file as growing blocks of checked text.
struct Blocks<'a> {
    source: &'a Source,
    reader: Box<dyn Read>,
    bytes: Vec<u8>,
    /// How many bytes of `bytes` are known to be UTF-8.
    n_valid: usize,
    /// The offset of `bytes` in the file.
    offset: u64,
}

impl<'a> Blocks<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        Ok(Self { source, reader: source.open()?, bytes: Vec::new(), n_valid: 0, offset: 0 })
    }

    /// Reads one more block; returns whether the file is at its end.
    fn fill(&mut self) -> Result<bool> {
        // Growth is by the size of the open document, so that scanning it again stays cheap.
        let more = BLOCK.max(self.bytes.len());
        let before = self.bytes.len();
        (&mut self.reader)
            .take(more as u64)
            .read_to_end(&mut self.bytes)
            .map_err(|source| Error::read(&self.source.path, source))?;
        let at_end = self.bytes.len() - before < more;
        let bad =
            |n_valid| Error::Utf8 { path: self.source.path.clone(), offset: self.offset + n_valid as u64 };
        match std::str::from_utf8(&self.bytes[self.n_valid..]) {
            Ok(_) => self.n_valid = self.bytes.len(),
            Err(error) => {
                let n_valid = self.n_valid + error.valid_up_to();
                if error.error_len().is_some() || at_end {
                    return Err(bad(n_valid));
                }
                self.n_valid = n_valid;
            }
        }
        let n_read = self.offset + self.bytes.len() as u64;
        if at_end && n_read != self.source.len {
            let message = format!("{n_read} bytes were read of {}", self.source.len);
            return Err(Error::Changed { path: self.source.path.clone(), message });
        }
        Ok(at_end)
    }

    /// Drops the byte order mark that some editors put at a file's start: it is not part of the text.
    fn drop_mark(&mut self) {
        const MARK: &str = "\u{feff}";
        if self.offset == 0 && self.text().starts_with(MARK) {
            self.consume(MARK.len());
        }
    }

    fn text(&self) -> &str {
        // Checked by `fill`.
        std::str::from_utf8(&self.bytes[..self.n_valid]).unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        self.bytes.drain(..n);
        self.n_valid -= n;
        self.offset += n as u64;
    }
}
