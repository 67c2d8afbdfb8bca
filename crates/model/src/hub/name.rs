//! The name of a model on the hub.

use std::fmt;
use std::path::Path;

/// `ORG/NAME`, or `ORG/NAME@REVISION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The organization or user.
    pub org: String,
    /// The model's name within it.
    pub name: String,
    /// A branch, a tag or a commit; absent = `main`.
    pub revision: Option<String>,
}

impl Name {
    /// Parses a path as a name; `None` if it can't be one, such as a path of one part or three.
    ///
    /// # Examples
    /// ```
    /// use std::path::Path;
    /// use vulpes_model::hub::Name;
    ///
    /// let name = Name::of(Path::new("org/small@v1")).unwrap();
    /// assert_eq!((name.org.as_str(), name.name.as_str(), name.revision()), ("org", "small", "v1"));
    /// assert_eq!(Name::of(Path::new("runs/a/model")), None);
    /// ```
    pub fn of(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        let (model, revision) = match text.split_once('@') {
            Some((model, revision)) => (model, Some(revision)),
            None => (text, None),
        };
        let (org, name) = model.split_once('/')?;
        let is_plain = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.len() <= 96
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !part.contains("--")
                && !part.contains("..")
        };
        // A branch may have several parts, none of which leads out of the cache.
        let is_revision = |revision: &str| revision.split('/').all(is_plain);
        (is_plain(org) && is_plain(name) && revision.is_none_or(is_revision)).then(|| Self {
            org: org.to_owned(),
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The model without its revision.
    pub fn model(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinguished_from_paths() {
        let of = |text: &str| Name::of(Path::new(text)).map(|name| name.to_string());
        for name in ["a/b", "Qwen/Qwen3-0.6B", "a_1/b.c", "a/b@main", "a/b@refs/pr/1", "a/b@0123abc"] {
            assert_eq!(of(name).as_deref(), Some(name));
        }
        for path in [
            "fox",
            "a/b/c",
            "/a/b",
            "./a",
            "../a",
            "a/",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a/b@x/../y",
            "a b/c",
            "a/b--c",
            "~/a",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
