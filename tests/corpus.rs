//! The token cache under the real program: concurrent builds, kills, a full disk, truncation while in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vulpes_data::{
    Batches, Cursor, DataConfig, Dataset, DocumentConfig, ObjectiveConfig, OpenOptions, Paths, Rank,
};

use crate::support::{Place, Said};

/// A run over a corpus with a separate cache.
const CORPUS: &str = r#"
[model]
family = "gpt2"
n_layer = 1
n_head = 1
d_model = 8
context_len = 8

[data]
train = "text.txt"
document = "line"
validation_fraction = 0.1
cache = "cache"

[data.tokenizer]
kind = "bpe"
vocab_size = 400

[train]
steps = 3
batch_rows = 4
"#;

/// Writes about `n` bytes of word-like text, old enough for the cache to rely on the file's time.
fn write_text(place: &Place, bytes: usize) {
    let syllables = ["fo", "xes", "jum", "ped", "ov", "er", "la", "zy", "do", "gs", "qui", "ck", "bro", "wn"];
    let mut text = String::with_capacity(bytes + 64);
    let mut state = 1u64;
    let mut draw = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    while text.len() < bytes {
        for _ in 0..=draw(3) {
            text += syllables[draw(14) as usize];
        }
        text.push(if draw(9) == 0 { '\n' } else { ' ' });
    }
    place.write("text.txt", &text);
    let file = fs::File::options().append(true).open(place.path("text.txt")).expect("the text");
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).expect("a time");
}

fn place(bytes: usize) -> Place {
    let place = Place::new();
    place.write("corpus.toml", CORPUS);
    write_text(&place, bytes);
    place
}

const DRY: [&str; 4] = ["--config", "corpus.toml", "--dry-run", "--json"];

/// The contents of the cache.
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("cache")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The only corpus in the cache; there is nothing else but the tokenizer and the notes.
#[track_caller]
fn corpus(place: &Place) -> PathBuf {
    let names = names(place);
    let kinds: Vec<&str> = names.iter().filter_map(|name| name.split('-').next()).collect();
    assert_eq!(kinds, ["corpus", "digests", "tokenizer"], "{names:?}");
    place.path("cache").join(&names[0])
}

/// The shard files of a corpus, by name.
fn shards(corpus: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(corpus).expect("a corpus").map(|entry| entry.expect("an entry").path());
    let shards = files.filter(|path| path.extension().is_some_and(|extension| extension == "bin"));
    shards
        .map(|path| {
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                fs::read(&path).expect("bytes"),
            )
        })
        .collect()
}

#[test]
fn concurrent_processes_build_the_cache_once() {
    let place = place(3 << 20);
    let children: Vec<Child> = (0..3).map(|_| place.start(&DRY)).collect();
    let said: Vec<Said> = children.into_iter().map(Place::wait).collect();
    for one in &said {
        assert_eq!(one.succeeds().stdout, said[0].stdout);
    }
    let built = shards(&corpus(&place));
    fs::remove_dir_all(place.path("cache")).expect("removed");
    place.train(&DRY).succeeds();
    assert!(built == shards(&corpus(&place)), "three processes at once make the shards of one");
}

/// After SIGKILL at several moments of a build, the remains are never used as a corpus, and the next build removes
/// them.
#[test]
fn killed_cache_build_is_never_used_half_done() {
    let place = place(4 << 20);
    let building = || names(&place).into_iter().find(|name| name.starts_with(".building-"));
    let (mut killed, mut unfinished) = (0, 0);
    for moment in 0..6 {
        let mut child = place.start(&DRY);
        let begun = Instant::now();
        let has_begun = || building().is_some_and(|name| place.path("cache").join(name).read_dir().is_ok());
        while !has_begun() && child.try_wait().expect("a state").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "the build doesn't begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(15 * moment));
        child.kill().expect("killed");
        child.wait().expect("an end");
        if let Some(name) = names(&place).iter().find(|name| name.starts_with("corpus-")) {
            // The kill came too late; start over.
            fs::remove_dir_all(place.path("cache").join(name)).expect("removed");
            continue;
        }
        killed += 1;
        unfinished += usize::from(building().is_some());
    }
    assert!(unfinished > 0, "none of {killed} kills left an unfinished build, but {:?}", names(&place));
    let said = place.train(&DRY);
    let built = shards(&corpus(&place));
    fs::remove_dir_all(place.path("cache")).expect("removed");
    assert_eq!(place.train(&DRY).succeeds().stdout, said.succeeds().stdout);
    assert!(built == shards(&corpus(&place)), "a build after kills makes the shards of a first one");
}

