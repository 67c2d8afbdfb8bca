//! Models by [hub](https://huggingface.co/docs/hub) name, `ORG/NAME[@REVISION]`, in huggingface_hub's cache.
//!
//! name → the model's folder in the cache → the snapshot of a revision → a model folder. Nothing here uses the network
//! except `Hub::fetch`, which the feature `hub` adds.

mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod error;
#[cfg(feature = "hub")]
mod fetch;
mod name;
#[cfg(feature = "hub")]
mod progress;
mod settings;

#[cfg(feature = "hub")]
pub use error::Error;
pub use name::Name;
#[cfg(feature = "hub")]
pub use progress::Fetched;
pub use settings::Hub;
