//! Detects the launcher that started this process from its environment, and joins its processes.

use crate::error::{Error, Result};
use crate::processes::Processes;

/// The launcher's information about a process that it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// The launcher's name.
    pub launcher: &'static str,
    /// The number of processes started.
    pub size: usize,
    /// The rank of this process on its machine, if the launcher sets it.
    pub local_rank: Option<usize>,
    /// The number of processes on this machine, if the launcher sets it.
    pub local_size: Option<usize>,
}

/// Launchers with the variables that they set: the number of processes, and the local rank and local number of
/// processes.
const LAUNCHERS: &[(&str, [&str; 3])] = &[
    ("mpirun", ["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"]),
    ("mpiexec", ["PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"]),
    ("srun", ["SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""]),
];

/// The launcher that started this process; `None` if the environment shows none, or if it started no other process.
pub fn launched() -> Option<Launched> {
    launched_by(&|name| std::env::var(name).ok())
}

fn launched_by(variable: &dyn Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let found = LAUNCHERS.iter().filter_map(|(launcher, [size, local_rank, local_size])| {
        let (local_rank, local_size) = (number(local_rank), number(local_size));
        Some(Launched { launcher, size: number(size)?, local_rank, local_size })
    });
    found.into_iter().find(|launched| launched.size > 1)
}

/// The processes that were started together with this one; a group of one if there are no others.
///
/// `on_loss` is called with the error if a process ends unexpectedly while this one waits for it; then all are ended,
/// with exit code 1.
///
/// # Errors
/// Returns [`Error::NotBuilt`] if others were started but the program was built without the feature `mpi`, or an error
/// of MPI.
pub fn start(on_loss: fn(&Error)) -> Result<Processes> {
    let Some(launched) = launched() else { return Ok(Processes::default()) };
    with_engine(launched, on_loss)
}

#[cfg(feature = "mpi")]
fn with_engine(_: Launched, on_loss: fn(&Error)) -> Result<Processes> {
    crate::mpi::start(on_loss)
}

#[cfg(not(feature = "mpi"))]
fn with_engine(launched: Launched, _: fn(&Error)) -> Result<Processes> {
    let Launched { launcher, size, .. } = launched;
    Err(Error::NotBuilt { launcher, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_detected_by_their_variables() {
        let of = |set: &[(&str, &str)]| {
            launched_by(&|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        let mpirun = of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_RANK", "3")]).unwrap();
        assert_eq!((mpirun.launcher, mpirun.size, mpirun.local_rank), ("mpirun", 4, Some(3)));
        let srun = of(&[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_LOCALID", "1")]).unwrap();
        assert_eq!((srun.launcher, srun.size, srun.local_rank), ("srun", 8, Some(1)));
        assert_eq!(of(&[("PMI_SIZE", "2")]).unwrap().launcher, "mpiexec");
    }
}
