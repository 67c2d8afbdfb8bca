//! One sum over many processes, bit-identical for any number of them.
#![doc = include_str!("../README.md")]

mod alone;
mod error;
mod gather;
mod group;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod numbers;
mod plan;
mod processes;
mod share;
mod sum;
mod threads;

pub use alone::Alone;
pub use error::{Error, Result};
pub use group::Group;
pub use launch::{Launched, launched, start};
pub use numbers::{Number, Numbers};
pub use plan::{SumPlan, leaves_of, slices};
pub use processes::{Processes, Traffic};
pub use share::share;
pub use sum::sum;
pub use threads::threads;
