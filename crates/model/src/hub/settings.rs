//! The location of the cache and the access to the hub: the environment variables of huggingface_hub.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of the hub and its cache.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The folder of the cache.
    pub cache: PathBuf,
    /// The address of the hub, without a slash at its end.
    pub endpoint: String,
    /// The access token, for models that not everybody may read.
    pub token: Option<String>,
    /// Whether fetching is disabled.
    pub offline: bool,
    /// The pause before a failed request is first repeated; each next one is twice as long.
    pub pause: Duration,
}

impl Hub {
    /// The settings from the environment.
    ///
    /// The cache is `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `hub` in `HF_HOME`, else `huggingface/hub` in
    /// `XDG_CACHE_HOME`, else in `~/.cache`. The rest comes from `HF_ENDPOINT`, `HF_TOKEN` (else the file of
    /// `HF_TOKEN_PATH`, else `token` in `HF_HOME`) and `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::of(&|name| std::env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default();
        let path = |value: String| match value.strip_prefix("~/") {
            Some(rest) => PathBuf::from(&home).join(rest),
            None => PathBuf::from(value),
        };
        let hf_home = set("HF_HOME").map(path).unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(path);
            cache.unwrap_or_else(|| PathBuf::from(&home).join(".cache")).join("huggingface")
        });
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")).map(path);
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN"));
        let kept = set("HF_TOKEN_PATH").map(path).unwrap_or_else(|| hf_home.join("token"));
        let token = token.or_else(|| std::fs::read_to_string(kept).ok());
        let is_on = |name: &str| {
            let value = set(name).unwrap_or_default().to_ascii_lowercase();
            ["1", "on", "yes", "true"].contains(&value.as_str())
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Self {
            cache: cache.unwrap_or_else(|| hf_home.join("hub")),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            pause: Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_in_huggingface_hubs_order() {
        let mut set = vec![("HOME", "/home/me")];
        let cache = |set: &[(&str, &str)]| {
            let hub = Hub::of(&|name| {
                set.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            hub.cache.to_string_lossy().into_owned()
        };
        assert_eq!(cache(&set), "/home/me/.cache/huggingface/hub");
        for (name, value, wanted) in [
            ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub"),
            ("HF_HOME", "~/hf", "/home/me/hf/hub"),
            ("HUGGINGFACE_HUB_CACHE", "/old", "/old"),
            ("HF_HUB_CACHE", "/new", "/new"),
            ("HF_HUB_CACHE", "", "/old"),
        ] {
            set.push((name, value));
            assert_eq!(cache(&set), wanted, "{name}={value}");
        }
    }

    #[test]
    fn address_token_and_offline_are_read() {
        let of = |set: &[(&str, &str)]| {
            Hub::of(&|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        let hub = of(&[]);
        assert_eq!((hub.endpoint.as_str(), hub.offline), ("https://huggingface.co", false));
        let hub =
            of(&[("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", " secret\n"), ("HF_HUB_OFFLINE", "ON")]);
        assert_eq!(
            (hub.endpoint.as_str(), hub.token.as_deref(), hub.offline),
            ("http://mirror", Some("secret"), true)
        );
        assert!(!of(&[("HF_HUB_OFFLINE", "0")]).offline);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "kept\n").unwrap();
        assert_eq!(of(&[("HF_HOME", dir.path().to_str().unwrap())]).token.as_deref(), Some("kept"));
    }
}
