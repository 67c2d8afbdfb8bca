//! Batches from small files: coverage, order, targets, masking and validation splits.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::batch::IGNORED;
use crate::config::{
    DataConfig, DataKind, DocumentConfig, ObjectiveConfig, ObjectiveKind, Paths, RowKind, TokenizerConfig,
    TokenizerKind,
};

pub(super) fn options(context_len: usize) -> OpenOptions<'static> {
    OpenOptions::new(context_len, 7)
}

pub(super) fn fox() -> DataConfig {
    DataConfig {
        train: "data/fox.txt".into(),
        validation: "data/fox.val.txt".into(),
        document: DocumentConfig::Line,
        ..DataConfig::default()
    }
}

pub(super) fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> Paths {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    Paths(vec![path.display().to_string()])
}

pub(super) fn open(data: &DataConfig, objective: ObjectiveKind, context_len: usize) -> Result<Dataset> {
    Dataset::open(
        data,
        &ObjectiveConfig { kind: Some(objective), ..ObjectiveConfig::default() },
        &options(context_len),
    )
}

pub(super) fn all_ids(dataset: &Dataset, epoch: u64) -> Vec<Vec<u32>> {
    let n = dataset.n_rows();
    let batch = dataset.batch(Cursor { epoch, index: 0 }, n as usize).unwrap();
    batch.ids.chunks(batch.len).map(<[u32]>::to_vec).collect()
}

#[test]
fn the_fox_is_embedded_and_every_validation_word_is_known() {
    let dataset = open(&fox(), ObjectiveKind::NextToken, 16).unwrap();
    let tokenizer = dataset.tokenizer().unwrap();
    assert!((100..=180).contains(&dataset.vocab_size()), "{}", dataset.vocab_size());
    for batch in dataset.validation_batches(8) {
        assert!(!batch.unwrap().ids.contains(&tokenizer.unk_id().unwrap()));
    }
    let text = crate::embedded::embedded("fox.txt").unwrap();
    assert!((100..=200).contains(&text.lines().count()));
    for line in text.lines().filter(|line| line.to_lowercase().contains("the quick brown fox")) {
        assert!(line.contains("quick brown fox jumps"), "{line}");
    }
}

#[test]
fn every_window_is_read_once_per_epoch_in_a_new_order() {
    let dataset = open(&fox(), ObjectiveKind::NextToken, 16).unwrap();
    let (mut first, mut second) = (all_ids(&dataset, 0), all_ids(&dataset, 1));
    assert_ne!(first, second);
    let plain = open(&DataConfig { shuffle: false, ..fox() }, ObjectiveKind::NextToken, 16).unwrap();
    let mut in_order = all_ids(&plain, 0);
    assert_eq!(in_order, all_ids(&plain, 5));
    [&mut first, &mut second, &mut in_order].into_iter().for_each(|rows| rows.sort());
    assert_eq!(first, second);
    assert_eq!(first, in_order);
}

#[test]
fn targets_are_the_next_tokens() {
    let dataset = open(&DataConfig { shuffle: false, ..fox() }, ObjectiveKind::NextToken, 16).unwrap();
    let batch = dataset.batch(Cursor::default(), 3).unwrap();
    assert_eq!((batch.rows, batch.len, batch.n_targets()), (3, 16, 48));
    let targets: Vec<u32> = batch.targets.iter().map(|&target| target as u32).collect();
    assert_eq!(batch.ids[1..], targets[..47]);
    let text = dataset.tokenizer().unwrap().decode(&batch.ids[..10], true).unwrap();
    assert_eq!(text, "The quick brown fox jumps over the lazy dog.");
}

