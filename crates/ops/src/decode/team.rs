//! A few threads that work in step: a piece of work each, many thousand times a second.
//!
//! Between pieces they spin for a while, since the next piece comes within microseconds; then they sleep.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

/// Turns of spinning before a thread gives way to others: some tens of microseconds.
const SPINS: u32 = 2_000;
/// Turns of giving way before a worker sleeps.
const YIELDS: u32 = 200;

/// Parts for each thread.
const PARTS: usize = 4;

type Job = *const (dyn Fn(usize) + Sync);

/// Threads that share out a slice among them, over and over.
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
}

struct Shared {
    /// Counts the jobs; a change means a new one.
    round: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// Workers that have not finished the job of this round.
    pending: AtomicUsize,
    /// Whether each worker sleeps.
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    panicked: AtomicBool,
}

// SAFETY: `job` is written by the owner alone, while no worker is pending, and read by workers only after the round
// that follows it has been published; it points at a closure that is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is not used after its round.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `n` threads, the caller among them; 0 counts as 1.
    pub fn new(n: usize) -> Self {
        let n_worker = n.max(1) - 1;
        let shared = Arc::new(Shared {
            round: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            pending: AtomicUsize::new(0),
            asleep: (0..n_worker).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let start = |number: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("decode-{number}"));
            builder.spawn(move || shared.work(number)).ok()
        };
        // Where the system grants fewer threads, the caller does what they would have done.
        let workers: Vec<_> =
            (0..n_worker).map_while(start).map(|handle| (handle.thread().clone(), Some(handle))).collect();
        Self { shared, workers }
    }

    /// How many threads there are, the caller among them.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Cuts `out` into parts, a few for each thread, at multiples of `quantum`; each part goes to `work` with the place
    /// of its first number, and to whichever thread is free: one that the system holds up holds up nobody.
    ///
    /// # Panics
    /// Where `work` does.
    pub fn split(&mut self, out: &mut [f32], quantum: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let (n, len) = (self.n_threads(), out.len());
        let n_part = if n == 1 { 1 } else { n * PARTS };
        let per_part = len.div_ceil(quantum.max(1)).div_ceil(n_part) * quantum.max(1);
        let (start, taken) = (SendPtr(out.as_mut_ptr()), AtomicUsize::new(0));
        self.run(&|_| {
            loop {
                let first = taken.fetch_add(per_part, Ordering::Relaxed).min(len);
                let last = (first + per_part).min(len);
                if first == last {
                    return;
                }
                // SAFETY: first..last lies inside `out`, which is borrowed for the whole call; the counter gives each
                // part to one thread alone, so parts don't overlap.
                let part = unsafe { std::slice::from_raw_parts_mut(start.get().add(first), last - first) };
                work(first, part);
            }
        });
    }

    /// Runs `job` on every thread, with the thread's number; returns once all are done.
    fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let shared = &*self.shared;
        // SAFETY: no worker is pending, so none reads the job; the lifetime is dropped from the type alone, since this
        // function does not return before every worker is done with it.
        unsafe {
            *shared.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job as *const _));
        }
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        shared.round.fetch_add(1, Ordering::SeqCst);
        for ((thread, _), asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
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
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        for (thread, handle) in &mut self.workers {
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
            seen = self.wait(seen, number);
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

    /// Waits for a round after `seen`.
    fn wait(&self, seen: usize, number: usize) -> usize {
        for turn in 0..SPINS + YIELDS {
            let round = self.round.load(Ordering::SeqCst);
            if round != seen {
                return round;
            }
            // On a busy machine whoever has the next piece of work may be waiting for this very core.
            if turn < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        self.asleep[number].store(true, Ordering::SeqCst);
        loop {
            let round = self.round.load(Ordering::SeqCst);
            if round != seen {
                self.asleep[number].store(false, Ordering::SeqCst);
                return round;
            }
            std::thread::park();
        }
    }
}

/// A pointer that may go to another thread: the parts made from it don't overlap.
struct SendPtr(*mut f32);

// SAFETY: used only for parts that don't overlap, within the borrow that it was made from.
unsafe impl Sync for SendPtr {}

impl SendPtr {
    /// The pointer; a method, so that closures capture the whole and not the bare field.
    fn get(&self) -> *mut f32 {
        self.0
    }
}
