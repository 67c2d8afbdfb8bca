//! Conversations from files: their rows, packed or not, and faulty files.

use super::tests::write;
use super::*;
use crate::batch::IGNORED;
use crate::config::{DataConfig, DataKind, ObjectiveConfig, RowKind, TokenizerConfig, TokenizerKind};

fn data(folder: &std::path::Path, lines: &str) -> DataConfig {
    DataConfig {
        kind: DataKind::Chat,
        train: write(folder, "chats.jsonl", lines),
        template: Some("plain".into()),
        tokenizer: TokenizerConfig { kind: TokenizerKind::Char, ..TokenizerConfig::default() },
        ..DataConfig::default()
    }
}

fn open(data: &DataConfig, context_len: usize) -> Result<Dataset> {
    let options = OpenOptions { keep_texts: true, shuffle: false, ..OpenOptions::new(context_len, 7) };
    Dataset::open(data, &ObjectiveConfig::default(), &options)
}

const LINES: &str = r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}

{"prompt": "One?", "completion": "Two!", "id": 3}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}
"#;

#[test]
fn only_answers_are_targets() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = open(&data(folder.path(), LINES), 64).unwrap();
    assert_eq!(dataset.n_rows(), 3);
    let shown = dataset.shown(9).unwrap();
    let texts: Vec<&str> = shown.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(texts[0], "User: Hi\nAssistant: Hello.[EOS]\n");
    assert_eq!(texts[2], "User: a\nAssistant: b[EOS]\nUser: c\nAssistant: d[EOS]\n");
    assert_eq!(shown[0].learned, [(19, 31)]);
    let spans: Vec<&str> = shown[2].learned.iter().map(|&(start, end)| &texts[2][start..end]).collect();
    assert_eq!(spans, [" b[EOS]", " d[EOS]"]);
    let batch = dataset.batch(Cursor::default(), 1).unwrap();
    let tokenizer = dataset.tokenizer().unwrap();
    assert_eq!(batch.ids, shown[0].ids);
    let asked: Vec<u32> =
        batch.targets.iter().filter(|&&target| target != IGNORED).map(|&target| target as u32).collect();
    assert_eq!(tokenizer.decode(&asked, false).unwrap(), " Hello.[EOS]");
    assert_eq!((batch.segments, batch.positions), (None, None));
}

#[test]
fn packed_conversations_keep_their_tokens_positions_and_targets() {
    let folder = tempfile::tempdir().unwrap();
    let alone = open(&data(folder.path(), LINES), 64).unwrap();
    let config = DataConfig { rows: Some(RowKind::Windows), ..data(folder.path(), LINES) };
    let together = open(&config, 64).unwrap();
    assert!(together.n_rows() < alone.n_rows());
    assert_eq!(together.n_tokens(), alone.n_tokens());
    let n = together.n_rows() as usize;
    let batch = together.batch(Cursor::default(), n).unwrap();
    let (segments, positions) = (batch.segments.unwrap(), batch.positions.unwrap());
    let mut found = Vec::new();
    for row in 0..n {
        for segment in 0..3 {
            let at: Vec<usize> =
                (row * batch.len..(row + 1) * batch.len).filter(|&at| segments[at] == segment).collect();
            if at.is_empty() {
                continue;
            }
            let of = |at: &usize| (batch.ids[*at], batch.targets[*at], positions[*at]);
            found.push(at.iter().map(of).collect::<Vec<_>>());
        }
    }
    let each = |index: u64| {
        let batch = alone.batch(Cursor { epoch: 0, index }, 1).unwrap();
        let places = batch.ids.iter().zip(&batch.targets).zip(0..);
        places.map(|((&id, &target), place)| (id, target, place)).collect::<Vec<_>>()
    };
    let mut wanted: Vec<_> = (0..3).map(each).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    let shown = together.shown(9).unwrap();
    let n_learned = |rows: &[ShownRow]| rows.iter().map(|row| row.n_learned).sum::<usize>();
    assert_eq!(n_learned(&shown), n_learned(&alone.shown(9).unwrap()));
}

#[test]
fn long_conversations_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = open(&data(folder.path(), LINES), 28).unwrap();
    let texts: Vec<String> = dataset.shown(9).unwrap().into_iter().map(|row| row.text).collect();
    assert_eq!(
        texts,
        [
            "User: Hi\nAssistant: Hello.[EOS]\n",
            "User: One?\nAssistant: Two![EOS]\n",
            "User: a\nAssistant: b[EOS]\n"
        ]
    );
    let warning = dataset.warnings().iter().find(|warning| warning.contains("longer")).unwrap();
    assert!(
        warning.contains(
            "1 of 3 conversations are longer than model.context_len = 28 tokens: 1 of their rows end"
        ),
        "{warning}"
    );
    let error = open(&data(folder.path(), LINES), 8).unwrap_err().to_string();
    assert!(error.contains("8 tokens don't hold one answer"), "{error}");
}

#[test]
fn validation_split_is_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String =
        (0..200).map(|n| format!("{{\"prompt\": \"{n}?\", \"completion\": \"{n}.\"}}\n")).collect();
    let config = DataConfig { validation_fraction: Some(0.2), ..data(folder.path(), &lines) };
    let dataset = open(&config, 64).unwrap();
    let n = dataset.n_validation_rows();
    assert!((20..60).contains(&n) && n + dataset.n_rows() == 200, "{n}");
}

#[test]
fn faulty_rows_are_reported_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = r#"{"prompt": "a", "completion": "b"}"#;
    for (line, wanted) in [
        ("{\"prompt\": \"a\"", "chats.jsonl:2: EOF while parsing"),
        ("[1]", "chats.jsonl:2: "),
        (r#"{"messages": [{"content": "a"}]}"#, "chats.jsonl:2: message 1 has no role"),
        (r#"{"messages": [{"role": "user", "content": "a"}]}"#, "chats.jsonl:2: it has no assistant message"),
        (
            r#"{"messages": [{"role": "usr", "content": "a"}]}"#,
            "chats.jsonl:2: message 1 has the role \"usr\"",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "x"}, {"role": "assistant", "content": "b"}]}"#,
            "chats.jsonl:2: chat template \"plain\": it refuses this conversation: the template \"plain\" knows",
        ),
        (r#"{"text": "a"}"#, "chats.jsonl:2: it has neither messages nor prompt; it has text"),
    ] {
        let config = DataConfig {
            tokenizer: TokenizerConfig { kind: TokenizerKind::Char, ..TokenizerConfig::default() },
            ..data(folder.path(), &format!("{good}\n{line}\n"))
        };
        let error = open(&config, 64).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}\n{wanted}");
    }
    let none = DataConfig { template: None, ..data(folder.path(), good) };
    assert!(open(&none, 64).unwrap_err().to_string().contains("data.template = \"plain\" (sample"));
    let idle = DataConfig { now: Some("2026-01-31 12:00:00".into()), ..data(folder.path(), good) };
    assert!(open(&idle, 64).unwrap_err().to_string().starts_with("data.now: has no effect"));
    let other = DataConfig { now: Some("noon".into()), ..data(folder.path(), good) };
    assert!(open(&other, 64).unwrap_err().to_string().contains("wanted a date and a time"));
}