#[test]
fn rows_do_not_depend_on_the_batch_size() {
    for (data, objective) in [
        (fox(), ObjectiveKind::NextToken),
        (fox(), ObjectiveKind::MaskedToken),
        (DataConfig { rows: Some(RowKind::Documents), ..fox() }, ObjectiveKind::MaskedToken),
    ] {
        let dataset = open(&data, objective, 16).unwrap();
        let n = dataset.n_rows();
        let start = Cursor { epoch: 0, index: n - 5 };
        let whole = dataset.batch(start, 12).unwrap();
        let real = |batch: &Batch, row: usize| {
            let places = row * batch.len..(row + 1) * batch.len;
            let padding_mask =
                |place: &usize| batch.padding_mask.as_ref().is_none_or(|mask| mask[*place] == 1);
            places
                .filter(padding_mask)
                .map(|place| (batch.ids[place], batch.targets[place]))
                .collect::<Vec<_>>()
        };
        let mut row = 0;
        let mut cursor = start;
        for rows in [3, 1, 4, 4] {
            let part = dataset.batch(cursor, rows).unwrap();
            assert_eq!(part.first_row, whole.first_row + row as u64);
            for i in 0..rows {
                assert_eq!(real(&part, i), real(&whole, row + i));
                assert_eq!(real(&whole.slice(row + i..row + i + 1), 0), real(&whole, row + i));
            }
            row += rows;
            cursor = dataset.advance(cursor, rows as u64);
        }
    }
}

#[test]
fn ranks_cover_each_window_once() {
    let dataset = Arc::new(open(&fox(), ObjectiveKind::NextToken, 16).unwrap());
    let n = dataset.n_rows();
    for of in [1, 2, 3] {
        let mut rows: Vec<Vec<u32>> = Vec::new();
        for rank in 0..of {
            let mut batches = Batches::new(dataset.clone(), Cursor::default(), 1, Rank { rank, of });
            for _ in 0..(n - rank).div_ceil(of) {
                rows.push(batches.next_batch().unwrap().ids);
            }
        }
        rows.sort();
        let mut all = all_ids(&dataset, 0);
        all.sort();
        assert_eq!(rows, all);
    }
}

#[test]
fn prefetched_batches_are_the_same_and_resume_at_any_step() {
    let dataset = Arc::new(open(&fox(), ObjectiveKind::MaskedToken, 16).unwrap());
    let mut through = Batches::new(dataset.clone(), Cursor::default(), 7, Rank::default());
    for _ in 0..40 {
        let cursor = through.cursor();
        let batch = through.next_batch().unwrap();
        assert_eq!(batch, dataset.batch(cursor, 7).unwrap());
        let mut resumed = Batches::new(dataset.clone(), cursor, 7, Rank::default());
        assert_eq!(resumed.next_batch().unwrap(), batch);
        assert_eq!(resumed.cursor(), through.cursor());
    }
}

#[test]
fn masks_cover_the_configured_share_of_real_tokens() {
    let data = DataConfig { rows: Some(RowKind::Documents), ..fox() };
    let dataset = open(&data, ObjectiveKind::MaskedToken, 32).unwrap();
    let tokenizer = dataset.tokenizer().unwrap();
    let (mut chosen, mut hidden, mut kept, mut real) = (0, 0, 0, 0);
    for epoch in 0..40 {
        let batch = dataset.batch(Cursor { epoch, index: 0 }, 154).unwrap();
        assert!(batch.padding_mask.is_some());
        real += batch.n_tokens() - 154;
        for (&id, &target) in batch.ids.iter().zip(&batch.targets).filter(|(_, target)| **target != IGNORED) {
            assert!(!tokenizer.is_special(target as u32));
            chosen += 1;
            hidden += usize::from(Some(id) == tokenizer.mask_id());
            kept += usize::from(i64::from(id) == target);
            assert!(Some(id) == tokenizer.mask_id() || !tokenizer.is_special(id));
        }
        assert!((0..154).all(|row| batch.slice(row..row + 1).n_targets() > 0));
    }
    let share = |n: usize, of: usize| n as f64 / of as f64;
    // At least one per row raises the share above 15 %.
    assert!((0.15..0.25).contains(&share(chosen, real)), "{chosen} of {real}");
    assert!((share(hidden, chosen) - 0.8).abs() < 0.03 && (share(kept, chosen) - 0.1).abs() < 0.03);
    let validation = || dataset.validation_batches(5).map(|batch| batch.unwrap()).collect::<Vec<_>>();
    assert_eq!(validation(), validation());
    let other = OpenOptions { seed: 8, ..options(32) };
    let objective = ObjectiveConfig { kind: Some(ObjectiveKind::MaskedToken), ..ObjectiveConfig::default() };
    let other = Dataset::open(&data, &objective, &other).unwrap();
    assert_eq!(other.validation_batches(5).map(|batch| batch.unwrap()).collect::<Vec<_>>(), validation());
    assert_ne!(other.batch(Cursor::default(), 5).unwrap(), dataset.batch(Cursor::default(), 5).unwrap());
}

