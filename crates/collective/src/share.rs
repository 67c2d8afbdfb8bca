//! Distributes each process's slice to all (all-gather).

use std::ops::Range;

use crate::error::Result;
use crate::numbers::{Number, Numbers};
use crate::processes::Processes;
use crate::sum::CHUNK;

/// Distributes the slices: each process has its own of `slices` in `row`, and afterwards all of them.
///
/// # Errors
/// As [`Processes::exchange`], and those of `row`.
pub fn share<T: Number>(
    processes: &Processes,
    slices: &[Range<usize>],
    row: &mut dyn Numbers<T>,
) -> Result<()> {
    let (rank, size) = (processes.rank(), processes.size());
    let (mut send, mut received) = (Vec::new(), Vec::new());
    for round in 0..size {
        let peer = (round + size - rank) % size;
        if peer == rank {
            continue;
        }
        let (own, other) = (&slices[rank], &slices[peer]);
        for chunk in 0..own.len().max(other.len()).div_ceil(CHUNK) {
            let part = |of: &Range<usize>| {
                (of.start + chunk * CHUNK).min(of.end)..(of.start + (chunk + 1) * CHUNK).min(of.end)
            };
            let (own, other) = (part(own), part(other));
            send.resize(own.len(), T::zeroed());
            received.resize(other.len(), T::zeroed());
            row.read(own.start, &mut send)?;
            processes.exchange(peer, bytemuck::cast_slice(&send), bytemuck::cast_slice_mut(&mut received))?;
            row.write(other.start, &received)?;
        }
    }
    Ok(())
}
