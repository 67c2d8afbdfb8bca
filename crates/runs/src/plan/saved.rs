//! The files that a plan adds to the run's model folders next to the model.

use vulpes_data::Tokenizer;
use vulpes_model::folder::Extra;

use super::Plan;
use crate::base_model::BaseModel;

impl Plan {
    /// Special tokens and labels for the run's model folders: from the folder that the model comes from, if its ids are
    /// in use, and from the tokenizer.
    pub(crate) fn extra(&self) -> Extra {
        let tokenizer = self.dataset.tokenizer();
        let mut extra =
            self.base.as_ref().filter(|base| base.ids_in_use).map(BaseModel::tokens).unwrap_or_default();
        if extra.eos_token_id.is_empty() || self.config.data.tokenizer.eos.is_some() {
            extra.eos_token_id = tokenizer.and_then(Tokenizer::eos_id).into_iter().collect();
        }
        extra.pad_token_id = extra.pad_token_id.or(tokenizer.and_then(Tokenizer::pad_id));
        Extra { labels: self.dataset.labels().to_vec(), sentence: self.sentence.clone(), ..extra }
    }

    /// The `generation_config.json` of the run's model folders: `[sample]` applied to that of the folder that the model
    /// comes from.
    pub(crate) fn generation_config(&self) -> serde_json::Map<String, serde_json::Value> {
        crate::base_model::generation_config(self.base.as_ref(), &self.config)
    }

    /// The tokenizer files of the folder that the model comes from.
    pub(crate) fn tokenizer_files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.base.iter().filter(|base| base.ids_in_use).flat_map(BaseModel::tokenizer_files)
    }
}
