//! A model from the hub into the cache: which of its files are needed, each of them, then the revision's name for them.

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

/// The files of a model that are used, its weights apart; those that it has are fetched.
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

/// The longest list of files that is read.
const LONGEST_ANSWER: u64 = 64 << 20;

impl Hub {
    /// Fetches what a model needs into the cache; its snapshot. What is there is not fetched again, and what was cut off
    /// goes on where it ended.
    ///
    /// # Errors
    /// If the hub has no such model or doesn't show it, if it doesn't come, or isn't what the hub says of it.
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
        // Last: a name stands for a snapshot once that is whole.
        if name.revision() != commit {
            let path = folder.join("refs").join(name.revision());
            let parent = path.parent().unwrap_or(&folder);
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
            std::fs::write(&path, &commit).map_err(Error::write(&path))?;
        }
        Ok(snapshot)
    }
}

/// The commit that a revision means, and its files.
fn listed(client: &Client) -> Result<(String, Vec<String>), Error> {
    let (hub, name) = (client.hub, client.name);
    // A branch's slashes are no parts of the address.
    let revision = name.revision().replace('/', "%2F");
    let url = format!("{}/api/models/{}/revision/{revision}", hub.endpoint, name.model());
    let what = name.revision.as_ref().map(|revision| format!("revision {revision}")).unwrap_or_default();
    let mut answer = client.patiently(&url, |client| client.get(&url, &what, 0))?;
    let unfit = |problem: String| Error::Answer { url: url.clone(), problem };
    let text = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_string();
    let text = text.map_err(|error| unfit(error.to_string()))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|_| unfit("answers with something else than JSON".into()))?;
    let commit =
        json["sha"].as_str().filter(|sha| !sha.is_empty() && sha.chars().all(|c| c.is_ascii_hexdigit()));
    let commit = commit.ok_or_else(|| unfit("names no commit".into()))?;
    let files = json["siblings"].as_array().into_iter().flatten();
    let files = files.filter_map(|file| file["rfilename"].as_str().map(str::to_owned)).collect();
    Ok((commit.to_owned(), files))
}

/// Puts a file of the cache's content into a snapshot: a link, as huggingface_hub makes it, or a copy where the system has
/// no links.
fn link(blob: &Path, place: &Path, file: &str) -> Result<(), Error> {
    let parent = place.parent().unwrap_or(place);
    std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
    let up = "../".repeat(2 + file.matches('/').count());
    let target = format!("{up}blobs/{}", blob.file_name().unwrap_or_default().to_string_lossy());
    let _ = std::fs::remove_file(place);
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(target, place);
    #[cfg(not(unix))]
    let made = std::fs::copy(blob, place).map(|_| drop(target));
    made.map_err(Error::write(place))
}
