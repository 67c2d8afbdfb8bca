//! The attention mask: which keys a query may attend to.

use candle_core::{Device, Result, Tensor, bail};
use std::ops::Range;
use std::sync::Arc;

/// An attention mask that combines any of: causal, window, padding, segments.
///
/// Query `i` is at position `past + i`, key `j` at position `j`. A key is allowed if all of these hold:
/// - causal: it is not after the query;
/// - window `w`: it is less than `w` positions away from the query;
/// - padding: its mark is not 0 (it is a real token, not padding);
/// - segments: it has the same segment id as the query.
///
/// # Examples
/// ```
/// use vulpes_ops::Mask;
/// let mask = Mask::causal().window(2);
/// assert!(mask.allows(0, 3, 3) && mask.allows(0, 3, 2));
/// assert!(!mask.allows(0, 3, 1) && !mask.allows(0, 3, 4));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    causal: bool,
    window: Option<usize>,
    past: usize,
    padding: Option<PerPosition<u8>>,
    segments: Option<PerPosition<u32>>,
}

/// One value for each position of each row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PerPosition<T> {
    rows: usize,
    len: usize,
    values: Arc<[T]>,
}

impl<T> PerPosition<T> {
    /// The value at a position; `None` past the end of the row.
    fn at(&self, row: usize, position: usize) -> Option<&T> {
        if position < self.len { self.values.get(row * self.len + position) } else { None }
    }
}

impl Mask {
    /// Each query attends to its own and earlier positions.
    pub fn causal() -> Self {
        Self { causal: true, ..Self::full() }
    }

    /// Each query attends to all positions.
    pub fn full() -> Self {
        Self { causal: false, window: None, past: 0, padding: None, segments: None }
    }

    /// Only keys less than `width` positions away: with [`Mask::causal`] the query and the `width − 1` before it.
    #[must_use]
    pub fn window(self, width: usize) -> Self {
        Self { window: Some(width), ..self }
    }

    /// Only keys marked with a value other than 0: `values` holds `rows × len` marks, row by row.
    #[must_use]
    pub fn padding(self, rows: usize, len: usize, values: Arc<[u8]>) -> Self {
        Self { padding: Some(PerPosition { rows, len, values }), ..self }
    }

    /// Only keys of the query's own segment: `values` holds `rows × len` segment ids, row by row.
    #[must_use]
    pub fn segments(self, rows: usize, len: usize, values: Arc<[u32]>) -> Self {
        Self { segments: Some(PerPosition { rows, len, values }), ..self }
    }

    /// Query `i` is at position `past + i`: earlier keys come from a cache.
    #[must_use]
    pub fn past(self, past: usize) -> Self {
        Self { past, ..self }
    }

    /// The position of the first query.
    pub fn first_position(&self) -> usize {
        self.past
    }

    /// Whether `query` of batch row `row` may attend to `key`.
    pub fn allows(&self, row: usize, query: usize, key: usize) -> bool {
        self.range(query, usize::MAX).contains(&key) && self.allows_in_range(row, query, key)
    }

    /// The keys of `0..n_keys` that causality and the window allow a query.
    pub(crate) fn range(&self, query: usize, n_keys: usize) -> Range<usize> {
        let position = self.past + query;
        let (mut start, mut end) = (0, n_keys);
        if self.causal {
            end = end.min(position + 1);
        }
        if let Some(width) = self.window {
            start = start.max((position + 1).saturating_sub(width));
            end = end.min(position.saturating_add(width));
        }
        start.min(end)..end
    }

    /// Whether the mask excludes keys inside [`Mask::range`].
    pub(crate) fn is_per_key(&self) -> bool {
        self.padding.is_some() || self.segments.is_some()
    }

    /// Whether padding and segments allow a key that is in [`Mask::range`].
    pub(crate) fn allows_in_range(&self, row: usize, query: usize, key: usize) -> bool {
        let kept =
            self.padding.as_ref().is_none_or(|padding| padding.at(row, key).is_some_and(|&mark| mark != 0));
        let same = self.segments.as_ref().is_none_or(|segments| {
            let own = segments.at(row, self.past + query);
            own.is_some() && own == segments.at(row, key)
        });
        kept && same
    }

