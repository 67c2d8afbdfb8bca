//! Predictions for many rows, compared with single ones.

use candle_core::{DType, Device};
use vulpes_data::TokenizerConfig;
use vulpes_model::ModelSection;
use vulpes_model::config::Family;

use super::*;
use crate::config::SampleConfig;
use crate::tables::{fill_masks, mask_tables, next_table};

const TEXT: &str = "The quick brown fox jumps over the lazy dog . Every small fox sleeps";

fn model(family: Family, head: Head, tokenizer: &Tokenizer) -> Transformer {
    let section = ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(4),
        d_model: Some(24),
        context_len: Some(20),
        init_std: Some(0.3),
        ..ModelSection::default()
    };
    let config = section.resolve(tokenizer.vocab_size(), head);
    Transformer::init(&config, 5, DType::F32, &Device::Cpu).unwrap().without_gradients().unwrap()
}

/// Texts of many lengths, each with a mask or without.
fn texts(n: usize, mask: &str) -> Vec<String> {
    let words: Vec<&str> = TEXT.split(' ').collect();
    let text = |i: usize| {
        let own = (0..1 + i * 7 % 16).map(|k| words[(i * i + k * 5) % words.len()]);
        own.chain([mask]).chain([words[i % 11]]).collect::<Vec<_>>().join(" ").replace("  ", " ")
    };
    (0..n).map(text).collect()
}

fn framed(model: &Transformer, tokenizer: &Tokenizer, texts: &[String]) -> Vec<Framed> {
    let texts: Vec<_> = texts.iter().map(|text| (text.as_str(), None)).collect();
    Framed::all(model.config(), tokenizer, &texts, usize::MAX).into_iter().collect::<Result<_, _>>().unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::train(&TokenizerConfig::default(), [TEXT]).unwrap()
}

#[track_caller]
fn the_same(one: &[NextToken], other: &[NextToken]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert!(
            one.id == other.id && (one.probability - other.probability).abs() < 1e-6,
            "{one:?} {other:?}"
        );
    }
}

#[test]
fn batched_labels_equal_single_ones() {
    let tokenizer = tokenizer();
    let model = model(Family::Bert, Head::Classify { n_labels: 3 }, &tokenizer);
    let texts = texts(150, "");
    // Every second row is a pair, so that batches mix both.
    let pair = |n: usize| (n % 2 == 1).then(|| texts[n / 2].as_str());
    let pairs: Vec<_> = texts.iter().enumerate().map(|(n, text)| (text.as_str(), pair(n))).collect();
    let rows = Framed::all(model.config(), &tokenizer, &pairs, usize::MAX)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    assert!(rows[1].types.is_some() && rows[2].types.is_none());
    let labels = ["a".to_owned(), "b".to_owned()];
    let together = with_kernel_threads(3, || label_tables(&model, &labels, &rows, 3)).unwrap();
    assert_eq!(together, label_tables(&model, &labels, &rows, 3).unwrap(), "threads change no bit");
    for (row, found) in rows.iter().zip(&together) {
        the_same(&label_tables(&model, &labels, std::slice::from_ref(row), 3).unwrap()[0], found);
    }
    let mut names: Vec<&str> = together[0].iter().map(|label| label.text.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["LABEL_2", "a", "b"]);
    assert!(next_tables(&model, &tokenizer, &rows, 1).is_err());
}

#[test]
fn batched_masks_and_next_tokens_equal_single_ones() {
    let tokenizer = tokenizer();
    let masked = model(Family::Bert, Head::MaskedToken, &tokenizer);
    let rows = framed(&masked, &tokenizer, &texts(90, "[MASK] fox [MASK]"));
    let tables = with_kernel_threads(2, || all_mask_tables(&masked, &tokenizer, &rows, 4)).unwrap();
    let drawn = Sampler::new(SampleConfig::default(), 3);
    let filled = with_kernel_threads(2, || fill_all(&masked, &tokenizer, &rows, &drawn, 7)).unwrap();
    for (number, row) in rows.iter().enumerate() {
        let alone = mask_tables(&masked, &tokenizer, &row.ids, 4).unwrap();
        assert_eq!(alone.len(), 2);
        alone.iter().zip(&tables[number]).for_each(|(one, other)| the_same(&one.next, &other.next));
        let (ids, _) = fill_masks(&masked, &tokenizer, &row.ids, &drawn, 7 + number as u64).unwrap();
        assert_eq!(ids, filled[number].ids);
    }
    let causal = model(Family::Llama, Head::NextToken, &tokenizer);
    let rows = framed(&causal, &tokenizer, &texts(90, "the"));
    let tables = with_kernel_threads(2, || next_tables(&causal, &tokenizer, &rows, 4)).unwrap();
    for (row, found) in rows.iter().zip(&tables) {
        the_same(&next_table(&causal, &tokenizer, &row.ids, 4).unwrap(), found);
    }
}

#[test]
fn rows_are_cut_as_in_training_or_refused_with_a_reason() {
    let tokenizer = tokenizer();
    let long = "fox ".repeat(30);
    let classifier = model(Family::Bert, Head::Classify { n_labels: 3 }, &tokenizer);
    let row = Framed::new(classifier.config(), &tokenizer, &long, Some("the dog")).unwrap();
    let framed = tokenizer.encode_framed(&long, Some("the dog"), Some(20)).unwrap();
    assert_eq!((row.ids.clone(), row.types.clone()), (framed.0, Some(framed.1)));
    assert!(row.n_cut > 10 && row.problem(classifier.config(), &tokenizer).is_none());
    let masked = model(Family::Bert, Head::MaskedToken, &tokenizer);
    let problem = |text: &str| match Framed::new(masked.config(), &tokenizer, text, None) {
        Ok(row) => row.problem(masked.config(), &tokenizer).unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    assert!(problem(&format!("[MASK] {long}")).contains("at most 20"));
    assert!(problem("The fox").contains("no mask"));
    assert!(problem("").contains("empty"));
    assert_eq!(problem("The [MASK]"), "");
}

#[test]
fn batches_hold_rows_of_similar_length() {
    let rows: Vec<Framed> = (0..400).map(|i| Framed::of_ids(vec![0; 1 + i * 13 % 61])).collect();
    let found = batches(&rows, (0..400).collect());
    let mut all: Vec<usize> = found.concat();
    all.sort_unstable();
    assert_eq!(all, (0..400).collect::<Vec<_>>());
    for batch in &found {
        let lens = batch.iter().map(|&row| rows[row].ids.len());
        let (least, most) = (lens.clone().min().unwrap(), lens.max().unwrap());
        assert!(batch.len() <= MOST_ROWS && (most - least) * 8 <= most, "{least} to {most}");
    }
}
