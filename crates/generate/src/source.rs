//! What generates text: a model on its tensors, a decoder with weights of its own, or a custom model.

use std::cell::RefCell;

use candle_core::DType;
use vulpes_model::{Decoder, DecoderRow, Feed, Head, Input, Model, ModelConfig, Pass, Transformer, Wanted};

/// A model that predicts next tokens.
#[derive(Clone, Copy)]
pub enum Source<'m> {
    /// On its tensors, on any device.
    Tensors(&'m Transformer),
    /// A decoder with weights of its own, on the CPU ([`vulpes_model::folder::load_decoder`]).
    Decoder(&'m RefCell<Decoder<'static>>),
    /// A custom model, which reads its entire text for each token.
    Own(&'m dyn Model),
}

impl<'m> From<&'m Transformer> for Source<'m> {
    fn from(model: &'m Transformer) -> Self {
        Self::Tensors(model)
    }
}

impl<'m> From<&'m RefCell<Decoder<'static>>> for Source<'m> {
    fn from(decoder: &'m RefCell<Decoder<'static>>) -> Self {
        Self::Decoder(decoder)
    }
}

impl Source<'_> {
    /// What the model predicts.
    pub(crate) fn head(&self) -> Head {
        match self {
            Self::Tensors(model) => model.config().head,
            Self::Decoder(decoder) => decoder.borrow().config().head,
            Self::Own(model) => model.head(),
        }
    }

    /// The longest text that the model reads, in tokens.
    pub(crate) fn context_len(&self) -> usize {
        match self {
            Self::Tensors(model) => model.config().context_len,
            Self::Decoder(decoder) => decoder.borrow().config().context_len,
            Self::Own(model) => model.context_len(),
        }
    }

    /// The model's config; `None` for a custom model.
    pub fn config(&self) -> Option<ModelConfig> {
        match self {
            Self::Tensors(model) => Some(model.config().clone()),
            Self::Decoder(decoder) => Some(decoder.borrow().config().clone()),
            Self::Own(_) => None,
        }
    }
}

/// The logits of a custom model after an entire text.
pub(crate) fn read_whole(model: &dyn Model, ids: &[u32]) -> candle_core::Result<Vec<f32>> {
    let input = Input::new(ids, 1, &model.device())?;
    let logits = model.predict(&input, &mut Pass::inference())?;
    logits.get(0)?.get(ids.len() - 1)?.to_dtype(DType::F32)?.to_vec1()
}

/// A decoder, borrowed or owned.
pub(crate) enum Hand<'m> {
    Own(Box<Decoder<'m>>),
    Lent(&'m RefCell<Decoder<'static>>),
}

impl Hand<'_> {
    pub(crate) fn empty_row(&self) -> DecoderRow {
        match self {
            Self::Own(decoder) => decoder.empty_row(),
            Self::Lent(decoder) => decoder.borrow().empty_row(),
        }
    }

    /// Passes the logits that the feeds request to `take`.
    pub(crate) fn read(
        &mut self,
        feeds: &mut [Feed<'_>],
        take: impl FnOnce(&[f32]),
    ) -> candle_core::Result<()> {
        match self {
            Self::Own(decoder) => take(decoder.read(feeds)?),
            Self::Lent(decoder) => take(decoder.borrow_mut().read(feeds)?),
        }
        Ok(())
    }

    /// The logits after an entire prompt, and the row that has read it.
    pub(crate) fn read_prompt(&mut self, ids: &[u32]) -> candle_core::Result<(DecoderRow, Vec<f32>)> {
        let mut row = self.empty_row();
        let logits = match self {
            Self::Own(decoder) => decoder.read_prompt(&mut row, ids)?.to_vec(),
            Self::Lent(decoder) => decoder.borrow_mut().read_prompt(&mut row, ids)?.to_vec(),
        };
        Ok((row, logits))
    }
}

/// A row's next tokens, with logits requested for all of them.
pub(crate) fn all_of<'r>(row: &'r mut DecoderRow, ids: &'r [u32]) -> Feed<'r> {
    Feed { row, ids, wanted: Wanted::All }
}