/// Remains of another corpus's killed build are removed, too; a build in progress stays.
#[test]
fn stale_builds_of_other_corpora_are_removed() {
    let place = place(1 << 20);
    let other = place.path("cache/.building-corpus-00000000000000000000000000000000-abc");
    let going_on = place.path("cache/.building-corpus-11111111111111111111111111111111-abc");
    [&other, &going_on].into_iter().for_each(|folder| fs::create_dir_all(folder).expect("a folder"));
    let lock =
        fs::File::create(place.path("cache/.lock-corpus-11111111111111111111111111111111")).expect("a file");
    lock.lock().expect("a lock");
    place.train(&DRY).succeeds();
    assert!(!other.exists() && going_on.exists());
}

/// A file size limit simulates a full disk: the write fails in the middle of the build.
#[test]
fn full_disk_during_cache_build_is_reported_and_leaves_nothing() {
    let place = place(3 << 20);
    let train = env!("CARGO_BIN_EXE_train");
    let output = Command::new("sh")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f 500; exec {train} {}", DRY.join(" "))])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: cannot write ") && said.contains("cache/.building-corpus-"), "{said}");
    assert!(said.contains("set data.cache to a folder that can be written and has room"), "{said}");
    let left = names(&place);
    assert!(
        left.iter().all(|name| name.starts_with("digests-") || name.starts_with("tokenizer-")),
        "{left:?}"
    );
    place.train(&DRY).succeeds();
    corpus(&place);
}

#[test]
fn shard_truncated_or_replaced_in_use_ends_the_run_with_a_message() {
    let place = place(1 << 20);
    let train =
        ["--config", "corpus.toml", "--set", "train.steps=100000000", "--set", "train.checkpoint_every=0"];
    let replace = |path: &Path| {
        fs::copy(path, path.with_extension("new")).expect("copied");
        fs::rename(path.with_extension("new"), path).expect("replaced");
    };
    let cut =
        |path: &Path| fs::File::options().write(true).open(path).expect("a file").set_len(100).expect("cut");
    for (number, change) in [&replace as &dyn Fn(&Path), &cut].into_iter().enumerate() {
        let out = format!("runs/{number}");
        let child = place.start(&[&train[..], &["--quiet", "--out", &out]].concat());
        let metrics = place.path(&out).join("metrics.jsonl");
        let begun = Instant::now();
        while fs::metadata(&metrics).map_or(0, |meta| meta.len()) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "the run doesn't begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        change(&corpus(&place).join("train-tokens-00000.bin"));
        Place::wait(child)
            .fails(1, &["error: ", "train-tokens-00000.bin changed while it was used", "start again"]);
    }
    // The cut shard is noticed at the next start.
    place.train(&DRY).fails(0, &["it was rebuilt"]);
    place.train(&DRY).succeeds();
}

#[test]
fn cache_is_found_regardless_of_file_times() {
    let place = place(1 << 20);
    let first = place.train(&DRY);
    let shard = corpus(&place).join("train-tokens-00000.bin");
    let before = fs::metadata(&shard).expect("a file").modified().expect("a time");
    // A byte changes while the modification time is set back.
    let mut bytes = fs::read(&shard).expect("bytes");
    bytes[1000] ^= 1;
    fs::write(&shard, &bytes).expect("written");
    fs::File::options().append(true).open(&shard).expect("a file").set_modified(before).expect("a time");
    place.train(&DRY).fails(0, &["it was rebuilt"]);
    // Other times over the same bytes are no change.
    fs::File::options().append(true).open(&shard).expect("a file").set_modified(before).expect("a time");
    let said = place.train(&DRY);
    assert!(said.succeeds().stderr.is_empty() && said.stdout == first.stdout, "{}", said.stderr);
}

