//! The KV cache: keys and values of the tokens read so far.

use candle_core::{Result, Tensor};
use candle_nn::kv_cache::KvCache as Room;

/// The number of tokens by which a layer's buffer grows.
const GROWTH: usize = 256;

/// Keys and values of every layer for the tokens read so far; a windowed layer keeps only those still in its window.
///
/// # Shape
/// For each layer `[b, s, g, k]`: rows, tokens held, key/value heads, head width.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<Layer>,
    n_seen: usize,
    /// The last token of each row, for models with bigram vectors.
    last: Vec<u32>,
}

/// The cached tensors of one layer.
#[derive(Debug, Default)]
struct Layer {
    held: Option<(Tensor, Tensor)>,
    /// The buffer that `held` is a view of, with spare capacity, so that a further token is written without copying.
    room: Option<Room>,
    window: Option<usize>,
}

impl Clone for Layer {
    /// Buffers are written in place, so a clone allocates its own with its next token.
    fn clone(&self) -> Self {
        Self { held: self.held.clone(), room: None, window: self.window }
    }
}

impl KvCache {
    /// An empty cache for `n_layer` layers that holds everything.
    pub fn new(n_layer: usize) -> Self {
        Self { layers: vec![Layer::default(); n_layer], n_seen: 0, last: Vec::new() }
    }

    /// An empty cache for a model of this config: no layer keeps more than its window lets a query see.
    pub fn of(config: &crate::ModelConfig) -> Self {
        let layer = |layer| Layer { window: config.layer_kind(layer).window, ..Layer::default() };
        Self { layers: (0..config.n_layer).map(layer).collect(), n_seen: 0, last: Vec::new() }
    }

    /// Returns the last token of each row so far, and replaces it by the last of `ids`.
    pub(crate) fn take_over_last(&mut self, ids: &[Vec<u32>]) -> Vec<Option<u32>> {
        let next = ids.iter().map(|row| row.last().copied().unwrap_or(0)).collect();
        std::mem::replace(&mut self.last, next).into_iter().map(Some).collect()
    }

    /// The number of tokens in the cache: the maximum over the layers.
    pub fn len(&self) -> usize {
        (0..self.layers.len()).map(|layer| self.len_of(layer)).max().unwrap_or(0)
    }

    /// The number of tokens in one layer.
    pub(crate) fn len_of(&self, layer: usize) -> usize {
        self.layer(layer).map_or(0, |(key, _)| key.dims().get(1).copied().unwrap_or(0))
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens read, whether still held or not: the next token's position.
    pub fn n_seen(&self) -> usize {
        self.n_seen
    }

    /// The keys and values of one layer, `[b, s, g, k]` each; `None` before anything was read.
    pub fn layer(&self, layer: usize) -> Option<(&Tensor, &Tensor)> {
        self.layers.get(layer)?.held.as_ref().map(|(key, value)| (key, value))
    }

    /// Adds the keys and values of new tokens to a layer, and returns all that their queries may need.
    pub(crate) fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        if layer == 0 {
            self.n_seen += key.dim(1)?;
        }
        let n_layer = self.layers.len();
        match self.layers.get_mut(layer) {
            Some(layer) => layer.append(key, value),
            None => candle_core::bail!("the cache has {n_layer} layers; there is no layer {layer}"),
        }
    }
}

impl Layer {
    /// Adds keys and values, and returns all that their queries may need.
    fn append(&mut self, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let both = match self.held.take() {
            None => (key.clone(), value.clone()),
            // A write in place has no gradient.
            Some(held) if [&held.0, &held.1, key, value].iter().any(|x| x.track_op()) => {
                self.room = None;
                (Tensor::cat(&[&held.0, key], 1)?, Tensor::cat(&[&held.1, value], 1)?)
            }
            Some(held) => self.write(&held, key, value)?,
        };
        // The next query sees itself and the window - 1 tokens before it.
        let len = both.0.dim(1)?;
        let kept = self.window.map_or(len, |window| len.min(window.saturating_sub(1)));
        self.held = Some((last(&both.0, kept)?, last(&both.1, kept)?));
        Ok(both)
    }

