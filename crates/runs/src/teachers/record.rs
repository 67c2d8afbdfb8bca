//! The results of a search in the run's folder, as JSON lines: the unchanged rerun, then each other one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Moment, Question};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The folder of records in a run's folder.
pub(crate) const TEACHERS: &str = "teachers";
/// The format version; other versions are not read.
const FORMAT: u32 = 1;

/// The results of the unchanged rerun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    /// The answer's probability.
    pub(super) probability: f64,
    /// The effect of each row on it, to first order.
    pub(super) effects: BTreeMap<u64, f64>,
}

/// One rerun.
#[derive(Serialize, Deserialize)]
struct Without {
    rows: BTreeSet<u64>,
    probability: f64,
}

/// A record, and its file if it can be written.
pub(super) struct Record {
    path: PathBuf,
    file: Option<File>,
    found: Option<Found>,
    without: BTreeMap<BTreeSet<u64>, f64>,
}

/// The key of a search: a digest of the question, the checkpoint, the config and the format version.
pub(super) fn key(plan: &Plan, moment: &Moment, question: &Question) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let config = plan.config.to_toml().map_err(|error| Error::Usage(error.to_string()))?;
    let question = serde_json::to_string(question).map_err(std::io::Error::other)?;
    for part in
        [env!("CARGO_PKG_VERSION"), &FORMAT.to_string(), &config, &moment.whole.state.digest, &question]
    {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

impl Record {
    /// Reads existing results. Without write permission, new results are not kept.
    pub(super) fn open(run_dir: &Path, key: &str) -> Self {
        let dir = run_dir.join(TEACHERS);
        let path = dir.join(format!("{key}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // A truncated last line is dropped; otherwise the next record would be appended to it.
        let whole: usize = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let found = lines.next().and_then(|line| serde_json::from_str(line).ok());
        let without = lines.filter_map(|line| serde_json::from_str::<Without>(line).ok());
        let without = without.map(|line| (line.rows, line.probability)).collect();
        let open = || {
            std::fs::create_dir_all(&dir)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.set_len(if found.is_some() { whole as u64 } else { 0 })?;
            Ok::<_, std::io::Error>(file)
        };
        let file = open().ok();
        Self { path, file, without: if found.is_some() { without } else { BTreeMap::new() }, found }
    }

    /// The unchanged rerun, if it has been done.
    pub(super) fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// The answer's probability without those rows, if that rerun has been done.
    pub(super) fn without(&self, rows: &BTreeSet<u64>) -> Option<f64> {
        self.without.get(rows).copied()
    }

    pub(super) fn write_found(&mut self, found: &Found) -> Result<()> {
        self.write(found)?;
        self.found = Some(found.clone());
        Ok(())
    }

    pub(super) fn write_without(&mut self, rows: &BTreeSet<u64>, probability: f64) -> Result<()> {
        self.write(&Without { rows: rows.clone(), probability })?;
        self.without.insert(rows.clone(), probability);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut text = serde_json::to_string(line).map_err(std::io::Error::other)?;
        text.push('\n');
        file.write_all(text.as_bytes()).map_err(|source| Error::io("write", &self.path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_up_to_its_last_complete_line() {
        let dir = tempfile::tempdir().unwrap();
        let found = Found { probability: 0.1 + 0.2, effects: BTreeMap::from([(3, -1e-300), (7, 0.25)]) };
        let rows = |rows: &[u64]| rows.iter().copied().collect::<BTreeSet<u64>>();
        let mut record = Record::open(dir.path(), "a");
        record.write_found(&found).unwrap();
        record.write_without(&rows(&[3]), 1.0 / 3.0).unwrap();
        let path = record.path.clone();
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"rows\":[7],\"probab")).unwrap();
        let mut again = Record::open(dir.path(), "a");
        assert_eq!(again.found(), Some(&found));
        assert_eq!((again.without(&rows(&[3])), again.without(&rows(&[7]))), (Some(1.0 / 3.0), None));
        again.write_without(&rows(&[3, 7]), 0.5).unwrap();
        assert_eq!(Record::open(dir.path(), "a").without(&rows(&[3, 7])), Some(0.5));
        assert_eq!(Record::open(dir.path(), "b").found(), None);
    }
}
