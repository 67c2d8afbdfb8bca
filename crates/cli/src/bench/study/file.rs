//! The file of a study: a config, the overrides of all runs, and the variants.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The contents of a study's file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StudyFile {
    /// The config, as in `train --config`.
    pub(super) config: String,
    /// The overrides of every run, as in `train --set`.
    #[serde(default)]
    pub(super) set: Vec<String>,
    /// The seeds of each variant's runs.
    pub(super) seeds: Vec<u64>,
    /// The folder of the runs; absent = `runs/NAME`, NAME being the file's.
    pub(super) out: Option<PathBuf>,
    /// The variants; the others are compared with the first.
    #[serde(rename = "variant")]
    pub(super) variants: Vec<Variant>,
}

/// One way to run the config.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    /// Its name.
    pub(super) name: String,
    /// Its overrides, in addition to those of all runs.
    #[serde(default)]
    pub(super) set: Vec<String>,
}

impl Variant {
    /// Its name as a folder name.
    pub(super) fn folder(&self) -> String {
        let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
        self.name.chars().map(plain).collect()
    }
}

impl StudyFile {
    /// Reads a study's file.
    ///
    /// # Errors
    /// Returns an error that names the file if it can't be read, isn't TOML, or has duplicate names.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let study: Self = toml::from_str(text)?;
        if study.variants.is_empty() || study.seeds.is_empty() {
            bail!("a study needs at least one [[variant]], and one of `seeds`");
        }
        let (mut folders, mut seeds) = (BTreeSet::new(), BTreeSet::new());
        for variant in &study.variants {
            if variant.name.is_empty() || !folders.insert(variant.folder()) {
                bail!("the variant name {:?} is empty or used twice", variant.name);
            }
        }
        for seed in &study.seeds {
            if !seeds.insert(seed) {
                bail!("`seeds` has {seed} twice: the run would count twice");
            }
        }
        let all = study.set.iter().chain(study.variants.iter().flat_map(|variant| &variant.set));
        for item in all {
            match item.split_once('=') {
                None => bail!("`set` has {item:?}; expected \"section.key=VALUE\""),
                Some((key, _)) if key.trim() == "train.seed" => {
                    bail!("`set` has train.seed, which `seeds` sets");
                }
                Some(_) => {}
            }
        }
        Ok(study)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "config = \"fox\"\nset = [\"train.steps=3\"]\nseeds = [1, 2]\n\n[[variant]]\nname = \"as it is\"\n\n\
                         [[variant]]\nname = \"no clip\"\nset = [\"optimizer.clip=0\"]\n";

    #[test]
    fn a_study_file_is_read() {
        let study = StudyFile::parse(SOUND).unwrap();
        assert_eq!((study.config.as_str(), study.seeds.as_slice()), ("fox", &[1, 2][..]));
        assert_eq!(study.variants[1].folder(), "no-clip");
        assert_eq!(
            (&study.variants[0].set, &study.variants[1].set[0]),
            (&vec![], &"optimizer.clip=0".to_owned())
        );
    }

    #[test]
    fn faults_of_a_study_file_are_reported() {
        for (from, to, words) in [
            ("no clip", "as it is", "the variant name \"as it is\""),
            ("no clip", "as-it is", "used twice"),
            ("[1, 2]", "[1, 1]", "`seeds` has 1 twice"),
            ("[1, 2]", "[]", "at least one"),
            ("train.steps=3", "train.steps", "expected \"section.key=VALUE\""),
            ("train.steps=3", "train.seed=3", "which `seeds` sets"),
            ("seeds", "seed", "seed"),
        ] {
            let error = format!("{:#}", StudyFile::parse(&SOUND.replace(from, to)).unwrap_err());
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
    }
}
