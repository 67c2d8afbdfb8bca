//! The cache in use: found again, built once, never incomplete, checked for changes.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use crate::config::{DataConfig, DocumentConfig, ObjectiveConfig, Paths, TokenizerConfig, TokenizerKind};
use crate::cursor::Cursor;
use crate::dataset::{Dataset, OpenOptions};
use crate::error::{Error, Result};
use crate::progress::{Progress, Stage};

/// Records the stages reported.
#[derive(Default)]
struct Heard(Mutex<Vec<Stage>>);

impl Progress for Heard {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        let mut heard = self.0.lock().unwrap();
        assert!(done <= total);
        if heard.last() != Some(&stage) {
            heard.push(stage);
        }
    }
}

fn config(folder: &Path) -> DataConfig {
    let text = folder.join("fox.txt");
    if !text.exists() {
        fs::write(&text, crate::embedded::embedded("fox.txt").unwrap()).unwrap();
        // A recently written file could still change within the resolution of its time; an old one can't.
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        fs::File::options().append(true).open(&text).unwrap().set_modified(old).unwrap();
    }
    DataConfig {
        train: Paths(vec![text.display().to_string()]),
        document: DocumentConfig::Line,
        validation_fraction: Some(0.1),
        cache: Some(folder.join("cache").display().to_string()),
        tokenizer: TokenizerConfig {
            kind: TokenizerKind::Bpe,
            vocab_size: Some(300),
            ..TokenizerConfig::default()
        },
        ..DataConfig::default()
    }
}

fn open(config: &DataConfig) -> (Result<Dataset>, Vec<Stage>) {
    let heard = Heard::default();
    let options = OpenOptions { progress: &heard, ..OpenOptions::new(16, 1) };
    let dataset = Dataset::open(config, &ObjectiveConfig::default(), &options);
    (dataset, heard.0.into_inner().unwrap())
}

fn same(one: &Dataset, other: &Dataset) {
    assert_eq!(one.tokenizer().unwrap().to_json(), other.tokenizer().unwrap().to_json());
    let batch = |dataset: &Dataset| dataset.batch(Cursor::default(), dataset.n_rows() as usize).unwrap();
    assert_eq!(batch(one), batch(other));
    let validation =
        |dataset: &Dataset| dataset.validation_batches(4).map(|batch| batch.unwrap()).collect::<Vec<_>>();
    assert_eq!(validation(one), validation(other));
}

/// The shard file of the training tokens.
fn shard(folder: &Path) -> std::path::PathBuf {
    let corpora = fs::read_dir(folder.join("cache")).unwrap().map(|entry| entry.unwrap().path());
    let mut corpora = corpora.filter(|path| path.is_dir());
    let corpus = corpora.next().unwrap();
    assert!(corpora.next().is_none(), "one corpus and nothing else");
    corpus.join("train-tokens-00000.bin")
}

#[test]
fn second_open_reads_only_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (first, stages) = open(&config);
    assert_eq!(stages, [Stage::Digest, Stage::TrainTokenizer, Stage::Tokenize]);
    let (second, stages) = open(&config);
    assert_eq!(stages, []);
    let (first, second) = (first.unwrap(), second.unwrap());
    same(&first, &second);
    assert!(second.warnings().is_empty());
    let (in_memory, _) = open(&DataConfig { cache: None, ..config });
    same(&first, &in_memory.unwrap());
}

#[test]
fn a_changed_corpus_gets_a_new_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (first, _) = open(&config);
    fs::write(
        folder.path().join("fox.txt"),
        crate::embedded::embedded("fox.txt").unwrap().replace("fox", "dog"),
    )
    .unwrap();
    let (second, stages) = open(&config);
    assert!(stages.contains(&Stage::Tokenize));
    assert_ne!(first.unwrap().tokenizer().unwrap().to_json(), second.unwrap().tokenizer().unwrap().to_json());
}

#[test]
fn changed_or_truncated_shard_files_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = open(&config).0.unwrap();
    let whole = fs::read(shard(folder.path())).unwrap();
    let mut changed = whole.clone();
    changed[10] ^= 1;
    for bytes in [&changed[..], &whole[..whole.len() / 2], &[]] {
        fs::write(shard(folder.path()), bytes).unwrap();
        let (again, stages) = open(&config);
        let again = again.unwrap();
        assert_eq!(stages, [Stage::Tokenize]);
        assert!(again.warnings()[0].contains("it was rebuilt"), "{:?}", again.warnings());
        assert_eq!(fs::read(shard(folder.path())).unwrap(), whole);
        same(&again, &open(&config).0.unwrap());
    }
    // The first dataset still maps deleted files.
    assert!(matches!(first.batch(Cursor::default(), 1), Err(Error::Changed { .. })));
}

#[test]
fn a_mapped_file_that_shrinks_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let dataset = open(&config).0.unwrap();
    dataset.batch(Cursor::default(), 4).unwrap();
    fs::File::options().write(true).open(shard(folder.path())).unwrap().set_len(10).unwrap();
    let error = dataset.batch(Cursor::default(), 4).unwrap_err().to_string();
    assert!(error.contains("changed while it was used") && error.contains("now has 10"), "{error}");
}

#[test]
fn interrupted_build_is_not_used_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = open(&config).0.unwrap();
    let corpus = shard(folder.path()).parent().unwrap().to_path_buf();
    let name = corpus.file_name().unwrap().to_string_lossy().into_owned();
    let left = folder.path().join("cache").join(format!(".building-{name}-x"));
    fs::rename(&corpus, &left).unwrap();
    fs::remove_file(left.join("manifest.json")).unwrap();
    let (second, stages) = open(&config);
    assert_eq!(stages, [Stage::Tokenize]);
    assert!(!left.exists());
    drop(first);
    same(&second.unwrap(), &open(&config).0.unwrap());
}

#[test]
fn concurrent_opens_get_the_same_cache() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (one, two) = std::thread::scope(|scope| {
        let (one, two) = (scope.spawn(|| open(&config)), scope.spawn(|| open(&config)));
        (one.join().unwrap(), two.join().unwrap())
    });
    same(&one.0.unwrap(), &two.0.unwrap());
    shard(folder.path());
    let built = [one.1, two.1].iter().filter(|stages| stages.contains(&Stage::Tokenize)).count();
    assert_eq!(built, 1, "the second waits for the first");
}

#[test]
fn unwritable_cache_folder_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    fs::write(folder.path().join("file"), "").unwrap();
    config.cache = Some(folder.path().join("file/cache").display().to_string());
    let error = open(&config).0.unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("set data.cache to a folder"), "{error}");
}

/// `/dev/full` has no room for a byte: a build there must fail with a clear error, and the cache stays intact.
#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error_that_leaves_nothing() {
    use crate::store::{Made, Target};
    let folder = tempfile::tempdir().unwrap();
    let cache = super::Cache { folder: folder.path().to_path_buf() };
    let build = |target: &Target| -> Result<Made> {
        let Target::Folder(folder) = target else { panic!("expected a folder") };
        let path = folder.join("train-tokens-00000.bin");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut writer = crate::store::Writer::new(crate::store::Width::U16, "train-tokens".into(), target);
        writer.push(vec![1u64; 1 << 20].into_iter())?;
        Err(writer.finish().map(|_| ()).expect_err("there is no room"))
    };
    let error = cache.corpus(super::Key::new("test"), &|| (), build).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("has room"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
