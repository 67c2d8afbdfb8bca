//! Reads the prompts: typed, in a file, or piped in.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use vulpes_data::{embedded, foreign};

use super::args::Args;
use crate::ending::Failure;

/// The texts typed, or the one read from a file or standard input; no text with ids, an empty one if there is no prompt
/// at all.
pub(super) fn texts_of(args: &Args) -> Result<Vec<String>, Failure> {
    let Some(path) = &args.prompt_file else {
        if !args.prompt.is_empty() || args.ids.is_some() {
            return Ok(args.prompt.clone());
        }
        return Ok(vec![piped()?.unwrap_or_default()]);
    };
    let bytes = if path == Path::new("-") {
        all_of(&mut std::io::stdin().lock())?
    } else {
        std::fs::read(path)
            .with_context(|| format!("{} can't be read", path.display()))
            .map_err(Failure::usage)?
    };
    Ok(vec![text(bytes, &named(path))?])
}

/// Checks that a named file exists, before anything slow is read.
pub(super) fn check_file(args: &Args) -> Result<(), Failure> {
    match &args.prompt_file {
        Some(path) if path != Path::new("-") && embedded(&path.to_string_lossy()).is_none() => {
            std::fs::metadata(path)
                .with_context(|| format!("{} can't be read", path.display()))
                .map(|_| ())
                .map_err(Failure::usage)
        }
        _ => Ok(()),
    }
}

/// The text on standard input, if it is a pipe or a file; `None` for a terminal, `/dev/null`, or anything else
/// inherited that may never send data.
fn piped() -> Result<Option<String>, Failure> {
    let Some(mut sender) = sender() else { return Ok(None) };
    let bytes = all_of(&mut sender)?;
    if bytes.is_empty() { Ok(None) } else { text(bytes, Path::new("standard input")).map(Some) }
}

/// Standard input, if it is a pipe or a file.
#[cfg(unix)]
fn sender() -> Option<File> {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    let file = File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?);
    let kind = file.metadata().ok()?.file_type();
    (kind.is_fifo() || kind.is_file()).then_some(file)
}

#[cfg(not(unix))]
fn sender() -> Option<File> {
    None
}

fn all_of(reader: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).context("standard input can't be read").map_err(Failure::usage)?;
    Ok(bytes)
}

fn text(bytes: Vec<u8>, name: &Path) -> Result<String, Failure> {
    if let Some(what) = foreign(&bytes) {
        return Err(Failure::usage(anyhow!("{} {what}", name.display())));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(anyhow!("{}: not UTF-8 text: byte {at} begins no character", name.display()))
    })?;
    // Some editors begin files with a byte order mark, which isn't part of the prompt.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // Editors and `echo` end a text with a newline that isn't part of the prompt.
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(text.to_owned())
}

fn named(path: &Path) -> PathBuf {
    if path == Path::new("-") { PathBuf::from("standard input") } else { path.to_path_buf() }
}
