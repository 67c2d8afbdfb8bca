//! The attention sublayer as one operation: norm, projections, rotation, attention, dropout and residual.

mod cpu;
mod heads;
pub(crate) mod reference;
pub(crate) mod unfused;

use crate::attention::AttentionOptions;
use crate::dropout::Dropout;
use crate::kernel::{by_dtype, fits};
use crate::linear::reference::shapes;
use crate::parts::{Linear, Norm, RotaryTables};
use crate::sublayer::check_norm;
use candle_core::{Result, Tensor, bail};
use cpu::node;

/// The arguments of [`attention_layer`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionLayer<'a> {
    /// The norm before the projections; `None` if the norm is elsewhere.
    pub norm: Option<Norm<&'a Tensor>>,
    /// The query projection.
    pub query: Linear<&'a Tensor>,
    /// The key projection, to fewer heads under grouped-query attention.
    pub key: Linear<&'a Tensor>,
    /// The value projection, to as many heads as the keys.
    pub value: Linear<&'a Tensor>,
    /// The output projection; if `None`, the result is the concatenated contexts of the heads.
    pub output: Option<Linear<&'a Tensor>>,
    /// The norm of the queries, before rotation: per head if it is as wide as a head, else over all heads of a token.
    pub query_norm: Option<Norm<&'a Tensor>>,
    /// The norm of the keys, likewise.
    pub key_norm: Option<Norm<&'a Tensor>>,
    /// The width of a head.
    pub d_head: usize,
    /// The rotation of queries and keys.
    pub rotary: Option<RotaryTables<'a>>,
    /// Added to the scores, `[h, t, s]`; if given, the sublayer runs unfused.
    pub bias: Option<&'a Tensor>,
    /// Added to the values, `[b, t, g·k]`.
    pub added_values: Option<&'a Tensor>,
    /// Scale, mask, and dropout of the weights.
    pub attention: AttentionOptions<'a>,
    /// Whether x is added to the result.
    pub residual: bool,
    /// Dropout of the result before x is added.
    pub dropout: Option<&'a Dropout>,
    /// Dropout of the inputs of the projections' adapters.
    pub adapter_dropout: Option<&'a Dropout>,
}

/// `[x +] dropout(output(attention(rotary(query(n)), rotary(key(n)), value(n))))` with `n = norm(x)`, and with norms of
/// queries and keys before rotation if given.
///
/// One node on the tape; it keeps queries, keys, values and contexts, but never scores or weights.
///
/// # Shape
/// x [b, t, d] → [b, t, d], or [b, t, h·k] without an output projection.
///
/// # Errors
/// Returns an error if widths, heads, tables or the mask don't match.
pub fn attention_layer(x_btd: &Tensor, parts: &AttentionLayer) -> Result<Tensor> {
    let heads = check(x_btd, parts)?;
    let mut inputs = inputs(x_btd, parts);
    let mut all = inputs.clone();
    all.extend(parts.rotary.iter().flat_map(|tables| [tables.cos, tables.sin]));
    all.extend(parts.bias);
    if fits(&all) && parts.output.is_some() && parts.bias.is_none() {
        by_dtype!(x_btd, node(x_btd, parts, heads, &mut inputs))
    } else if fits(&all) {
        // Without an output projection (the one-sentence model) the sublayer is too small to be worth a kernel;
        // biases on the scores are rare.
        unfused::attention_layer_unfused(x_btd, parts, &mut unfused::Unwatched)
    } else {
        reference::attention_layer(x_btd, parts)
    }
}

/// Query heads and key/value heads.
type Heads = (usize, usize);

/// x and the parameters, in the order of their gradients.
fn inputs<'a>(x: &'a Tensor, parts: &AttentionLayer<'a>) -> Vec<&'a Tensor> {
    let mut inputs = vec![x];
    inputs.extend(parts.norm.iter().flat_map(Norm::inputs));
    for projection in [parts.query, parts.key, parts.value].iter().chain(&parts.output) {
        inputs.extend(projection.inputs());
    }
    inputs.extend([parts.query_norm, parts.key_norm].iter().flatten().flat_map(Norm::inputs));
    inputs.extend(parts.added_values);
    inputs
}

fn check(x: &Tensor, parts: &AttentionLayer) -> Result<Heads> {
    let (_, _, d) = x.dims3()?;
    if let Some(norm) = parts.norm {
        check_norm(&norm, x)?;
    }
    let mut heads = [0; 3];
    for (heads, (name, projection)) in
        heads.iter_mut().zip([("query", parts.query), ("key", parts.key), ("value", parts.value)])
    {
        let width = shapes(x, projection.weight, projection.bias)?.2;
        if parts.d_head == 0 || width % parts.d_head != 0 {
            bail!(
                "attention_layer: the {name} projection has width {width}, not a multiple of d_head = {}",
                parts.d_head
            );
        }
        *heads = width / parts.d_head;
    }
    let [h, g, values] = heads;
    if g != values || g == 0 || h % g != 0 {
        bail!("attention_layer: {h} query heads, {g} key heads and {values} value heads don't match");
    }
    for (name, norm, heads) in [("query", parts.query_norm, h), ("key", parts.key_norm, g)] {
        let Some(norm) = norm else { continue };
        let all = heads * parts.d_head;
        for tensor in norm.inputs() {
            if tensor.dims() != [parts.d_head] && tensor.dims() != [all] {
                bail!(
                    "attention_layer: the norm of {name} has shape {:?}; expected [{}] or [{all}]",
                    tensor.dims(),
                    parts.d_head
                );
            }
        }
    }
    if let Some(added) = parts.added_values {
        let (b, t, _) = x.dims3()?;
        if added.dims() != [b, t, g * parts.d_head] {
            bail!(
                "attention_layer: {:?} can't be added to values [{b}, {t}, {}]",
                added.dims(),
                g * parts.d_head
            );
        }
    }
    let width = match parts.output {
        Some(output) => {
            let (o, i) = output.weight.dims2()?;
            if i != h * parts.d_head || output.bias.is_some_and(|bias| bias.dims() != [o]) {
                bail!(
                    "attention_layer: output {:?} after {h} heads of {}",
                    output.weight.dims(),
                    parts.d_head
                );
            }
            o
        }
        None => h * parts.d_head,
    };
    if parts.residual && width != d {
        bail!("attention_layer: a result of width {width} can't be added to x {:?}", x.dims());
    }
    [parts.dropout, parts.adapter_dropout].into_iter().flatten().try_for_each(Dropout::check)?;
    Ok((h, g))
}
