//! The processes of a run, as whoever works in one of them holds them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::error::Result;
use crate::group::Group;

/// A group that can be handed on, and what was sent through it.
#[derive(Clone)]
pub struct Processes {
    group: Arc<dyn Group>,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    bytes: AtomicU64,
    messages: AtomicU64,
    nanos: AtomicU64,
}

/// What one process has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub bytes: u64,
    /// Exchanges, each of at most a message in either direction.
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
    /// The processes of a group.
    pub fn new(group: impl Group + 'static) -> Self {
        Self { group: Arc::new(group), counted: Arc::default() }
    }

    /// The processes of a group that must hear from them before it is complete.
    #[cfg(feature = "mpi")]
    pub(crate) fn new_with<G: Group + 'static>(
        group: G,
        complete: impl FnOnce(&G, &Self) -> Result<()>,
    ) -> Result<Self> {
        let group = Arc::new(group);
        let processes = Self { group: group.clone(), counted: Arc::default() };
        complete(&group, &processes)?;
        Ok(processes)
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// Whether this is the process that shows and writes: the first.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there is no other.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// [`Group::exchange`].
    ///
    /// # Errors
    /// As there.
    pub fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let began = Instant::now();
        let done = self.group.exchange(peer, send, receive);
        self.counted.bytes.fetch_add(send.len() as u64, Ordering::Relaxed);
        self.counted.messages.fetch_add(1, Ordering::Relaxed);
        self.counted.nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        done
    }

    /// Ends all processes at once, this one among them where the engine can.
    pub fn abort(&self, code: u8) {
        self.group.abort(code);
    }

    /// What this process has sent so far.
    pub fn traffic(&self) -> Traffic {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counted { bytes, messages, nanos } = &*self.counted;
        Traffic { bytes: of(bytes), messages: of(messages), time: Duration::from_nanos(of(nanos)) }
    }
}
