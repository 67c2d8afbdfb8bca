//! Tracks the quotes of a CSV file: a quote that is never closed swallows all rows after it.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

/// The line of the currently open quote; 0 if there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenQuote(Rc<Cell<u64>>);

impl OpenQuote {
    /// The line, from 1, of the quote that is still open.
    pub(super) fn line(&self) -> Option<u64> {
        Some(self.0.get()).filter(|&line| line > 0)
    }
}

/// A reader that tracks the quotes of what is read through it, as the CSV reader does.
pub(super) struct Watched<R> {
    inner: R,
    /// The field delimiter.
    delimiter: u8,
    open: OpenQuote,
    line: u64,
    /// The line in which the last quote opened.
    opened: u64,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    FieldStart,
    Field,
    Quoted,
    /// After a quote inside a quoted field: a second one makes it a literal quote.
    QuoteInQuoted,
}

impl<R: Read> Watched<R> {
    pub(super) fn new(inner: R, delimiter: u8, open: OpenQuote) -> Self {
        Self { inner, delimiter, open, line: 1, opened: 0, place: Place::FieldStart }
    }

    fn see(&mut self, byte: u8) {
        self.place = match (self.place, byte) {
            (Place::FieldStart, b'"') => {
                self.opened = self.line;
                self.open.0.set(self.opened);
                Place::Quoted
            }
            (Place::Quoted, b'"') => {
                self.open.0.set(0);
                Place::QuoteInQuoted
            }
            (Place::Quoted, _) => Place::Quoted,
            (Place::QuoteInQuoted, b'"') => {
                self.open.0.set(self.opened);
                Place::Quoted
            }
            (_, b'\n' | b'\r') => Place::FieldStart,
            (_, byte) if byte == self.delimiter => Place::FieldStart,
            _ => Place::Field,
        };
        self.line += u64::from(byte == b'\n');
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        buffer[..n].iter().for_each(|&byte| self.see(byte));
        Ok(n)
    }
}