#[test]
fn validation_includes_the_last_incomplete_window() {
    let dataset = open(&fox(), ObjectiveKind::NextToken, 16).unwrap();
    let n_targets: usize = dataset.validation_batches(3).map(|batch| batch.unwrap().n_targets()).sum();
    assert_eq!(n_targets as u64, dataset.n_validation_tokens() - 1);
    let part = open(&DataConfig { validation_rows: Some(2), ..fox() }, ObjectiveKind::NextToken, 16).unwrap();
    assert_eq!(part.validation_batches(3).map(|batch| batch.unwrap().rows).sum::<usize>(), 2);
}

#[test]
fn separate_documents_have_segments_positions_and_no_targets_across() {
    let data = DataConfig { separate_documents: true, shuffle: false, ..fox() };
    let dataset = open(&data, ObjectiveKind::NextToken, 16).unwrap();
    let eos = dataset.tokenizer().unwrap().eos_id().unwrap();
    let batch = dataset.batch(Cursor::default(), 20).unwrap();
    let (segments, positions) = (batch.segments.clone().unwrap(), batch.positions.clone().unwrap());
    for row in 0..20 {
        let (mut segment, mut position) = (0, 0);
        for place in row * 16..(row + 1) * 16 {
            assert_eq!((segments[place], positions[place]), (segment, position));
            position += 1;
            // The end token opens a document and predicts its first word; where it ends one it has no target.
            let ends = batch.ids[place] == eos
                && (position > 1 || (place % 16 == 0 && batch.targets[place] == IGNORED));
            assert_eq!(batch.targets[place] == IGNORED, ends);
            if ends {
                (segment, position) = (segment + 1, 0);
            }
        }
    }
}

#[test]
fn long_documents_are_split_into_rows_without_loss() {
    let data = DataConfig { rows: Some(RowKind::Documents), shuffle: false, ..fox() };
    let dataset = open(&data, ObjectiveKind::NextToken, 4).unwrap();
    let batch = dataset.batch(Cursor::default(), dataset.n_rows() as usize).unwrap();
    assert_eq!(batch.n_targets() as u64, dataset.n_tokens() - 154);
    let opening = dataset.tokenizer().unwrap().eos_id().unwrap();
    assert_eq!(
        batch.ids.chunks(batch.len).filter(|row| row[0] == opening).count(),
        154,
        "each opens with a token"
    );
}

#[test]
fn synthetic_ids_equal_those_of_the_bench_peer() {
    let data = DataConfig { kind: DataKind::Synthetic, ..DataConfig::default() };
    let options = OpenOptions { vocab_size: Some(65), ..options(64) };
    let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options).unwrap();
    let batch = dataset.batch(dataset.advance(Cursor::default(), 24), 12).unwrap();
    assert!((0..12 * 64).all(|i| batch.ids[i] as usize == i * 7919 % 65));
    assert!((0..12 * 64).all(|i| batch.targets[i] as usize == (i * 7919 + 13) % 65));
}

