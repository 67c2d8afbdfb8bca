//! One sum over many processes, the same bits for any number of them.
//!
//! a process's leaves → its nodes of the fixed tree → [`sum`] over the [`Processes`] → each owns a slice of the total →
//! [`share`] → all have all of it. [`start`] finds the processes that a launcher has started.
//!
//! Knows buffers of numbers ([`Numbers`]), nothing of models and data. The crate's README derives why the bits are equal.

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
