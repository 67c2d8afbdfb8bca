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

/// The parts of [`attention_layer`].
#[derive(Clone, Copy, Debug)]
pub struct AttentionLayer<'a> {
    /// What x goes through first; none where the norm stands elsewhere.
    pub norm: Option<Norm<&'a Tensor>>,
    /// To the query heads.
    pub query: Linear<&'a Tensor>,
    /// To the key heads, of which there may be fewer.
    pub key: Linear<&'a Tensor>,
    /// To the value heads, as many as the key heads.
    pub value: Linear<&'a Tensor>,
    /// From the heads' contexts back to the width of x; without it the result is the contexts side by side.
    pub output: Option<Linear<&'a Tensor>>,
    /// The norm of the queries, before their rotation: of each head where it is as wide as a head, else of all heads of
    /// a token together.
    pub query_norm: Option<Norm<&'a Tensor>>,
    /// That of the keys.
    pub key_norm: Option<Norm<&'a Tensor>>,
    /// The width of a head.
    pub d_head: usize,
    /// The rotation of queries and keys.
    pub rotary: Option<RotaryTables<'a>>,
    /// Added to the scores, `[h, t, s]`; with it the sublayer is computed operation by operation.
    pub bias: Option<&'a Tensor>,
    /// Scale, mask, and dropout of the weights.
    pub attention: AttentionOptions<'a>,
    /// Whether x is added to the result.
    pub residual: bool,
    /// Of what is added to x.
    pub dropout: Option<&'a Dropout>,
}

/// `[x +] dropout(output(attention(rotary(query(n)), rotary(key(n)), value(n))))` with `n = norm(x)`, and with norms of
/// queries and keys before their rotation where they are given.
///
/// One node on the tape; queries, keys, values and contexts are kept, scores and weights never are.
///
/// # Shape
/// x [b, t, d] → [b, t, d], or [b, t, h·k] without an output projection.
///
/// # Errors
/// Where widths, heads, tables or the mask don't fit together.
pub fn attention_layer(x_btd: &Tensor, parts: &AttentionLayer) -> Result<Tensor> {
    let heads = check(x_btd, parts)?;
    let mut inputs = inputs(x_btd, parts);
    let mut all = inputs.clone();
    all.extend(parts.rotary.iter().flat_map(|tables| [tables.cos, tables.sin]));
    all.extend(parts.bias);
    if fits(&all) && parts.output.is_some() && parts.bias.is_none() {
        by_dtype!(x_btd, node(x_btd, parts, heads, &mut inputs))
    } else if fits(&all) {
        // Without an output projection (the bare model of one sentence) the sublayer is too small to be worth a kernel;
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
            bail!("attention_layer: {name} gives {width} numbers, no multiple of d_head = {}", parts.d_head);
        }
        *heads = width / parts.d_head;
    }
    let [h, g, values] = heads;
    if g != values || g == 0 || h % g != 0 {
        bail!("attention_layer: {h} query heads, {g} key heads and {values} value heads don't go together");
    }
    for (name, norm, heads) in [("query", parts.query_norm, h), ("key", parts.key_norm, g)] {
        let Some(norm) = norm else { continue };
        let all = heads * parts.d_head;
        for tensor in norm.inputs() {
            if tensor.dims() != [parts.d_head] && tensor.dims() != [all] {
                bail!(
                    "attention_layer: the norm of {name} has {:?}; wanted [{}] or [{all}]",
                    tensor.dims(),
                    parts.d_head
                );
            }
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
        bail!("attention_layer: {width} numbers can't be added to x {:?}", x.dims());
    }
    parts.dropout.map_or(Ok(()), Dropout::check)?;
    Ok((h, g))
}
