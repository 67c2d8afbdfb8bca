//! Models by their name on the [hub](https://huggingface.co/docs/hub), `ORG/NAME` or `ORG/NAME@REVISION`, in the cache that
//! huggingface_hub keeps on this machine.
//!
//! name → the cache's folder of the model → the snapshot that a revision means → a model folder. Nothing here goes to the
//! network but `Hub::fetch`, which the feature `hub` brings.

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
