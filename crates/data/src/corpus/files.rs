//! Finds the files of a list of paths, globs and folders.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use glob::{MatchOptions, glob_with};

use super::foreign::{N_HEAD, foreign};
use crate::config::{DataConfig, Paths};
use crate::embedded::{embedded, way_to};
use crate::error::{Error, Result};

/// One file of a corpus.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// The length in bytes when the file was listed.
    pub(crate) len: u64,
    pub(crate) modified: Option<SystemTime>,
    /// The text, if the file is embedded in the program.
    text: Option<&'static str>,
}

impl Source {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).map_err(|source| Error::read(path, source))?;
        if !meta.is_file() {
            let words =
                "not a file with a length; a corpus is read more than once, so write it to a file first";
            return Err(Error::read(path, std::io::Error::other(words)));
        }
        Ok(Self { path: path.into(), len: meta.len(), modified: meta.modified().ok(), text: None })
    }

    fn embedded(path: &str, text: &'static str) -> Self {
        Self { path: path.into(), len: text.len() as u64, modified: None, text: Some(text) }
    }

    /// A name that is the same for all spellings of the path.
    fn same(&self) -> PathBuf {
        fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// A reader from the start of the file.
    pub(crate) fn open(&self) -> Result<Box<dyn Read>> {
        match self.text {
            Some(text) => Ok(Box::new(Cursor::new(text))),
            None => {
                let file = File::open(&self.path).map_err(|source| Error::read(&self.path, source))?;
                Ok(Box::new(file))
            }
        }
    }

    /// Checks by the first bytes that the file is not a packed file or a pointer to another one.
    ///
    /// # Errors
    /// Returns what the file is and what to do.
    pub(crate) fn check_text(&self) -> Result<()> {
        let mut head = Vec::with_capacity(N_HEAD);
        self.open()?
            .take(N_HEAD as u64)
            .read_to_end(&mut head)
            .map_err(|error| Error::read(&self.path, error))?;
        match foreign(&head) {
            Some(message) => Err(Error::Foreign { path: self.path.clone(), message }),
            None => Ok(()),
        }
    }

    /// The digest of all bytes; `each` receives the number of further bytes read.
    pub(crate) fn digest(&self, each: &mut dyn FnMut(u64)) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut reader = self.open()?;
        let mut block = vec![0; 1 << 20];
        loop {
            match reader.read(&mut block).map_err(|source| Error::read(&self.path, source))? {
                0 => return Ok(hasher.finalize()),
                n => {
                    hasher.update(&block[..n]);
                    each(n as u64);
                }
            };
        }
    }

    /// Whether the file is still the one that was listed.
    ///
    /// # Errors
    /// Returns an error if it has another length or time, or is gone.
    pub(crate) fn check(&self) -> Result<()> {
        if self.text.is_some() {
            return Ok(());
        }
        let now = Self::of(&self.path)?;
        if now.len != self.len || now.modified != self.modified {
            let message = format!("it had {} bytes when it was opened and has {} now", self.len, now.len);
            return Err(Error::Changed { path: self.path.clone(), message });
        }
        Ok(())
    }
}

/// The files of a corpus, in reading order.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) files: Vec<Source>,
    /// The config's key and value, for errors.
    pub(crate) what: String,
}

