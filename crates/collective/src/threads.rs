//! A group of threads in one process: for tests, and to try a plan without a launcher.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, Result};
use crate::group::Group;
use crate::processes::Processes;

/// One thread's end of the channels to all others.
struct Thread {
    rank: usize,
    /// The sender to each thread.
    to: Vec<Mutex<Sender<Vec<u8>>>>,
    /// The receiver from each thread.
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

/// A group of `size` processes that are threads; each takes one of them. A thread that drops its own leaves the group,
/// and the others get an error.
pub fn threads(size: usize) -> Vec<Processes> {
    let mut to: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    for receiver in &mut from {
        for sender in &mut to {
            let (send, receive) = channel();
            sender.push(Mutex::new(send));
            receiver.push(Mutex::new(receive));
        }
    }
    let ends = to.into_iter().zip(from).enumerate();
    ends.map(|(rank, (to, from))| Processes::new(Thread { rank, to, from })).collect()
}

impl Group for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        let gone = || Error::Gone { rank: peer, size: self.size() };
        if !send.is_empty() {
            let to = self.to[peer].lock().map_err(|_| gone())?;
            to.send(send.to_vec()).map_err(|_| gone())?;
        }
        if !receive.is_empty() {
            let from = self.from[peer].lock().map_err(|_| gone())?;
            let came = from.recv().map_err(|_| gone())?;
            if came.len() != receive.len() {
                return Err(Error::Length { rank: peer, sent: came.len(), wanted: receive.len() });
            }
            receive.copy_from_slice(&came);
        }
        Ok(())
    }

    fn abort(&self, _: u8) {}
}
