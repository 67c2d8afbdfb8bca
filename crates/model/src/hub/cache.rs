//! The cache on the disk: `models--ORG--NAME/refs/REVISION` holds a commit, `snapshots/COMMIT/` the files of it, each a link
//! to where its content lies in `blobs/`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::name::Name;
use super::settings::Hub;
use crate::plain_name::is_plain_name;

impl Hub {
    /// The cache's folder of a model.
    pub fn folder(&self, name: &Name) -> PathBuf {
        self.cache.join(format!("models--{}--{}", name.org, name.name))
    }

    /// The snapshot that the cache has of a name, whole or in part; `None` if it has none.
    pub fn snapshot(&self, name: &Name) -> Option<PathBuf> {
        let folder = self.folder(name);
        let revision = name.revision();
        let commit = std::fs::read_to_string(folder.join("refs").join(revision));
        let commit = commit.as_deref().map_or(revision, str::trim);
        let snapshot = folder.join("snapshots").join(commit);
        // What a file of the cache says is not to lead out of it.
        (!commit.is_empty() && !commit.contains("..") && snapshot.is_dir()).then_some(snapshot)
    }

    /// Whether a snapshot has all that a model needs: `config.json`, and the weights in one file or in every shard.
    pub fn is_whole(snapshot: &Path) -> bool {
        let has = |name: &str| snapshot.join(name).is_file();
        if !has("config.json") || has("model.safetensors") {
            return has("config.json");
        }
        let index =
            std::fs::read_to_string(snapshot.join("model.safetensors.index.json")).unwrap_or_default();
        let shards = shards(&serde_json::from_str(&index).unwrap_or_default());
        !shards.is_empty() && shards.iter().all(|shard| has(shard))
    }

    /// Where a name was looked for, and what to do about it, for the message of a path that leads nowhere.
    pub fn advice(&self, name: &Name) -> String {
        let folder = self.folder(name);
        let place = match folder.is_dir() {
            true => format!("{} has no revision {}", folder.display(), name.revision()),
            false => format!("{} is not there", folder.display()),
        };
        let command = match &name.revision {
            Some(revision) => format!("hf download {} --revision {revision}", name.model()),
            None => format!("hf download {}", name.model()),
        };
        let itself = match (cfg!(feature = "hub"), self.offline) {
            (false, _) => "a program built with --features hub fetches it by itself",
            (true, true) => "HF_HUB_OFFLINE is set, so it isn't fetched",
            (true, false) => "as a name of the hub it is fetched where no folder of its first word is here",
        };
        format!(
            "As a name of the hub it isn't in its cache: {place} (HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME say where that lies). \
             `{command}` puts it there; {itself}"
        )
    }
}

/// The shards that an index names, each once; none if one of them is no plain name.
pub(super) fn shards(index: &Value) -> Vec<String> {
    let map = index["weight_map"].as_object();
    let mut shards: Vec<String> =
        map.into_iter().flatten().filter_map(|(_, shard)| shard.as_str().map(str::to_owned)).collect();
    shards.sort();
    shards.dedup();
    match shards.iter().all(|shard| is_plain_name(shard)) {
        true => shards,
        false => Vec::new(),
    }
}
