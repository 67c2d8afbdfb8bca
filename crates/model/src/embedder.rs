//! From the vectors of a text's tokens to one vector for the text, and the contrastive loss of pairs.

use candle_core::{D, Result, Tensor};
use vulpes_ops::{CrossEntropyOptions, Loss, cross_entropy, linear};

use crate::input::Input;
use crate::pool::{first_vectors, last_vectors, max_pooled, mean_pooled, normalized, weighted_sums};

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextPooling {
    /// The first token's vector.
    Cls,
    /// Their mean.
    #[default]
    Mean,
    /// Their sum over the square root of their number.
    MeanSqrtLen,
    /// Their mean, token i (from 1) weighing i
    /// ([Muennighoff 2022](https://arxiv.org/abs/2202.08904), eq. 2).
    WeightedMean,
    /// The largest value of each channel.
    Max,
    /// The last token's vector.
    Last,
}

impl TextPooling {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Cls, Self::Mean, Self::MeanSqrtLen, Self::WeightedMean, Self::Max, Self::Last];

    /// Its name in sentence-transformers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::Max => "max",
            Self::Last => "lasttoken",
        }
    }

    /// A description, for users.
    pub fn about(self) -> &'static str {
        match self {
            Self::Cls => "the first token's last vector",
            Self::Mean => "the mean of its tokens' last vectors",
            Self::MeanSqrtLen => "the sum of its tokens' last vectors over the square root of their number",
            Self::WeightedMean => "the mean of its tokens' last vectors, weighted by position",
            Self::Max => "the largest value of each channel of its tokens' last vectors",
            Self::Last => "the last token's last vector",
        }
    }
}

/// Makes one vector of a text, the sentence embedding of [Reimers and Gurevych 2019](https://arxiv.org/abs/1908.10084),
/// sec. 3: pooling, then optional normalization to length 1.
///
/// The default is the mean, not normalized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embedder {
    /// How the vectors of the tokens become one.
    pub pooling: TextPooling,
    /// Whether the result is normalized to length 1.
    pub normalize: bool,
}

impl Embedder {
    /// The vector of each row; padding is ignored.
    ///
    /// # Shape
    /// Hidden `[b, t, d]` to `[b, d]`.
    ///
    /// # Gradient
    /// For the hidden states; of the largest value where it first occurs.
    ///
    /// # Errors
    /// Returns an error if `hidden` doesn't belong to `input`.
    pub fn embed(self, hidden: &Tensor, input: &Input) -> Result<Tensor> {
        let pooled = match self.pooling {
            TextPooling::Cls => first_vectors(hidden, input)?.squeeze(1)?,
            TextPooling::Mean => mean_pooled(hidden, input)?,
            TextPooling::MeanSqrtLen => {
                weighted_sums(hidden, input, &|n| vec![(n.max(1) as f64).sqrt().recip(); n])?
            }
            TextPooling::WeightedMean => weighted_sums(hidden, input, &|n| {
                let sum = (n * (n + 1)) as f64 / 2.0;
                (1..=n).map(|place| place as f64 / sum).collect()
            })?,
            TextPooling::Max => max_pooled(hidden, input)?,
            TextPooling::Last => last_vectors(hidden, input, None)?.squeeze(1)?,
        };
        if self.normalize { normalized(&pooled) } else { Ok(pooled) }
    }
}

/// Cross-entropy of cosines: of n pairs, `Σ_i −log softmax_j(scale · cos(a_i, b_j))[i]`, where each b other than a's
/// partner is a negative of a ([Henderson et al. 2017](https://arxiv.org/abs/1705.00652), sec. 4.4; in
/// sentence-transformers `MultipleNegativesRankingLoss`).
///
/// The rows of `a_nd` may be a part of the pairs, from index `first` on; the rows of `b_md` are all partners.
///
/// # Shape
/// `[n, d]` and `[m, d]`, vectors of any length, to a scalar and n.
///
/// # Gradient
/// For both.
///
/// # Errors
/// Returns an error if a row has no partner, or an operation fails.
pub fn contrastive(
    a_nd: &Tensor,
    b_md: &Tensor,
    first: usize,
    scale: f64,
    options: &CrossEntropyOptions,
) -> Result<Loss> {
    let logits_nm = scaled_cosines(a_nd, b_md, scale)?;
    let targets: Vec<i64> = (first..first + a_nd.dim(0)?).map(|pair| pair as i64).collect();
    cross_entropy(&logits_nm, &targets, options)
}

/// The loss of [`contrastive`], and the number of rows of `a_nd` that are nearer to their own partner than to any
/// other. Not differentiable.
///
/// # Errors
/// As [`contrastive`].
pub fn contrastive_no_grad(a_nd: &Tensor, b_md: &Tensor, first: usize, scale: f64) -> Result<(Loss, usize)> {
    let logits_nm = scaled_cosines(&a_nd.detach(), &b_md.detach(), scale)?;
    let targets: Vec<i64> = (first..first + a_nd.dim(0)?).map(|pair| pair as i64).collect();
    let loss = cross_entropy(&logits_nm, &targets, &CrossEntropyOptions::default())?;
    let chosen: Vec<u32> = logits_nm.argmax(D::Minus1)?.to_vec1()?;
    let right = chosen.iter().zip(&targets).filter(|(chosen, target)| i64::from(**chosen) == **target);
    Ok((loss, right.count()))
}

fn scaled_cosines(a_nd: &Tensor, b_md: &Tensor, scale: f64) -> Result<Tensor> {
    linear(&normalized(a_nd)?.affine(scale, 0.0)?, &normalized(b_md)?, None)
}