impl Sources {
    /// Finds the files of `paths`, the value of `key`: in the given order, and sorted by name within a glob or
    /// folder. Hidden files of folders are left out; a file named twice is read once.
    ///
    /// # Errors
    /// Returns an error if a path does not exist or a glob or folder holds no file.
    pub(crate) fn find(key: &str, paths: &Paths) -> Result<Self> {
        let mut files: Vec<Source> = Vec::new();
        for pattern in &paths.0 {
            let path = Path::new(pattern);
            if path.is_dir() {
                let mut found = Vec::new();
                walk(path, &mut found)?;
                files.extend(listed(found, pattern)?);
            } else if path.exists() {
                files.push(Source::of(path)?);
            } else if let Some(text) = embedded(pattern) {
                files.push(Source::embedded(pattern, text));
            } else if pattern.contains(['*', '?', '[']) {
                files.extend(listed(expand(key, pattern)?, pattern)?);
            } else {
                let from_here = || format!("paths in {key} are relative to the current directory");
                let hint = way_to(pattern).unwrap_or_else(from_here);
                return Err(Error::Missing { path: path.into(), hint });
            }
        }
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.same()));
        Ok(Self { files, what: format!("{key} = {paths}") })
    }

    /// The files that are also in `other`.
    pub(crate) fn shared_with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Path> {
        let theirs: HashSet<PathBuf> = other.files.iter().map(Source::same).collect();
        self.files.iter().filter(move |file| theirs.contains(&file.same())).map(|file| file.path.as_path())
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

impl DataConfig {
    /// The existing training files, in reading order.
    ///
    /// # Errors
    /// Returns an error if a path does not exist or a glob or folder holds no file.
    pub fn training_files(&self) -> Result<Vec<PathBuf>> {
        let sources = Sources::find("data.train", &self.train)?;
        Ok(sources.files.into_iter().map(|file| file.path).collect())
    }

    /// The total size of the training files in bytes.
    ///
    /// # Errors
    /// As for [`DataConfig::training_files`].
    pub fn training_bytes(&self) -> Result<u64> {
        Ok(Sources::find("data.train", &self.train)?.n_bytes())
    }
}

/// The digest of a file on disk.
pub(crate) fn digest_of(path: &Path) -> Result<blake3::Hash> {
    Source::of(path)?.digest(&mut |_| {})
}

fn listed(mut paths: Vec<PathBuf>, pattern: &str) -> Result<Vec<Source>> {
    paths.sort();
    if paths.is_empty() {
        return Err(Error::NoMatch { pattern: pattern.into() });
    }
    paths.iter().map(|path| Source::of(path)).collect()
}

/// The files that a glob matches (`*`, `?`, `[abc]`, `[!abc]`, `**` for any folders), except hidden ones.
///
/// Folders that the glob can't match are not read.
fn expand(key: &str, pattern: &str) -> Result<Vec<PathBuf>> {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob_with(pattern, options)
        .map_err(|error| Error::config(key, format!("{pattern:?} is not a glob: {error}")))?;
    let mut files = Vec::new();
    for path in found {
        let path = path.map_err(|error| {
            let path = error.path().to_path_buf();
            Error::read(&path, error.into())
        })?;
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// All files under a folder, except hidden ones.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(|source| Error::read(folder, source))?;
    for entry in entries {
        let path = entry.map_err(|source| Error::read(folder, source))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A link to a folder is not followed: it could lead back here.
        let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        if hidden {
            continue;
        }
        match path.is_dir() {
            true if !is_link => walk(&path, found)?,
            false if path.is_file() => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "c.md", "deep/er/d.txt", ".hidden.txt", ".git/e.txt"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let names = |patterns: &[&str]| -> Vec<String> {
            let paths = patterns.iter().map(|pattern| format!("{}/{pattern}", folder.path().display()));
            let sources = Sources::find("data.train", &Paths(paths.collect())).unwrap();
            let name = |file: &Source| file.path.strip_prefix(folder.path()).unwrap().display().to_string();
            sources.files.iter().map(name).collect()
        };
        assert_eq!(names(&[""]), ["a.txt", "b.txt", "c.md", "deep/er/d.txt"]);
        assert_eq!(names(&["*.txt"]), ["a.txt", "b.txt"]);
        assert_eq!(names(&["**/*.txt"]), ["a.txt", "b.txt", "deep/er/d.txt"]);
        assert_eq!(names(&["[!a].txt", "?.md", "./b.txt", "deep"]), ["b.txt", "c.md", "deep/er/d.txt"]);
        fs::write(folder.path().join("odd[1].txt"), "").unwrap();
        assert_eq!(names(&["odd[1].txt"]), ["odd[1].txt"]);
        let find = |pattern: &str| {
            let pattern = format!("{}/{pattern}", folder.path().display());
            Sources::find("data.train", &Paths(vec![pattern])).unwrap_err().to_string()
        };
        assert!(find("*.csv").contains("*.csv matches no file"));
        assert!(find("[a").contains("is not a glob"));
        if cfg!(unix) {
            let error = Sources::find("data.train", &"/dev/null".into()).unwrap_err().to_string();
            assert!(error.contains("/dev/null") && error.contains("write it to a file first"), "{error}");
        }
    }
}
