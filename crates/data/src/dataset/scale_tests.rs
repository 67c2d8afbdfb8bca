//! Independence of the number of threads, and sizes past 32 bits.

use std::sync::Arc;

use super::tests::{all_ids, fox, open};
use super::*;
use crate::config::{DataConfig, ObjectiveKind, TokenizerConfig, TokenizerKind};

#[test]
fn the_number_of_threads_does_not_change_the_tokenizer_or_the_tokens() {
    for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
        let data = DataConfig { tokenizer: TokenizerConfig { kind, ..TokenizerConfig::default() }, ..fox() };
        let made: Vec<(String, Vec<Vec<u32>>)> = [1, 2, 4, 7]
            .into_iter()
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let dataset = pool.install(|| open(&data, ObjectiveKind::NextToken, 16)).unwrap();
                (dataset.tokenizer().unwrap().to_json().to_owned(), all_ids(&dataset, 0))
            })
            .collect();
        assert!(made.iter().all(|one| *one == made[0]), "{kind:?}");
    }
}

/// A store over sparse files: more tokens than 32 bits can count.
#[cfg(unix)]
#[test]
fn tokens_past_32_bits_are_addressed() {
    use std::os::unix::fs::FileExt;

    use crate::store::{Column, Store, Width};
    let folder = tempfile::tempdir().unwrap();
    let per_shard = 1u64 << 31;
    let n_tokens = (1u64 << 32) + 1000;
    let name = |number: u64| folder.path().join(format!("tokens-{number:05}.bin"));
    for number in 0..3 {
        let file = std::fs::File::create(name(number)).unwrap();
        file.set_len(2 * per_shard.min(n_tokens - number * per_shard)).unwrap();
    }
    let set = |at: u64, id: u16| {
        let file = std::fs::File::options().write(true).open(name(at / per_shard)).unwrap();
        file.write_all_at(&id.to_le_bytes(), 2 * (at % per_shard)).unwrap();
    };
    let boundary = (1u64 << 32) - 3;
    (0..8).for_each(|i| set(boundary + i, 100 + i as u16));
    set(per_shard - 1, 7);
    set(per_shard, 8);
    set(n_tokens - 1, 9);
    let mut ends = Vec::new();
    Width::U64.write([5, boundary + 4, n_tokens].into_iter(), &mut ends);
    let store = || Store {
        tokens: Column::mapped(Width::U16, per_shard, &[name(0), name(1), name(2)]).unwrap(),
        ends: Column::in_memory(Width::U64, ends.clone()),
        labels: None,
        pair_starts: None,
    };
    let len = 10;
    let windows = rows::Rows::Windows(rows::Windows::new(store(), len, ObjectiveKind::NextToken, true, true));
    assert_eq!((windows.n_tokens(), windows.len()), (n_tokens, (n_tokens - 1).div_ceil(10)));
    let row = windows.row(boundary / 10);
    let at = (boundary % 10) as usize;
    let end = 8.min(10 - at);
    assert_eq!(row.ids[at..at + end], (100..100 + end as u32).collect::<Vec<_>>()[..]);
    assert_eq!(windows.row((per_shard - 1) / 10).ids.iter().filter(|&&id| id == 7 || id == 8).count(), 2);
    let last = windows.row(windows.len() - 1);
    assert_eq!(last.targets.last(), Some(&9));
    let segments = windows.row((boundary + 4) / 10).segments.unwrap();
    assert_eq!(segments.last(), Some(&1));
    let documents =
        rows::Rows::Documents(rows::Documents::new(store(), 1 << 20, ObjectiveKind::NextToken, vec![]));
    assert_eq!(documents.row(documents.len() - 1).targets.last(), Some(&9));
    // The order of so many windows is computed, and each of k processes has its own part of it.
    let order = order::Order::new(Some(Key::new(1, "shuffle")), None);
    let numbers = order.rows(&windows, Cursor { epoch: 3, index: windows.len() - 5 }, 10);
    assert!(numbers.iter().all(|&number| number < windows.len()));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]
    /// For any number of rows per batch and of processes: together the ranks equal a single process, row by row, and
    /// every epoch has each window once.
    #[test]
    fn ranks_together_equal_a_single_process(of in 1u64..6, rows in 1usize..9, steps in 1u64..40) {
        let dataset = Arc::new(open(&fox(), ObjectiveKind::NextToken, 16).unwrap());
        let mut together: Vec<(u64, Vec<u32>)> = Vec::new();
        for rank in 0..of {
            let mut batches = Batches::new(dataset.clone(), Cursor::default(), rows, Rank { rank, of });
            for _ in 0..steps {
                let batch = batches.next_batch().unwrap();
                let each = batch.ids.chunks(16).map(<[u32]>::to_vec);
                together.extend((batch.first_row..).zip(each));
            }
        }
        together.sort();
        let n = steps * of * rows as u64;
        let alone = dataset.batch(Cursor::default(), n as usize).unwrap();
        let alone: Vec<(u64, Vec<u32>)> = (0..).zip(alone.ids.chunks(16).map(<[u32]>::to_vec)).collect();
        proptest::prop_assert_eq!(&together, &alone);
        let mut all = all_ids(&dataset, 0);
        all.sort();
        for epoch in alone.chunks_exact(dataset.n_rows() as usize) {
            let mut epoch: Vec<Vec<u32>> = epoch.iter().map(|(_, ids)| ids.clone()).collect();
            epoch.sort();
            proptest::prop_assert_eq!(&epoch, &all);
        }
    }
}