    /// Checks that padding and segments cover a batch of `b` rows with `t` queries and `s` keys.
    pub(crate) fn check(&self, b: usize, t: usize, s: usize) -> Result<()> {
        let covers = |what: &str, rows: usize, len: usize, held: usize, wanted: usize| {
            if held != rows * len {
                bail!("mask: {what} holds {held} values for {rows} rows of {len}");
            }
            if rows != b || len < wanted {
                bail!("mask: {what} covers {rows} rows of {len}, but the batch has {b} rows of {wanted}");
            }
            Ok(())
        };
        if let Some(padding) = &self.padding {
            covers("padding", padding.rows, padding.len, padding.values.len(), s)?;
        }
        if let Some(segments) = &self.segments {
            covers("segments", segments.rows, segments.len, segments.values.len(), s.max(self.past + t))?;
        }
        Ok(())
    }

    /// The mask as a tensor: 1 if a key is allowed, else 0.
    ///
    /// # Shape
    /// u8 [b, 1, t, s].
    ///
    /// # Errors
    /// Returns an error if padding or segments don't cover the batch.
    pub fn to_tensor(&self, b: usize, t: usize, s: usize, device: &Device) -> Result<Tensor> {
        self.check(b, t, s)?;
        let mut allowed = vec![0u8; b * t * s];
        for row in 0..b {
            for query in 0..t {
                for key in self.range(query, s) {
                    if self.allows_in_range(row, query, key) {
                        allowed[(row * t + query) * s + key] = 1;
                    }
                }
            }
        }
        Tensor::from_vec(allowed, (b, 1, t, s), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented rule, term by term.
    fn by_the_book(causal: bool, window: Option<usize>, past: usize, query: usize, key: usize) -> bool {
        let position = past + query;
        (!causal || key <= position) && window.is_none_or(|width| key.abs_diff(position) < width)
    }

    #[test]
    fn every_combination_matches_its_definition() -> Result<()> {
        let (b, t, s) = (2, 4, 7);
        let marks: Arc<[u8]> = [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1].into();
        let numbers: Arc<[u32]> = [0, 0, 0, 1, 1, 1, 2, 5, 5, 5, 5, 5, 6, 6].into();
        for bits in 0..64u32 {
            let (causal, padding, segments) = (bits & 1 == 1, bits & 2 != 0, bits & 4 != 0);
            let window = [None, Some(1), Some(3), Some(100)][(bits >> 3) as usize & 3];
            let past = if bits & 32 != 0 { 3 } else { 0 };
            let mut mask = if causal { Mask::causal() } else { Mask::full() }.past(past);
            if let Some(width) = window {
                mask = mask.window(width);
            }
            if padding {
                mask = mask.padding(b, s, marks.clone());
            }
            if segments {
                mask = mask.segments(b, s, numbers.clone());
            }
            let written = mask.to_tensor(b, t, s, &Device::Cpu)?.flatten_all()?.to_vec1::<u8>()?;
            for (at, &allowed) in written.iter().enumerate() {
                let (row, query, key) = (at / (t * s), at / s % t, at % s);
                let expected = by_the_book(causal, window, past, query, key)
                    && (!padding || marks[row * s + key] == 1)
                    && (!segments || numbers[row * s + key] == numbers[row * s + past + query]);
                assert_eq!(allowed == 1, expected, "{mask:?} {row} {query} {key}");
                assert_eq!(mask.allows(row, query, key), expected);
            }
        }
        Ok(())
    }

    #[test]
    fn padding_and_segments_must_cover_the_batch() {
        let mask = Mask::full().padding(1, 3, [1, 1, 0].into());
        assert!(mask.check(1, 3, 3).is_ok());
        assert!(mask.check(1, 3, 4).is_err());
        assert!(mask.check(2, 3, 3).is_err());
        assert!(Mask::full().padding(1, 4, [1, 1, 0].into()).check(1, 3, 3).is_err());
        assert!(Mask::full().segments(1, 3, [1, 1, 0].into()).past(1).check(1, 3, 3).is_err());
    }

    #[test]
    fn a_window_of_zero_allows_nothing() {
        assert!(!Mask::causal().window(0).allows(0, 2, 2));
        assert!(!Mask::full().window(0).allows(0, 2, 2));
    }
}
