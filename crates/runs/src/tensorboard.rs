//! Scalars as TensorBoard event files.
//!
//! A file is a sequence of TFRecords, each a protobuf `Event`; only the few fields that scalars need are written:
//! `Event { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 }`,
//! `Summary { value = 1 { tag = 1, simple_value = 2 } }`, `SessionLog { status = 1 }`. A record is: length (u64),
//! masked CRC-32C of the length (u32), the bytes, masked CRC-32C of the bytes (u32), all little-endian.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::metrics::append;

/// Writes one event file.
pub(crate) struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Opens a new event file in `dir`. After a resume at `first_step`, TensorBoard drops that step and later ones of
    /// earlier files.
    ///
    /// # Errors
    /// Returns an error if the file can't be created.
    pub(crate) fn create(dir: &Path, unix_secs: f64, first_step: u64) -> io::Result<Self> {
        let path = free_name(dir, unix_secs);
        let mut writer = Self { file: File::create_new(path)? };
        writer.record(&event(unix_secs, 0, |out| bytes(out, 3, b"brain.Event:2")))?;
        if first_step > 0 {
            // SessionLog.START = 1: this file replaces the steps from `first_step` on.
            let start = |out: &mut Vec<u8>| bytes(out, 7, &[0x08, 0x01]);
            writer.record(&event(unix_secs, first_step, start))?;
        }
        Ok(writer)
    }

    /// Writes one step's scalars, each under its tag.
    ///
    /// # Errors
    /// Returns an error if the file can't be written.
    pub(crate) fn scalars(&mut self, unix_secs: f64, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &entry);
        }
        self.record(&event(unix_secs, step, |out| bytes(out, 5, &summary)))
    }

    fn record(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = (payload.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(payload.len() + 16);
        record.extend(length);
        record.extend(masked_crc32c(&length).to_le_bytes());
        record.extend(payload);
        record.extend(masked_crc32c(payload).to_le_bytes());
        append(&mut self.file, &record)
    }
}

/// The first free name of the form that TensorBoard looks for.
fn free_name(dir: &Path, unix_secs: f64) -> PathBuf {
    let mut n = 0u64;
    loop {
        let name = format!("events.out.tfevents.{}.vulpes.{}.{n}", unix_secs as u64, std::process::id());
        let path = dir.join(name);
        if !path.exists() {
            return path;
        }
        n += 1;
    }
}

fn event(unix_secs: f64, step: u64, what: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(unix_secs.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    what(&mut out);
    out
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// CRC-32C, masked as TFRecord requires.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial ([RFC 3720, B.4](https://www.rfc-editor.org/rfc/rfc3720)), bit by bit: the
/// records are small, and a crate for it would bring a build script.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_matches_the_rfc_test_vectors() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_record_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), 1_700_000_000.5, 0).unwrap();
        writer
            .scalars(1_700_000_001.0, 300, &[("train/loss", 0.5), ("perf/tokens_per_second", 2.0)])
            .unwrap();
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents.1700000000."));
        let data = std::fs::read(path).unwrap();
        let mut records = Vec::new();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let n = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc32c(&rest[..8]));
            assert_eq!(crc(12 + n), masked_crc32c(&rest[12..12 + n]));
            records.push(&rest[12..12 + n]);
            rest = &rest[16 + n..];
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        let wanted = b"\x10\xac\x02\x2a\x32\x0a\x11\x0a\x0atrain/loss\x15\0\0\0\x3f";
        assert_eq!(&records[1][9..9 + wanted.len()], wanted);
    }

    #[test]
    fn two_writers_never_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let _first = EventWriter::create(dir.path(), 1.0, 0).unwrap();
        let _second = EventWriter::create(dir.path(), 1.0, 10).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
