//! A spinning fork–join thread pool for microsecond jobs.
//!
//! Between jobs its threads spin for a while, since the next job comes within microseconds; then they sleep.
#![allow(unsafe_code)]

use crate::threads::with_kernel_threads;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

/// Spins before a thread yields: some tens of microseconds.
const SPINS: u32 = 2_000;
/// Yields before a worker sleeps.
const YIELDS: u32 = 200;

/// The number of parts per thread.
const PARTS: usize = 4;

type Job = *const (dyn Fn(usize) + Sync);

/// Threads that repeatedly divide work among them.
///
/// # Examples
/// ```
/// let mut team = vulpes_ops::decode::Team::new(2);
/// let mut squares = vec![0.0; 10];
/// team.split(&mut squares, 1, &|first, part| {
///     part.iter_mut().enumerate().for_each(|(i, x)| *x = ((first + i) * (first + i)) as f32)
/// });
/// assert_eq!(squares[9], 81.0);
/// ```
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
    /// The number of threads asked for; the system may have granted fewer.
    wanted: usize,
}

struct Shared {
    job: UnsafeCell<Option<Job>>,
    /// Workers that have not finished their part of the job.
    pending: AtomicUsize,
    seats: Vec<Seat>,
    stop: AtomicBool,
    panicked: AtomicBool,
}

/// What a worker watches, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Seat {
    /// Counts the worker's jobs; a change means a new one.
    round: AtomicUsize,
    asleep: AtomicBool,
}

// SAFETY: only the owner writes `job`, while no worker is pending, and workers read it only after their round that
// follows it has been published; it points to a closure that is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is not used after its round.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `n` threads including the caller; 0 counts as 1.
    pub fn new(n: usize) -> Self {
        let n_worker = n.max(1) - 1;
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            pending: AtomicUsize::new(0),
            seats: (0..n_worker).map(|_| Seat::default()).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let start = |number: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("kernel-{}", number + 1));
            // A part of a kernel starts no threads of its own.
            builder.spawn(move || with_kernel_threads(1, || shared.work(number))).ok()
        };
        // If the system grants fewer threads, the caller does their share.
        let workers: Vec<_> =
            (0..n_worker).map_while(start).map(|handle| (handle.thread().clone(), Some(handle))).collect();
        Self { shared, workers, wanted: n }
    }

    /// The number of threads, including the caller.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Splits `out` at multiples of `quantum` into parts, a few per thread; each part goes to `work` with the index of
    /// its first element, on whichever thread is free, so a delayed thread delays no other.
    ///
    /// # Panics
    /// Panics if `work` does.
    pub fn split(&mut self, out: &mut [f32], quantum: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let (len, quantum) = (out.len(), quantum.max(1));
        let start = SendPtr(out.as_mut_ptr());
        self.share(len.div_ceil(quantum), &|units| {
            let (first, last) = (units.start * quantum, (units.end * quantum).min(len));
            // SAFETY: first..last is inside `out`, which is borrowed for the entire call; each part goes to only one
            // thread, so parts don't overlap.
            let part = unsafe { std::slice::from_raw_parts_mut(start.get().add(first), last - first) };
            work(first, part);
        });
    }

    /// Passes each item with its index to `work`, on whichever thread is free.
    ///
    /// # Panics
    /// Panics if `work` does.
    pub fn each<T: Send>(&mut self, items: &mut [T], work: &(dyn Fn(usize, &mut T) + Sync)) {
        let start = SendPtr(items.as_mut_ptr());
        self.share(items.len(), &|numbers| {
            for number in numbers {
                // SAFETY: the index is inside `items`, which is borrowed for the entire call; each item goes to one
                // thread.
                work(number, unsafe { &mut *start.get().add(number) });
            }
        });
    }

    /// Distributes the indices `0..n` in parts, a few per thread.
    ///
    /// # Panics
    /// Panics if `work` does.
    pub(crate) fn share(&mut self, n: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let n_thread = self.n_threads().min(n);
        if n_thread <= 1 {
            return if n > 0 {
                work(0..n)
            };
        }
        let per_part = n.div_ceil(n_thread * PARTS);
        let taken = AtomicUsize::new(0);
        self.run(n_thread, &|_| {
            loop {
                let first = taken.fetch_add(per_part, Ordering::Relaxed).min(n);
                let last = (first + per_part).min(n);
                if first == last {
                    return;
                }
                work(first..last);
            }
        });
    }

    /// Runs `job` on the caller and `n - 1` others, at most all of them, with the thread's index; returns once all are
    /// done. The others aren't woken.
    fn run(&mut self, n: usize, job: &(dyn Fn(usize) + Sync)) {
        let workers = &self.workers[..self.workers.len().min(n.saturating_sub(1))];
        if workers.is_empty() {
            return job(0);
        }
        let shared = &*self.shared;
        // SAFETY: no worker is pending, so none reads the job; only the type loses the lifetime, since this function
        // does not return before every worker is done with it.
        unsafe {
            *shared.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job as *const _));
        }
        shared.pending.store(workers.len(), Ordering::Relaxed);
        for ((thread, _), seat) in workers.iter().zip(&shared.seats) {
            seat.round.fetch_add(1, Ordering::SeqCst);
            if seat.asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(0)));
        let mut spins = 0u32;
        while shared.pending.load(Ordering::Acquire) > 0 {
            spins += 1;
            // A worker may have lost its core to another program.
            if spins > SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a thread of the team panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for ((thread, handle), seat) in self.workers.iter_mut().zip(&self.shared.seats) {
            seat.round.fetch_add(1, Ordering::SeqCst);
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A worker's panic was reported in the round in which it happened.
                let _ = handle.join();
            }
        }
    }
}

