//! Fetches a model from the hub into the cache: the files it needs, then the reference of its revision.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cache::shards;
use super::client::Client;
use super::download::Remote;
use super::error::Error;
use super::name::Name;
use super::progress::Fetched;
use super::settings::Hub;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The files of a model that are used, apart from its weights; those that exist are fetched.
const USED: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
];

/// The maximum size of a list of files.
const LONGEST_ANSWER: u64 = 64 << 20;

impl Hub {
    /// Fetches what a model needs into the cache, and returns its snapshot. Present files are not fetched again, and
    /// interrupted downloads resume.
    ///
    /// # Errors
    /// Returns an error if the hub has no such model or denies access, if a file doesn't arrive, or if one differs from
    /// the hub's description.
    pub fn fetch(&self, name: &Name, told: &mut dyn FnMut(&Fetched)) -> Result<PathBuf, Error> {
        if self.offline {
            return Err(Error::Offline { model: name.to_string() });
        }
        let client = Client::new(self, name);
        let (commit, files) = listed(&client)?;
        let folder = self.folder(name);
        let snapshot = folder.join("snapshots").join(&commit);
        for dir in [&folder.join("blobs"), &snapshot] {
            std::fs::create_dir_all(dir).map_err(Error::write(dir))?;
        }
        let mut get = |file: &str| -> Result<(), Error> {
            if snapshot.join(file).is_file() {
                return Ok(());
            }
            let remote = Remote::ask(&client, &commit, file)?;
            let blob = remote.fetch(&client, &folder, told)?;
            link(&blob, &snapshot.join(file), file)
        };
        let has = |file: &str| files.iter().any(|known| known == file);
        if !has(WHOLE) && !has(INDEX) {
            return Err(Error::NoWeights { model: name.model(), files });
        }
        USED.iter().filter(|file| has(file)).try_for_each(|file| get(file))?;
        if has(WHOLE) {
            get(WHOLE)?;
        } else {
            get(INDEX)?;
            let path = snapshot.join(INDEX);
            let text = std::fs::read_to_string(&path).map_err(Error::write(&path))?;
            let index: Value = serde_json::from_str(&text).unwrap_or_default();
            shards(&index).iter().try_for_each(|shard| get(shard))?;
        }
        // Last: a reference names a snapshot only once that is complete.
        if name.revision() != commit {
            let path = folder.join("refs").join(name.revision());
            put(&path, |beside| std::fs::write(beside, &commit))?;
        }
        Ok(snapshot)
    }
}

/// The commit of a revision, and its files.
fn listed(client: &Client) -> Result<(String, Vec<String>), Error> {
    let (hub, name) = (client.hub, client.name);
    // A slash in a branch's name is not a separator in the address.
    let revision = name.revision().replace('/', "%2F");
    let url = format!("{}/api/models/{}/revision/{revision}", hub.endpoint, name.model());
    let what = name.revision.as_ref().map(|revision| format!("revision {revision}")).unwrap_or_default();
    let mut answer = client.patiently(&url, |client| client.get(&url, &what, 0))?;
    let unfit = |problem: String| Error::Answer { url: url.clone(), problem };
    let text = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
    let text = text.map_err(|error| unfit(error.to_string()))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|_| unfit("answers with something other than JSON".into()))?;
    let commit =
        json["sha"].as_str().filter(|sha| !sha.is_empty() && sha.chars().all(|c| c.is_ascii_hexdigit()));
    let commit = commit.ok_or_else(|| unfit("names no commit".into()))?;
    let files = json["siblings"].as_array().into_iter().flatten();
    let files = files.filter_map(|file| file["rfilename"].as_str().map(str::to_owned)).collect();
    Ok((commit.to_owned(), files))
}

/// Puts a file of the cache's content into a snapshot: a link, like huggingface_hub, or a copy if the system has no
/// links.
fn link(blob: &Path, place: &Path, file: &str) -> Result<(), Error> {
    let up = "../".repeat(2 + file.matches('/').count());
    let target = format!("{up}blobs/{}", blob.file_name().unwrap_or_default().to_string_lossy());
    put(place, |beside| {
        #[cfg(unix)]
        return std::os::unix::fs::symlink(&target, beside);
        #[cfg(not(unix))]
        return std::fs::copy(blob, beside).map(|_| drop(target.as_str()));
    })
}

/// Puts a file in place atomically, replacing what is there: another process may be writing or reading the same one.
fn put(place: &Path, make: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), Error> {
    let parent = place.parent().unwrap_or(place);
    std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
    let beside = tempfile::Builder::new().prefix(".").make_in(parent, |path| {
        // A name that is taken is drawn again; `make` alone may overwrite it.
        match path.symlink_metadata() {
            Ok(_) => Err(std::io::ErrorKind::AlreadyExists.into()),
            Err(_) => make(path),
        }
    });
    beside.and_then(|beside| Ok(beside.persist(place)?)).map_err(Error::write(place))?;
    Ok(())
}