#[test]
fn validation_split_is_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let text = crate::embedded::embedded("fox.txt").unwrap();
    let data = |text: &str| DataConfig {
        train: write(folder.path(), "fox.txt", text),
        document: DocumentConfig::Line,
        rows: Some(RowKind::Documents),
        validation_fraction: Some(0.2),
        shuffle: false,
        ..DataConfig::default()
    };
    let texts = |dataset: &Dataset| -> Vec<String> {
        let decode = |batch: Batch| -> Vec<String> {
            let rows = batch.ids.chunks(batch.len);
            rows.map(|ids| dataset.tokenizer().unwrap().decode(ids, true).unwrap()).collect()
        };
        dataset.validation_batches(9).flat_map(|batch| decode(batch.unwrap())).collect()
    };
    let apart = texts(&open(&data(text), ObjectiveKind::NextToken, 32).unwrap());
    assert!((15..50).contains(&apart.len()), "{}", apart.len());
    let more = format!("The fox is here.\nThe dog is there.\n{text}");
    let with_more = texts(&open(&data(&more), ObjectiveKind::NextToken, 32).unwrap());
    assert!(apart.iter().all(|text| with_more.contains(text)));
    assert!(with_more.len() <= apart.len() + 2);
}

#[test]
fn a_single_document_is_split_by_position() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..1000).map(|i| char::from(b'a' + (i * i % 26) as u8)).collect();
    let data = DataConfig {
        train: write(folder.path(), "one.txt", &text),
        validation_fraction: Some(0.1),
        shuffle: false,
        tokenizer: TokenizerConfig { kind: TokenizerKind::Char, ..TokenizerConfig::default() },
        ..DataConfig::default()
    };
    for document in [DocumentConfig::File, DocumentConfig::Line] {
        let dataset = open(&DataConfig { document, ..data.clone() }, ObjectiveKind::NextToken, 10).unwrap();
        let first = dataset.validation_batches(1).next().unwrap().unwrap();
        assert_eq!(dataset.tokenizer().unwrap().decode(&first.ids, true).unwrap(), text[900..910]);
        assert_eq!((dataset.n_tokens(), dataset.n_validation_tokens()), (901, 101));
    }
}

#[test]
fn buckets_hold_rows_of_similar_length_and_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = (0..3000u64).map(|i| 1 + i * i * 7 % 61);
    let text: String = lengths.map(|n| "fox ".repeat(n as usize) + "\n").collect();
    let data = |bucket| DataConfig {
        train: write(folder.path(), "long.txt", &text),
        document: DocumentConfig::Line,
        rows: Some(RowKind::Documents),
        bucket,
        ..DataConfig::default()
    };
    let padding = |dataset: &Dataset| -> usize {
        let batch = |number| dataset.batch(Cursor { epoch: 1, index: number * 8 }, 8).unwrap();
        (0..dataset.n_rows() / 8).map(batch).map(|batch| batch.ids.len() - batch.n_tokens()).sum()
    };
    let plain = open(&data(None), ObjectiveKind::MaskedToken, 64).unwrap();
    let bucketed = open(&data(Some(8)), ObjectiveKind::MaskedToken, 64).unwrap();
    assert!(padding(&bucketed) * 10 < padding(&plain), "{} {}", padding(&bucketed), padding(&plain));
    let (n, rows) = (bucketed.n_rows(), &bucketed.train);
    let order = |epoch| bucketed.order.rows(rows, Cursor { epoch, index: 0 }, n as usize);
    assert_ne!(order(0), order(1));
    let mut all = order(0);
    all.sort_unstable();
    assert_eq!(all, (0..n).collect::<Vec<_>>());
    // The order depends on the index alone.
    let from_middle = bucketed.order.rows(rows, Cursor { epoch: 0, index: 1234 }, 20);
    assert_eq!(from_middle, order(0)[1234..1254]);
}
