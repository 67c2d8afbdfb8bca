//! The cache on disk: `refs/REVISION` names a commit, `snapshots/COMMIT/` links its files into `blobs/`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::name::Name;
use super::settings::Hub;
use crate::plain_name::is_plain_name;

impl Hub {
    /// The folder of a model in the cache.
    pub fn folder(&self, name: &Name) -> PathBuf {
        self.cache.join(format!("models--{}--{}", name.org, name.name))
    }

    /// The snapshot of a name in the cache, complete or partial; `None` if there is none.
    pub fn snapshot(&self, name: &Name) -> Option<PathBuf> {
        let folder = self.folder(name);
        let revision = name.revision();
        let commit = std::fs::read_to_string(folder.join("refs").join(revision));
        let commit = commit.as_deref().map_or(revision, str::trim);
        let snapshot = folder.join("snapshots").join(commit);
        // The contents of a cache file must not lead out of the cache.
        (!commit.is_empty() && !commit.contains("..") && snapshot.is_dir()).then_some(snapshot)
    }

    /// Whether a snapshot has all that a model needs: `config.json`, and the weights in one file or in every shard
    /// file.
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

    /// Where a name was looked up and what to do about it, for the error message of a path that doesn't exist.
    pub fn advice(&self, name: &Name) -> String {
        let folder = self.folder(name);
        let place = match folder.is_dir() {
            true => format!("{} has no revision {}", folder.display(), name.revision()),
            false => format!("{} does not exist", folder.display()),
        };
        let command = match &name.revision {
            Some(revision) => format!("hf download {} --revision {revision}", name.model()),
            None => format!("hf download {}", name.model()),
        };
        let itself = match (cfg!(feature = "hub"), self.offline) {
            (false, _) => "a program built with --features hub fetches it automatically",
            (true, true) => "HF_HUB_OFFLINE is set, so it isn't fetched",
            (true, false) => "as a hub name it is fetched unless there is a folder named like its first part",
        };
        format!(
            "As a hub name it isn't in the cache: {place} (HF_HUB_CACHE, HF_HOME or XDG_CACHE_HOME set the location). \
             `{command}` puts it there; {itself}"
        )
    }
}

/// The shard files that an index names, each once; empty if one of them is not a plain file name.
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
