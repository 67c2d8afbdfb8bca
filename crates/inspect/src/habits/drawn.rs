//! Random texts that repeat themselves, and the attention of every head on them.

use candle_core::DType;
use vulpes_model::{Input, Pass, Recorder, Site};
use vulpes_random::{Key, Permutation};

use super::measure::Pattern;
use crate::error::Error;
use crate::explanation::{Subject, seen};

/// The maximum number of tokens drawn for a text, which contains each of them twice.
const MOST_DRAWN: usize = 16;
/// With fewer, a position can't be distinguished from the one before it.
const LEAST_DRAWN: usize = 3;
/// The number of texts of each length.
const TEXTS: usize = 4;

/// Texts of two lengths, so that the token after an earlier occurrence is at no fixed distance; each is tokens drawn
/// without repetition, then the same again, between the special tokens with which `ids` begin and end.
pub(super) fn texts(subject: &Subject, ids: &[u32]) -> Vec<Vec<Vec<u32>>> {
    let config = subject.model.config();
    let special = |id: &&u32| subject.tokenizer.is_special(**id);
    let first: Vec<u32> = ids.first().filter(special).copied().into_iter().collect();
    let last: Vec<u32> = ids.last().filter(special).copied().into_iter().collect();
    let known: Vec<u32> =
        (0..config.vocab_size as u32).filter(|id| !special(&id) && Some(*id) != config.pad_id).collect();
    let room = config.context_len.saturating_sub(first.len() + last.len()) / 2;
    let long = room.min(MOST_DRAWN).min(known.len());
    let lengths = [long, (long * 2).div_ceil(3)];
    if lengths[1] < LEAST_DRAWN || lengths[1] == long {
        return Vec::new();
    }
    let drawn = |n: usize, text: usize| {
        let order = Permutation::new(
            &Key::new(0, "habits").with(&(n as u64)).with(&(text as u64)),
            known.len() as u64,
        );
        let drawn: Vec<u32> = (0..n as u64).map(|at| known[order.at(at) as usize]).collect();
        [first.as_slice(), &drawn, &drawn, &last].concat()
    };
    lengths.iter().map(|&n| (0..TEXTS).map(|text| drawn(n, text)).collect()).collect()
}

/// The attention of each head on each text: `[layer][head][text]`.
pub(super) fn patterns(subject: &Subject, texts: &[Vec<Vec<u32>>]) -> Result<Vec<Vec<Vec<Pattern>>>, Error> {
    let model = subject.model;
    let config = model.config();
    let mut patterns = vec![vec![Vec::new(); config.n_head]; config.n_layer];
    for same_length in texts {
        let input = Input::new(&same_length.concat(), same_length.len(), model.device())?;
        let sites: Vec<Site> = (0..config.n_layer).map(Site::AttentionWeights).collect();
        let mut recorder = Recorder::of(&sites);
        model.forward(&input, &mut Pass::probed(&mut recorder))?;
        for (layer, of_layer) in patterns.iter_mut().enumerate() {
            let weights = seen(&recorder, Site::AttentionWeights(layer))?.to_dtype(DType::F32)?;
            let allows = model.mask(&input, layer, 0)?;
            for (row, ids) in same_length.iter().enumerate() {
                let n = ids.len();
                let cells = |q: usize| (0..n).map(|k| u8::from(allows.allows(row, q, k))).collect();
                let mask: Vec<Vec<u8>> = (0..n).map(cells).collect();
                let heads: Vec<Vec<Vec<f32>>> = weights.get(row)?.to_vec3()?;
                for (of_head, weights) in of_layer.iter_mut().zip(heads) {
                    of_head.push(Pattern { ids: ids.clone(), weights, mask: mask.clone() });
                }
            }
        }
    }
    Ok(patterns)
}