#[test]
fn bad_corpora_are_reported() {
    let place = Place::new();
    place.write("corpus.toml", CORPUS.replace("document = \"line\"\n", ""));
    place.write(
        "rows.jsonl",
        "{\"review\": \"a fox\", \"stars\": 5}\n{\"review\": \"a dog\", \"stars\": 1}\n",
    );
    place.write("more.jsonl", "{\"review\": \"a cat\", \"stars\": 3}\n");
    place.write("rows.csv", "review,stars\na fox,5\n");
    place.write("text.txt", "The quick brown fox jumps over the lazy dog.\n".repeat(20));
    let train = |settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|item| ["--set", item]).collect();
        place.train(&[&["--config", "corpus.toml"][..], &settings].concat())
    };
    train(&["data.train=\"none/*.txt\""]).fails(2, &["none/*.txt matches no file"]);
    train(&["data.train=[\"text.txt\", \"*.md\"]"]).fails(2, &["*.md matches no file"]);
    let jsonl = ["data.kind=jsonl", "data.train=rows.jsonl", "data.tokenizer={kind=\"word\"}"];
    train(&jsonl).fails(2, &["rows.jsonl:1: no column \"text\"; it has review, stars"]);
    train(&["data.kind=csv", "data.train=rows.csv"]).fails(2, &["no column \"text\"; it has review, stars"]);
    let larger = place.train(&["--config", "corpus.toml", "--dry-run"]);
    larger.fails(0, &["data.tokenizer.vocab_size = 400, but the corpus yields 292 tokens"]);
    place.write(
        "classify.toml",
        "[model]\nfamily = \"bert\"\nn_layer = 1\nn_head = 1\nd_model = 8\ncontext_len = 8\n[objective]\nkind = \"classify\"\n\
         [data]\nkind = \"jsonl\"\ntrain = \"rows.jsonl\"\nvalidation = \"more.jsonl\"\ntext_column = \"review\"\nlabel_column = \"stars\"\n",
    );
    place
        .train(&["--config", "classify.toml"])
        .fails(2, &["more.jsonl:1: label \"3\" does not occur in data.train, which has 5, 1"]);
    let twice = ["data.validation=text.txt", "data.tokenizer.kind=word", "train.steps=1"];
    place.write(
        "corpus.toml",
        CORPUS.replace("validation_fraction = 0.1\n", "").replace("vocab_size = 400", ""),
    );
    train(&twice).fails(0, &["text.txt is in data.train and in data.validation"]);
    assert!(!place.path("cache").exists() || names(&place).iter().all(|name| !name.starts_with('.')));
}

/// The windows of rank r of k, one per line; run by [`ranks_partition_the_windows_among_processes`].
#[test]
#[ignore = "started by ranks_partition_the_windows_among_processes"]
fn rank_process() {
    let task = std::env::var("VULPES_TEST_RANK").expect("another test starts this one");
    let [rank, of, n, folder]: [&str; 4] =
        task.splitn(4, ' ').collect::<Vec<_>>().try_into().expect("a task");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (rank, of, folder) = (number(rank), number(of), Path::new(folder));
    let data = DataConfig {
        train: Paths(vec![folder.join("text.txt").display().to_string()]),
        document: DocumentConfig::Line,
        cache: Some(folder.join("cache").display().to_string()),
        ..DataConfig::default()
    };
    let options = OpenOptions::new(8, 3);
    let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options).expect("a corpus");
    let rows = 5;
    let mut batches = Batches::new(Arc::new(dataset), Cursor::default(), rows, Rank { rank, of });
    let mut lines = String::new();
    for _ in 0..number(n) {
        let batch = batches.next_batch().expect("a batch");
        for (row, ids) in batch.ids.chunks(batch.len).enumerate() {
            lines += &format!("{} {ids:?}\n", batch.first_row + row as u64);
        }
    }
    fs::write(folder.join(format!("rank-{rank}-of-{of}.txt")), lines).expect("written");
}

/// k real processes on one cache, with rank r of k: each window comes once per epoch, and together they are the run of
/// one process.
#[test]
fn ranks_partition_the_windows_among_processes() {
    let place = place(6_000);
    let run = |of: u64, steps: u64| -> Vec<(u64, String)> {
        let start = |rank| {
            Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "corpus::rank_process", "--ignored", "--quiet"])
                .env("VULPES_TEST_RANK", format!("{rank} {of} {steps} {}", place.path("").display()))
                .stdout(Stdio::null())
                .spawn()
                .expect("a process")
        };
        let children: Vec<Child> = (0..of).map(start).collect();
        children.into_iter().for_each(|mut child| assert!(child.wait().expect("an end").success()));
        let mut rows: Vec<(u64, String)> = (0..of)
            .flat_map(|rank| {
                let text = place.read(&format!("rank-{rank}-of-{of}.txt"));
                let row = |line: &str| {
                    let (row, ids) = line.split_once(' ').expect("a row");
                    (row.parse().expect("a number"), ids.to_owned())
                };
                text.lines().map(row).collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        rows
    };
    let alone = run(1, 60);
    assert_eq!(alone.len(), 300);
    for of in [2, 3, 4] {
        assert_eq!(run(of, 60 / of), alone, "{of} processes");
    }
}