    /// Writes keys and values after those already held, and returns all of them.
    fn write(&mut self, held: &(Tensor, Tensor), key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n_held, n_new) = (held.0.dim(1)?, key.dim(1)?);
        // A window that has moved on leaves unused space before it, which is reclaimed now and then.
        let stale = self.room.as_ref().map_or(0, Room::current_seq_len).saturating_sub(n_held);
        if self.room.is_none() || stale > n_held + GROWTH {
            let mut room = Room::new(1, (n_held + n_new + 1).next_multiple_of(GROWTH));
            room.append(&held.0.contiguous()?, &held.1.contiguous()?)?;
            self.room = Some(room);
        }
        let Some(room) = &mut self.room else { candle_core::bail!("the cache has no room") };
        let (keys, values) = room.append(&key.contiguous()?, &value.contiguous()?)?;
        let all = |x: &Tensor| {
            let x = last(x, n_held + n_new)?;
            // The CPU kernels need contiguous rows.
            if x.device().is_cpu() { x.contiguous() } else { Ok(x) }
        };
        Ok((all(&keys)?, all(&values)?))
    }
}

/// The last `n` tokens of `[b, s, g, k]`.
fn last(x: &Tensor, n: usize) -> Result<Tensor> {
    let len = x.dim(1)?;
    if n == len { Ok(x.clone()) } else { x.narrow(1, len - n, n) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn tokens(rows: usize, n: usize, from: usize) -> Tensor {
        let numbers: Vec<f32> = (0..rows * n * 2).map(|at| (from * 1000 + at) as f32).collect();
        Tensor::from_vec(numbers, (rows, n, 1, 2), &Device::Cpu).unwrap()
    }

    /// However the tokens are split into chunks, the cache returns what a concatenation would.
    #[test]
    fn cached_tokens_equal_a_concatenation() {
        for (rows, window) in [(1, None), (3, None), (1, Some(4)), (2, Some(1)), (2, Some(300))] {
            let mut layer = Layer { window, ..Layer::default() };
            let mut plain: Option<Tensor> = None;
            for step in 0..700 {
                let new = tokens(rows, if step == 0 { 7 } else { 1 + usize::from(step % 90 == 0) * 5 }, step);
                let all = match &plain {
                    Some(plain) => Tensor::cat(&[plain, &new], 1).unwrap(),
                    None => new.clone(),
                };
                let (keys, values) = layer.append(&new, &(&new * 2.0).unwrap()).unwrap();
                assert_eq!(
                    keys.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                    all.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                );
                assert_eq!(values.dims(), all.dims());
                let n = all.dim(1).unwrap();
                plain = Some(
                    last(&all, window.map_or(n, |window| n.min(window - 1))).unwrap().contiguous().unwrap(),
                );
            }
        }
    }

    #[test]
    fn a_clone_is_independent() {
        let mut one = Layer::default();
        (0..3).for_each(|step| drop(one.append(&tokens(1, 1, step), &tokens(1, 1, step)).unwrap()));
        let mut other = one.clone();
        one.append(&tokens(1, 1, 8), &tokens(1, 1, 8)).unwrap();
        let (keys, _) = other.append(&tokens(1, 1, 9), &tokens(1, 1, 9)).unwrap();
        let numbers = keys.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers, [0.0, 1.0, 1000.0, 1001.0, 2000.0, 2001.0, 9000.0, 9001.0]);
    }

    #[test]
    fn gradients_go_through_a_cache() {
        let var = Var::from_tensor(&tokens(1, 1, 1)).unwrap();
        let mut layer = Layer::default();
        layer.append(&var, &var).unwrap();
        let (keys, _) = layer.append(&tokens(1, 1, 2), &tokens(1, 1, 2)).unwrap();
        let gradients = keys.sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&var).is_some());
    }
}
