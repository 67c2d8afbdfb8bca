//! The equations of the head: from the last layer to the input of its last matrix.

use candle_core::Tensor;
use vulpes_model::config::Pooling;
use vulpes_model::{ClassifierStep, HeadLayer, Site, Transform, Transformer};

use super::writer::{Writer, name_of};
use crate::error::Error;

pub(super) fn write(model: &Transformer, writer: &mut Writer) -> Result<(), Error> {
    let n_layer = model.config().n_layer;
    writer.given("z", n_layer.checked_sub(1).map_or(Site::Embedding, Site::Block))?;
    match &model.layers().norm {
        Some(norm) => writer.normed("hidden", "z", norm, "", Site::Hidden)?,
        None => writer.equation("hidden", "z".into(), Site::Hidden)?,
    }
    match &model.layers().head {
        HeadLayer::Vocabulary { transform, weight: _, bias: _, divisor, softcap: _ } => {
            let last = match transform {
                Some(transform) => transformed(transform, writer)?,
                None if *divisor != 1.0 => "hidden",
                None => return Ok(()),
            };
            if *divisor != 1.0 {
                writer.number("divided", divisor.recip());
                return writer.equation("read", format!("divided × {last}"), Site::HeadInput);
            }
            read(transform.as_ref(), last, writer)
        }
        HeadLayer::Labels { pooling, pad_id: _, step, classifier: _, dropout: _ } => {
            let of = match pooling {
                Pooling::First => "hidden",
                Pooling::Last => {
                    writer.equation("text", "hidden, of the last token".into(), Site::HeadRow)?;
                    "text"
                }
                Pooling::Mean => {
                    writer.equation("text", "hidden, the mean of all tokens".into(), Site::HeadRow)?;
                    "text"
                }
            };
            match step {
                ClassifierStep::None => writer.equation("read", of.into(), Site::HeadInput),
                ClassifierStep::Pooler(dense) => {
                    writer.linear("dense", ("Wp", "bp"), of, dense, Site::HeadDense)?;
                    writer.equation("read", "tanh(dense)".into(), Site::HeadInput)
                }
                ClassifierStep::Relu(dense) => {
                    writer.linear("dense", ("Wp", "bp"), of, dense, Site::HeadDense)?;
                    writer.equation("read", "relu(dense)".into(), Site::HeadInput)
                }
                ClassifierStep::Transform(transform) => {
                    writer.linear("dense", ("Wp", "bp"), of, &transform.dense, Site::HeadDense)?;
                    let last = activated(transform, writer)?;
                    read(Some(transform), last, writer)
                }
            }
        }
        HeadLayer::Hidden { .. } => Ok(()),
    }
}

/// The dense layer and activation of a head; returns the name of the result.
fn transformed(transform: &Transform<Tensor>, writer: &mut Writer) -> Result<&'static str, Error> {
    writer.linear("dense", ("Wt", "bt"), "hidden", &transform.dense, Site::HeadDense)?;
    activated(transform, writer)
}

fn activated(transform: &Transform<Tensor>, writer: &mut Writer) -> Result<&'static str, Error> {
    let Some(activation) = transform.activation else { return Ok("dense") };
    writer.equation("active", format!("{}(dense)", name_of(activation)), Site::HeadActivated)?;
    Ok("active")
}

/// The input of the last matrix: the norm of a head, if there is one.
fn read(transform: Option<&Transform<Tensor>>, last: &str, writer: &mut Writer) -> Result<(), Error> {
    match transform.and_then(|transform| transform.norm.as_ref()) {
        Some(norm) => writer.normed("read", last, norm, "ₜ", Site::HeadInput),
        None => writer.equation("read", last.into(), Site::HeadInput),
    }
}
