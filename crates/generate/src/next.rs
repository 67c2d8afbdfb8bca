//! Tables of the most likely tokens.

use serde::Serialize;

use crate::error::Error;
use crate::sampler::normalizer;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NextToken {
    /// The token's id.
    pub id: u32,
    /// The token's text.
    pub text: String,
    /// Its probability: `exp(logit) / Σ exp`, over the entire vocabulary.
    pub probability: f64,
    /// Its logit.
    pub logit: f32,
}

/// The `n` most likely tokens by `logits`, largest first, ties by id.
///
/// # Errors
/// Returns an error if the logits yield no probabilities.
///
/// # Examples
/// ```
/// let table = vulpes_generate::next_tokens(&[0.0, 1.0, 0.5], 2, &|id| format!("w{id}"))?;
/// assert_eq!(table[0].text, "w1");
/// assert!(table[0].probability > table[1].probability);
/// # Ok::<(), vulpes_generate::Error>(())
/// ```
pub fn next_tokens(logits: &[f32], n: usize, text: &dyn Fn(u32) -> String) -> Result<Vec<NextToken>, Error> {
    let (greatest, sum) = normalizer(logits)?;
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_unstable_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    let line = |&id: &u32| {
        let logit = logits[id as usize];
        NextToken { id, text: text(id), probability: f64::from(logit - greatest).exp() / sum, logit }
    };
    Ok(ids.iter().take(n).map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_softmax_largest_first() {
        // The first example of the walkthrough: fox 0.288, jumps 0.269.
        let table = next_tokens(&[0.435, 0.381, 0.672, 0.6045], 9, &|id| id.to_string()).unwrap();
        assert_eq!(table.iter().map(|line| line.id).collect::<Vec<_>>(), [2, 3, 0, 1]);
        assert!((table[0].probability - 0.288_081_9).abs() < 1e-6);
        assert!((table.iter().map(|line| line.probability).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(next_tokens(&[f32::NAN], 1, &|_| String::new()).is_err());
    }
}
