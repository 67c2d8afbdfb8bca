//! A group over MPI, of which only messages between two processes are used.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::{Universe, initialize_with_threading, processor_name};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};

use crate::error::{Error, Result};
use crate::group::Group;
use crate::processes::Processes;

/// The maximum number of bytes in one message: MPI counts them in 31 bits.
const LONGEST: usize = 1 << 30;

/// The time that a waiting process polls without pause before it sleeps in between, …
const EAGER: Duration = Duration::from_millis(2);
/// … and the length of that sleep.
const NAP: Duration = Duration::from_micros(50);
/// The interval at which it checks whether the other processes of its machine are alive.
const LOOK: Duration = Duration::from_millis(100);

/// All processes started by the launcher.
struct Mpi {
    rank: usize,
    size: usize,
    /// The other processes of this machine: ranks and process ids.
    neighbors: OnceLock<Vec<(usize, u32)>>,
    on_loss: fn(&Error),
    /// Finalizes MPI when it is dropped.
    _universe: Universe,
}

/// Joins the processes of the launcher.
///
/// # Errors
/// Returns an error if MPI can't be started, or can't be called from several threads in turn.
pub(crate) fn start(on_loss: fn(&Error)) -> Result<Processes> {
    let wanted = Threading::Serialized;
    let engine = |words: &str| Error::Engine(words.to_owned());
    let (universe, found) =
        initialize_with_threading(wanted).ok_or_else(|| engine("it was already started"))?;
    if found < wanted {
        return Err(engine(
            "this one can't be called from several threads; use one with MPI_THREAD_SERIALIZED",
        ));
    }
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let mpi = Mpi { rank, size, neighbors: OnceLock::new(), on_loss, _universe: universe };
    let processes = Processes::new_with(mpi, |mpi, processes| {
        // Processes see each other's ids if they share kernel and namespace.
        let mut hasher = DefaultHasher::new();
        let seen_in = std::fs::read_link("/proc/self/ns/pid").ok();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        (processor_name().unwrap_or_default(), seen_in, kernel).hash(&mut hasher);
        let machine = hasher.finish();
        let all = processes.gather(bytemuck::cast_slice(&[machine, u64::from(std::process::id())]))?;
        let of = |said: &Vec<u8>| {
            let (machine, id) = said.split_first_chunk::<8>()?;
            Some((u64::from_ne_bytes(*machine), u64::from_ne_bytes(*id.first_chunk()?) as u32))
        };
        let others = all.iter().enumerate().filter(|(other, _)| *other != rank);
        let here = others
            .filter_map(|(other, said)| of(said).filter(|(of, _)| *of == machine).map(|(_, id)| (other, id)));
        let _ = mpi.neighbors.set(here.collect());
        Ok(())
    })?;
    Ok(processes)
}

impl Mpi {
    /// A process of this machine that has ended, if any.
    fn lost(&self) -> Option<usize> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let has_ended = |id: u32| match std::fs::read_to_string(format!("/proc/{id}/stat")) {
            // The state follows the name in parentheses: a zombie is a process whose end its parent hasn't noticed yet.
            Ok(stat) => stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| matches!(rest.trim_start().chars().next(), Some('Z' | 'X'))),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        self.neighbors.get()?.iter().find(|(_, id)| has_ended(*id)).map(|(rank, _)| *rank)
    }

    /// Waits until `done`; ends this process if another one ends meanwhile.
    fn wait(&self, mut done: impl FnMut() -> bool) {
        let began = Instant::now();
        let mut looked = began;
        while !done() {
            let now = Instant::now();
            if now - began < EAGER {
                std::thread::yield_now();
                continue;
            }
            if now - looked >= LOOK {
                looked = now;
                if let Some(rank) = self.lost() {
                    // A partly sent message can't be withdrawn: there is no way to continue.
                    (self.on_loss)(&Error::Gone { rank, size: self.size });
                    self.abort(1);
                }
            }
            std::thread::sleep(NAP);
        }
    }
}

impl Group for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let world = SimpleCommunicator::world();
        let peer = world.process_at_rank(peer as i32);
        let mut sends = send.chunks(LONGEST);
        let mut receives = receive.chunks_mut(LONGEST);
        loop {
            let (send, receive) = (sends.next(), receives.next());
            if send.is_none() && receive.is_none() {
                return Ok(());
            }
            mpi::request::scope(|scope| {
                let mut receive = receive.map(|into| peer.immediate_receive_into(scope, into));
                let mut send = send.map(|bytes| peer.immediate_send(scope, bytes));
                self.wait(|| {
                    receive = receive.take().and_then(|request| request.test().err());
                    send = send.take().and_then(|request| request.test().err());
                    receive.is_none() && send.is_none()
                });
            });
        }
    }

    fn abort(&self, code: u8) {
        SimpleCommunicator::world().abort(i32::from(code));
    }
}