impl Shared {
    fn work(&self, number: usize) {
        let mut seen = 0;
        loop {
            seen = self.seats[number].wait(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the round was published after the job, and the owner waits for this thread before it changes it.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: the owner keeps the closure alive until `pending` is 0.
                let job = unsafe { &*job };
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(number + 1))).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.pending.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Seat {
    /// Waits for a round after `seen`.
    fn wait(&self, seen: usize) -> usize {
        for turn in 0..SPINS + YIELDS {
            let round = self.round.load(Ordering::SeqCst);
            if round != seen {
                return round;
            }
            // On a busy machine the thread with the next job may be waiting for this very core.
            if turn < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.asleep.store(true, Ordering::SeqCst);
        loop {
            let round = self.round.load(Ordering::SeqCst);
            if round != seen {
                self.asleep.store(false, Ordering::SeqCst);
                return round;
            }
            std::thread::park();
        }
    }
}

/// Teams that nobody is using, the latest at the back.
static FREE: Mutex<Vec<Team>> = Mutex::new(Vec::new());

/// Passes each item to `work`, on this thread and others: as many threads as there are items.
///
/// # Panics
/// Panics if `work` does.
pub(crate) fn each<T: Send>(items: &mut [T], work: &(dyn Fn(&mut T) + Sync)) {
    let free = || FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let large_enough = {
        let mut teams = free();
        let at = teams.iter().rposition(|team| team.wanted >= items.len());
        at.map(|at| teams.remove(at))
    };
    let mut team = large_enough.unwrap_or_else(|| Team::new(items.len()));
    with_kernel_threads(1, || team.each(items, &|_, item| work(item)));
    free().push(team);
}

/// A pointer that may go to another thread: the parts made from it don't overlap.
pub(crate) struct SendPtr<T>(pub(crate) *mut T);

// SAFETY: used only for parts that don't overlap, within the borrow that it was made from.
unsafe impl<T: Send> Sync for SendPtr<T> {}

impl<T> SendPtr<T> {
    /// The pointer; a method, so that closures capture the struct and not the field.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}
