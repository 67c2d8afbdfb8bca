//! The cache of tokenized corpora and trained tokenizers, keyed by digests of their inputs.
//!
//! A corpus is a folder `corpus-KEY`, where KEY is a digest of all its inputs. It is built in a folder of another
//! name and renamed when it is complete, so an interrupted build leaves nothing that could be taken for a corpus. A
//! lock file makes a second process wait for the first; if the file system has no locks, both build, and one of the
//! two results stays.

mod digest;
mod lock;
mod manifest;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use digest::Key;
use lock::Lock;
use manifest::Manifest;

use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::store::{Built, Made, Target};
use crate::tokenizer::Tokenizer;

/// The prefix of folders in which a corpus is being built, and of temporary files.
const BUILDING: &str = ".building-";
const WRITING: &str = ".writing-";

/// A cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache of the config, or `vulpes` in the user's cache folder.
    pub(crate) fn of(data: &DataConfig) -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = match &data.cache {
            Some(folder) => PathBuf::from(folder),
            None => set("XDG_CACHE_HOME")
                .or_else(|| set("HOME").map(|home| home.join(".cache")))
                .or_else(|| set("LOCALAPPDATA"))
                .ok_or_else(|| {
                    Error::config("data.cache", "no cache folder is known (HOME is not set); name one here")
                })?
                .join("vulpes"),
        };
        Ok(Self { folder })
    }

    /// The corpus of a key; if there is none yet, `build` builds it into the folder it receives. Also returns whether
    /// a folder of that name had to be rebuilt because a file in it had changed.
    ///
    /// `waits` is called before waiting for another process that builds it.
    pub(crate) fn corpus(
        &self,
        key: Key,
        waits: &dyn Fn(),
        build: impl FnOnce(&Target) -> Result<Made>,
    ) -> Result<(Built, Option<String>)> {
        let name = format!("corpus-{}", key.hex());
        let folder = self.folder.join(&name);
        if let Ok(built) = Manifest::open(&folder) {
            return Ok((built, None));
        }
        self.create()?;
        let lock = Lock::wait(&self.folder, &name, waits)?;
        // Another process may have built it while this one waited.
        let fault = match Manifest::open(&folder) {
            Ok(built) => return Ok((built, None)),
            Err(fault) => folder.exists().then(|| format!("{}: {fault}; it was rebuilt", folder.display())),
        };
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| Error::cache(&folder, source))?;
        }
        self.remove_left_over(&name, &lock);
        // Its `Drop` removes it if the build fails.
        let building = open_to_all(0o777)
            .prefix(&format!("{BUILDING}{name}-"))
            .tempdir_in(&self.folder)
            .map_err(|source| Error::cache(&self.folder, source))?;
        let made = build(&Target::Folder(building.path().to_path_buf()))?;
        Manifest::write(&made, building.path())?;
        sync(building.path())?;
        match fs::rename(building.path(), &folder) {
            Ok(()) => drop(building.keep()),
            // Without locks another process can have been faster: its corpus is as good.
            Err(_) if folder.exists() => {}
            Err(source) => return Err(Error::cache(&folder, source)),
        }
        sync(&self.folder)?;
        Ok((Manifest::open(&folder)?, fault))
    }

    /// The tokenizer of a key; if there is none yet, `train` trains it.
    pub(crate) fn tokenizer(
        &self,
        key: Key,
        waits: &dyn Fn(),
        train: impl FnOnce() -> Result<Tokenizer>,
    ) -> Result<Tokenizer> {
        let name = format!("tokenizer-{}.json", key.hex());
        let path = self.folder.join(&name);
        let load = || -> Option<Tokenizer> {
            let bytes = fs::read(&path).ok()?;
            // The last line is a digest of the rest: a truncated or edited file is not used.
            let at = bytes.iter().rposition(|&byte| byte == b'\n')?;
            let (json, digest) = (&bytes[..at], &bytes[at + 1..]);
            (blake3::hash(json).to_hex().as_bytes() == digest)
                .then(|| Tokenizer::from_bytes(json, &path.display().to_string()).ok())?
        };
        if let Some(tokenizer) = load() {
            return Ok(tokenizer);
        }
        self.create()?;
        let _lock = Lock::wait(&self.folder, &name, waits)?;
        if let Some(tokenizer) = load() {
            return Ok(tokenizer);
        }
        let tokenizer = train()?;
        let json = tokenizer.to_json();
        self.write(&path, format!("{json}\n{}", blake3::hash(json.as_bytes()).to_hex()).as_bytes())?;
        Ok(tokenizer)
    }

    fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(|source| Error::cache(&self.folder, source))
    }

    /// Writes a small file atomically.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        write(&self.folder, path, bytes).map_err(|source| Error::cache(path, source))
    }

    /// Removes what killed processes left behind: builds of `name`, whose lock is held, and of all other corpora that
    /// no process is building.
    fn remove_left_over(&self, name: &str, lock: &Lock) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            let file_name = entry.file_name().to_string_lossy().into_owned();
            if let Some(building) = file_name.strip_prefix(BUILDING) {
                let of = building.rsplit_once('-').map_or(building, |(of, _)| of);
                let other = if of == name { None } else { Lock::try_now(&self.folder, of) };
                if other.is_some() || (of == name && lock.is_held()) {
                    fs::remove_dir_all(entry.path()).ok();
                }
            } else if file_name.starts_with(WRITING) {
                // Such a file exists for moments only.
                let modified = entry.metadata().and_then(|meta| meta.modified());
                if modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFT_OVER)) {
                    fs::remove_file(entry.path()).ok();
                }
            }
        }
    }
}

/// A temporary file this old was abandoned.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// Temporary files and folders with the permissions of the user's umask: a cache may be shared.
fn open_to_all<'a>(mode: u32) -> tempfile::Builder<'a, 'a> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    builder
}

/// Writes a file atomically by way of a temporary file in `folder`.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = open_to_all(0o666).prefix(WRITING).tempfile_in(folder)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Syncs a folder, so that its entries survive a power failure.
fn sync(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(|source| Error::cache(folder, source))?;
    }
    Ok(())
}
