//! Atomic output: a file or folder appears under its name when it is complete, or not at all.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::Builder;

use crate::error::{Error, Result};

/// The prefix of unfinished files and folders.
const PREFIX: &str = ".unfinished-";

/// Checks that `out` doesn't exist.
///
/// # Errors
/// Returns an error if it does, even as a broken link.
pub(crate) fn check_free(out: &Path) -> Result<()> {
    match out.symlink_metadata() {
        Ok(_) => Err(Error::Exists { path: out.to_path_buf() }),
        Err(_) => Ok(()),
    }
}

/// The parent folder of `out`, created if necessary.
fn parent(out: &Path) -> Result<PathBuf> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
    Ok(parent.to_path_buf())
}

/// Makes the file `out` from what `write` writes, and returns its size.
///
/// # Errors
/// Those of `write`, and of the file system.
pub(crate) fn file(
    out: &Path,
    stop: &dyn Fn() -> bool,
    write: impl FnOnce(&mut Stoppable) -> Result<()>,
) -> Result<u64> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let unfinished = builder.tempfile_in(parent(out)?).map_err(Error::write(out))?;
    let mut writer = Stoppable { inner: BufWriter::new(unfinished.as_file()), stop };
    let written = write(&mut writer).and_then(|()| writer.flush().map_err(Error::write(out)));
    drop(writer);
    if stop() {
        return Err(Error::Stopped);
    }
    written?;
    let n_bytes = unfinished.as_file().metadata().map_err(Error::write(out))?.len();
    unfinished.as_file().sync_all().map_err(Error::write(out))?;
    unfinished.persist_noclobber(out).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists { path: out.to_path_buf() },
        _ => Error::Write { path: out.to_path_buf(), source: error.error },
    })?;
    Ok(n_bytes)
}

/// Makes the folder `out` from what `fill` puts into it.
///
/// # Errors
/// Those of `fill`, and of the file system.
pub(crate) fn folder(
    out: &Path,
    stop: &dyn Fn() -> bool,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let unfinished = builder.tempdir_in(parent(out)?).map_err(Error::write(out))?;
    fill(unfinished.path())?;
    if stop() {
        return Err(Error::Stopped);
    }
    check_free(out)?;
    std::fs::rename(unfinished.path(), out).map_err(Error::write(out))
}

/// A file that accepts no more bytes once the export is stopped.
pub(crate) struct Stoppable<'a> {
    inner: BufWriter<&'a File>,
    stop: &'a dyn Fn() -> bool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.stop)() {
            return Err(std::io::Error::other("stopped"));
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Stoppable<'_> {
    fn seek(&mut self, place: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(place)
    }

    /// Without flushing the buffer, as [`BufWriter`] does.
    fn stream_position(&mut self) -> std::io::Result<u64> {
        self.inner.stream_position()
    }
}
