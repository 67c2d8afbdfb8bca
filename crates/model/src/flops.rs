//! The number of floating-point operations of a training step, from the sizes alone.

use crate::config::{MaskKind, ModelConfig};
use crate::layers::parameter_specs;
use crate::spec::{Kind, ParameterSpec, Part};

/// The number of elements of those parameters for which `counts` holds and that every token reads in full: all but
/// tables that are looked up by row, and those too if the head is tied to them.
pub fn n_read_by_token(config: &ModelConfig, counts: impl Fn(&ParameterSpec) -> bool) -> usize {
    let whole = |spec: &&ParameterSpec| {
        spec.role.kind != Kind::Embedding || (config.tied_head && spec.role.part == Part::Token)
    };
    parameter_specs(config).iter().filter(whole).filter(|spec| counts(spec)).map(ParameterSpec::numel).sum()
}

/// Floating-point operations of the matrix products for training on one token in a row of `len`: `6 N` for N weights in
/// products ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361), sec. 2.1), and `12 t h k` per layer for attention
/// over t keys, half of it under a causal mask.
///
/// # Units
/// Operations; an addition and a multiplication are two.
pub fn flops_per_token(config: &ModelConfig, len: usize) -> f64 {
    let in_products =
        n_read_by_token(config, |spec| spec.role.kind != Kind::Scale && spec.role.kind != Kind::Bias);
    let keys = if config.mask == MaskKind::Causal { len as f64 / 2.0 } else { len as f64 };
    6.0 * in_products as f64 + 12.0 * keys * (config.n_layer * config.n_head * config.d_head) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Head;
    use crate::section::ModelSection;

    #[test]
    fn flops_of_gpt2_small_are_six_per_weight_and_token() {
        let model = ModelSection::default().resolve(50_257, Head::NextToken);
        let products = 12 * 12 * 768 * 768 + 50_257 * 768;
        let attention = 12 * 512 * 12 * 768;
        assert_eq!(flops_per_token(&model, 1024), (6 * products + attention) as f64);
    }
}
