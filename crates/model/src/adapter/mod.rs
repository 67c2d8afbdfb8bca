//! Low-rank adapters of a model: the `[adapter]` section and the resulting change of each module.
//!
//! `[adapter]` ([`AdapterSection`]) and a model's modules ([`AdapterSection::choose`]) → [`AdapterSpec`] → additional
//! leaves of the layer tree ([`crate::Layers::adapted`]). [`crate::folder`] reads and writes adapter folders in PEFT's
//! format.

mod section;
mod spec;

pub use section::{AdapterKind, AdapterSection, BaseDtype, Targets};
pub(crate) use spec::TOKEN;
pub use spec::{AdapterSpec, ModuleSpec};
