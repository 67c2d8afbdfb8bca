//! The parts of an attention score sum to the score, in the golden model of every family.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use vulpes_data::Tokenizer;
use vulpes_inspect::{Source, Subject, explain, head_habits, origins};
use vulpes_model::config::Family;
use vulpes_model::{Embedder, Head, ModelSection, Transformer, folder};

use crate::support::fixtures;

/// The model folders of the repository that have a golden file.
fn goldens() -> Vec<PathBuf> {
    let within = |dir: &Path| {
        let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.join("golden.json").is_file()).collect::<Vec<_>>()
    };
    let mut all = within(&fixtures());
    all.extend(within(&fixtures().join("families")));
    all.sort();
    all
}

/// Over every cell of every head: the largest difference between the sum of the parts and the model's score, and the
/// number of cells.
fn worst(model: &Transformer, ids: &[u32]) -> (f64, usize) {
    let tokenizer = Tokenizer::numbers(model.config().vocab_size).expect("a tokenizer");
    let subject = Subject { model, tokenizer: &tokenizer, labels: &[], embedder: Embedder::default() };
    let explanation = explain(&subject, ids, &[]).expect("an explanation");
    let (n_layer, n_head) = (model.config().n_layer, model.config().n_head);
    let heads: Vec<(usize, usize)> =
        (0..n_layer).flat_map(|layer| (0..n_head).map(move |head| (layer, head))).collect();
    let split = origins(&subject, &explanation, &heads, &[]).expect("parts");
    assert_eq!(split.len(), heads.len());
    let (mut worst, mut n) = (0.0f64, 0);
    for own in &split {
        for query in 0..ids.len() {
            for key in 0..ids.len() {
                let cell = own.cell(&explanation, query, key).expect("a cell");
                worst = worst.max((cell.sum - cell.score).abs());
                n += 1;
            }
        }
        // Two positions alone have the same parts as within all.
        let (query, key) = (ids.len() - 1, 1);
        let alone = origins(&subject, &explanation, &[(own.layer, own.head)], &[query, key]).expect("parts");
        let (alone, within) = (alone[0].cell(&explanation, query, key), own.cell(&explanation, query, key));
        let (alone, within) = (alone.expect("a cell").parts, within.expect("a cell").parts);
        let apart = |(a, b): (&f64, &f64)| (a - b).abs();
        let differs = alone.iter().flatten().zip(within.iter().flatten()).map(apart).fold(0.0, f64::max);
        assert!(differs < 1e-9, "{differs}");
    }
    (worst, n)
}

/// Some ids of a vocabulary, without the padding.
fn some_ids(model: &Transformer, n: usize) -> Vec<u32> {
    let config = model.config();
    let ids = (0..).map(|at| (7 + 13 * at) % config.vocab_size as u32);
    ids.filter(|id| Some(*id) != config.pad_id).take(n.min(config.context_len)).collect()
}

#[test]
fn the_parts_of_every_cell_sum_to_its_score_in_every_golden_family() {
    let goldens = goldens();
    assert!(goldens.len() >= 24, "{goldens:?}");
    for path in goldens {
        let model = folder::load(&path).expect("a model").transformer.without_gradients().expect("a model");
        let (worst, n) = worst(&model, &some_ids(&model, 9));
        assert!(worst < 1e-4 && n > 0, "{}: {worst:e} in {n} cells", path.display());
    }
}

#[test]
fn the_parts_of_every_cell_sum_to_its_score_without_norms_too() {
    let section = ModelSection {
        family: Some(Family::Fox),
        n_layer: Some(3),
        n_head: Some(4),
        d_model: Some(16),
        ..ModelSection::default()
    };
    let config = section.resolve(20, Head::NextToken);
    let model = Transformer::init(&config, 5, DType::F32, &Device::Cpu).expect("a model");
    let (worst, _) = worst(&model, &some_ids(&model, 9));
    assert!(worst < 1e-4, "{worst:e}");
}

/// The sources are named, and none is left out.
#[test]
fn sources_are_named_as_the_model_adds_them() {
    let model = folder::load(&fixtures().join("families/phi")).expect("a model").transformer;
    let model = model.without_gradients().expect("a model");
    let tokenizer = Tokenizer::numbers(model.config().vocab_size).expect("a tokenizer");
    let subject =
        Subject { model: &model, tokenizer: &tokenizer, labels: &[], embedder: Embedder::default() };
    let explanation = explain(&subject, &some_ids(&model, 6), &[]).expect("an explanation");
    let split = origins(&subject, &explanation, &[(0, 0), (1, 1)], &[]).expect("parts");
    let heads = (0..model.config().n_head).map(|head| Source::Head { layer: 0, head });
    assert_eq!(split[0].sources, [Source::Token, Source::Biases]);
    let second: Vec<Source> = std::iter::once(Source::Token)
        .chain(heads)
        .chain([Source::FeedForward { layer: 0 }, Source::Biases])
        .collect();
    assert_eq!(split[1].sources, second);
    let habits = head_habits(&subject, &explanation.ids).expect("habits");
    assert_eq!(habits.len(), model.config().n_layer * model.config().n_head);
    let numbers = habits.iter().flat_map(|head| head.habits.numbers());
    assert!(
        numbers.into_iter().all(|(_, share)| share.is_some_and(|share| (-1e-6..=1.000_001).contains(&share)))
    );
}
