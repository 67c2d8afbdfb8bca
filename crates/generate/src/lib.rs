//! Text from a model, one token at a time.
#![doc = include_str!("../README.md")]

mod config;
mod engine;
mod error;
mod film;
mod generate;
mod generation_config;
mod generator;
mod lookup;
mod next;
mod predict;
mod prompt;
mod sampler;
mod source;
mod stop;
mod tables;

pub use config::{InvalidSetting, SampleConfig};
pub use error::{Error, Result};
pub use film::Film;
pub use generate::{FinishReason, Request, Sample, check_continues, generate};
pub use generation_config::{GenerationConfig, OneOrMany, read_object};
pub use generator::{Generator, Texts};
pub use next::{NextToken, next_tokens};
pub use predict::{Filled, Framed, all_mask_tables, embeddings, fill_all, label_tables, next_tables};
pub use prompt::{Prompt, notes, token_text};
pub use sampler::{Candidate, Choice, Listed, Sampler, Stage, Trace};
pub use source::Source;
pub use tables::{MaskTable, fill_masks, last_window, mask_tables, next_table};
