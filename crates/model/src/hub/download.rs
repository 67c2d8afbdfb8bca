//! Downloads one file from the hub into the cache: resumed if the connection breaks, and verified.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use super::client::{Answer, Client, TRIES};
use super::error::Error;
use super::progress::Fetched;

/// The hub's description of a file.
pub(super) struct Remote {
    /// Its name in the model.
    pub(super) file: String,
    url: String,
    /// The name of its content: the SHA-256 of a large file, git's object name of a small one.
    etag: String,
    n_bytes: Option<u64>,
}

impl Remote {
    /// Requests the description of a file of a commit.
    ///
    /// # Errors
    /// Returns an error if the hub doesn't have it or doesn't describe it.
    pub(super) fn ask(client: &Client, commit: &str, file: &str) -> Result<Self, Error> {
        let url = client.address(commit, file);
        let head = client.head(&url, &format!("file {file}"))?;
        let header = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
        let etag = header("x-linked-etag").or(header("etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if etag.is_empty() || !etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            let problem = format!("has no usable ETag ({etag:?})");
            return Err(Error::Answer { url, problem });
        }
        let of_itself = || header("content-length").filter(|_| !head.status().is_redirection());
        let n_bytes = header("x-linked-size").or_else(of_itself).and_then(|size| size.parse().ok());
        Ok(Self { file: file.to_owned(), url, etag, n_bytes })
    }

    /// The path of its content.
    pub(super) fn blob(&self, folder: &Path) -> PathBuf {
        folder.join("blobs").join(&self.etag)
    }

    /// Fetches it, unless it is present.
    ///
    /// # Errors
    /// Returns an error if it doesn't arrive, or differs from the hub's description.
    pub(super) fn fetch(
        &self,
        client: &Client,
        folder: &Path,
        told: &mut dyn FnMut(&Fetched),
    ) -> Result<PathBuf, Error> {
        let blob = self.blob(folder);
        let path = blob.with_file_name(format!("{}.incomplete", self.etag));
        let failed = || Error::write(&path);
        let part = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut part = part.map_err(failed())?;
        // Another process may be fetching the same; then it is present once that is done.
        part.lock().map_err(failed())?;
        if blob.is_file() {
            let _ = std::fs::remove_file(&path);
            return Ok(blob);
        }
        for attempt in 0.. {
            self.fill(client, &mut part, &path, told)?;
            let Some(found) = self.other_digest(&mut part).map_err(failed())? else { break };
            part.set_len(0).map_err(failed())?;
            if attempt > 0 {
                let _ = std::fs::remove_file(&path);
                return Err(Error::Digest { file: self.file.clone(), wanted: self.etag.clone(), found });
            }
        }
        part.sync_all().map_err(failed())?;
        std::fs::rename(&path, &blob).map_err(failed())?;
        Ok(blob)
    }

    /// Completes the file, in as many parts as the connection needs.
    fn fill(
        &self,
        client: &Client,
        part: &mut File,
        path: &Path,
        told: &mut dyn FnMut(&Fetched),
    ) -> Result<(), Error> {
        let failed = || Error::write(path);
        let mut tried = 0;
        loop {
            let before = part.metadata().map_err(failed())?.len();
            let before = match self.n_bytes {
                Some(n_bytes) if before == n_bytes => return Ok(()),
                Some(n_bytes) if before > n_bytes => {
                    part.set_len(0).map_err(failed())?;
                    0
                }
                _ => before,
            };
            let (reason, pause, too_many) =
                match client.get(&self.url, &format!("file {}", self.file), before)? {
                    Answer::Again { reason, pause, too_many } => (reason, pause, too_many),
                    Answer::Came(answer) => match self.take(answer, part, path, before, told)? {
                        None => return Ok(()),
                        Some(reason) => (reason, None, false),
                    },
                };
            let n_done = part.metadata().map_err(failed())?.len();
            tried = if n_done > before { 1 } else { tried + 1 };
            if tried == TRIES {
                return Err(match self.n_bytes {
                    Some(n_bytes) if n_done > 0 && !too_many => {
                        Error::Cut { file: self.file.clone(), n_done, n_bytes, reason }
                    }
                    _ => client.gave_up(&self.url, reason, too_many),
                });
            }
            client.rest(tried, pause);
        }
    }

    /// Takes an answer's bytes after the first `before`; `None` once the file is complete, else the reason why it
    /// ended.
    fn take(
        &self,
        answer: Response<Body>,
        part: &mut File,
        path: &Path,
        before: u64,
        told: &mut dyn FnMut(&Fetched),
    ) -> Result<Option<String>, Error> {
        let failed = || Error::write(path);
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let status = answer.status().as_u16();
        let goes_on = status == 206
            && header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {before}-")));
        let start = match status {
            206 if goes_on => before,
            200 => 0,
            416 => {
                part.set_len(0).map_err(failed())?;
                return Ok(Some("the hub doesn't offer the rest".into()));
            }
            _ => {
                return Err(Error::Answer {
                    url: self.url.clone(),
                    problem: format!("answers with status {status}"),
                });
            }
        };
        part.set_len(start).map_err(failed())?;
        let announced = header("content-length").and_then(|n| n.parse::<u64>().ok()).map(|n| start + n);
        if let (Some(wanted), Some(found)) = (self.n_bytes, announced)
            && wanted != found
        {
            return self.wrong_length(part, path, wanted, found);
        }
        part.seek(SeekFrom::Start(start)).map_err(failed())?;
        let mut reader = answer.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut n_done = start;
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) => return Ok(Some(error.to_string())),
            };
            if let Some(wanted) = self.n_bytes.filter(|wanted| n_done + n as u64 > *wanted) {
                return self.wrong_length(part, path, wanted, n_done + n as u64);
            }
            part.write_all(&buffer[..n]).map_err(failed())?;
            n_done += n as u64;
            told(&Fetched { file: &self.file, n_done, n_bytes: self.n_bytes });
        }
        Ok(match self.n_bytes {
            Some(n_bytes) if n_done < n_bytes => Some("the connection ended".into()),
            _ => None,
        })
    }

    fn wrong_length<T>(&self, part: &File, path: &Path, wanted: u64, found: u64) -> Result<T, Error> {
        part.set_len(0).map_err(Error::write(path))?;
        let _ = std::fs::remove_file(path);
        Err(Error::Length { file: self.file.clone(), wanted, found })
    }

    /// The digest of the received file, if it differs from the hub's.
    fn other_digest(&self, part: &mut File) -> std::io::Result<Option<String>> {
        let is_hex = self.etag.chars().all(|c| c.is_ascii_hexdigit());
        let found = match self.etag.len() {
            64 if is_hex => digest::<Sha256>(part, b"")?,
            // git's name of a file is the SHA-1 of its kind, its length and its content.
            40 if is_hex => {
                let head = format!("blob {}\0", part.metadata()?.len());
                digest::<Sha1>(part, head.as_bytes())?
            }
            // A hub of another kind; the length has been checked.
            _ => return Ok(None),
        };
        Ok((!found.eq_ignore_ascii_case(&self.etag)).then_some(found))
    }
}

/// The digest of a file's bytes after `head`, in hexadecimal.
fn digest<D: Digest>(file: &mut File, head: &[u8]) -> std::io::Result<String> {
    let mut digest = D::new();
    digest.update(head);
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => digest.update(&buffer[..n]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
