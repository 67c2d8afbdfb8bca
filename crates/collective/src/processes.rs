//! A handle to the processes of a run, with counters of the traffic.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::error::Result;
use crate::group::Group;

/// A shareable group, with counters of what was sent through it.
#[derive(Clone)]
pub struct Processes {
    group: Arc<dyn Group>,
    counted: Arc<Counted>,
    ending: Arc<AtomicBool>,
}

#[derive(Default)]
struct Counted {
    bytes: AtomicU64,
    messages: AtomicU64,
    nanos: AtomicU64,
}

/// The traffic of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub bytes: u64,
    /// Exchanges, each with at most one message in either direction.
    pub messages: u64,
    /// The time in exchanges: sending, receiving, and waiting for the others.
    pub time: Duration,
}

impl Default for Processes {
    fn default() -> Self {
        Self::new(Alone)
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.rank(), self.size())
    }
}

impl Processes {
    /// A handle to a group.
    pub fn new(group: impl Group + 'static) -> Self {
        Self { group: Arc::new(group), counted: Arc::default(), ending: Arc::default() }
    }

    /// A handle to a group that must exchange messages before it is complete.
    #[cfg(feature = "mpi")]
    pub(crate) fn new_with<G: Group + 'static>(
        group: G,
        complete: impl FnOnce(&G, &Self) -> Result<()>,
    ) -> Result<Self> {
        let group = Arc::new(group);
        let processes = Self { group: group.clone(), counted: Arc::default(), ending: Arc::default() };
        complete(&group, &processes)?;
        Ok(processes)
    }

    /// The rank of this process, from 0.
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// Whether this is the process that prints and writes: the first.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether this is the only process.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// See [`Group::exchange`].
    ///
    /// # Errors
    /// As [`Group::exchange`].
    pub fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let began = Instant::now();
        let done = self.group.exchange(peer, send, receive);
        self.counted.bytes.fetch_add(send.len() as u64, Ordering::Relaxed);
        self.counted.messages.fetch_add(1, Ordering::Relaxed);
        self.counted.nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        done
    }

    /// Notes that all processes know why they end: none waits for another, so each can end by itself.
    pub fn set_ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether all processes know why they end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends all processes at once, including this one, if the engine can.
    pub fn abort(&self, code: u8) {
        self.group.abort(code);
    }

    /// The traffic of this process so far.
    pub fn traffic(&self) -> Traffic {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counted { bytes, messages, nanos } = &*self.counted;
        Traffic { bytes: of(bytes), messages: of(messages), time: Duration::from_nanos(of(nanos)) }
    }
}
