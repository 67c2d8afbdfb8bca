//! Sums all leaves along the fixed tree; each process ends with its slice of the total (reduce-scatter).

use vulpes_ops::TreeSum;

use crate::error::Result;
use crate::numbers::{Number, Numbers};
use crate::plan::{SumPlan, place};
use crate::processes::Processes;

/// The number of elements in one message: small enough to stay in a processor's cache between packing and sending.
pub(crate) const CHUNK: usize = 1 << 18;

/// The number of elements held at a time while a slice is computed from many nodes.
const HELD: usize = 1 << 24;

/// Sums the nodes of all processes along the tree. `nodes` are this process's, in order; afterwards the first contains
/// the total in this process's slice, and arbitrary values elsewhere.
///
/// # Errors
/// As [`Processes::exchange`], and those of `nodes`.
pub fn sum<T: Number>(
    processes: &Processes,
    plan: &SumPlan,
    nodes: &mut [&mut dyn Numbers<T>],
) -> Result<()> {
    if processes.is_alone() {
        return Ok(());
    }
    match nodes {
        [one] if plan.is_halving() => halving(processes, plan, *one),
        _ => by_plan(processes, plan, nodes),
    }
}

/// Recursive halving, neighbors first: each of two processes sends the half of their common range that the other will
/// own, and adds what it receives. `a + b` is bit-identical to `b + a`, so both have computed the node above their two.
fn halving<T: Number>(processes: &Processes, plan: &SumPlan, row: &mut dyn Numbers<T>) -> Result<()> {
    let (rank, size) = (processes.rank(), processes.size());
    let mut bounds: Vec<usize> = vec![0; size + 1];
    for (rank, slice) in plan.slices().iter().enumerate() {
        bounds[place(rank, size) + 1] = slice.end;
    }
    let mut shared = 0..size;
    let (mut send, mut received) = (Vec::new(), Vec::new());
    let mut bit = 1;
    while bit < size {
        let middle = shared.start + shared.len() / 2;
        let (low, high) = (shared.start..middle, middle..shared.end);
        let (keep, give) = if rank & bit == 0 { (low, high) } else { (high, low) };
        shared = keep.clone();
        let (keep, give) = (bounds[keep.start]..bounds[keep.end], bounds[give.start]..bounds[give.end]);
        for chunk in 0..keep.len().max(give.len()).div_ceil(CHUNK) {
            let part = |of: &std::ops::Range<usize>| {
                (of.start + chunk * CHUNK).min(of.end)..(of.start + (chunk + 1) * CHUNK).min(of.end)
            };
            let (keep, give) = (part(&keep), part(&give));
            send.resize(give.len(), T::zeroed());
            received.resize(keep.len(), T::zeroed());
            row.read(give.start, &mut send)?;
            let into = bytemuck::cast_slice_mut(&mut received);
            processes.exchange(rank ^ bit, bytemuck::cast_slice(&send), into)?;
            row.add(keep.start, &received)?;
        }
        bit *= 2;
    }
    Ok(())
}

/// The static plan: every process sends each other its nodes' elements in that one's slice, and the owner of a slice
/// computes the nodes above them.
fn by_plan<T: Number>(
    processes: &Processes,
    plan: &SumPlan,
    nodes: &mut [&mut dyn Numbers<T>],
) -> Result<()> {
    let (rank, size) = (processes.rank(), processes.size());
    let n_nodes: usize = plan.nodes().iter().map(Vec::len).sum();
    let chunk_len = (HELD / n_nodes).clamp(1 << 10, CHUNK);
    let longest = plan.slices().iter().map(|slice| slice.len()).max().unwrap_or(0);
    let mut send = Vec::new();
    let mut received: Vec<Vec<T>> = vec![Vec::new(); size];
    for chunk in 0..longest.div_ceil(chunk_len) {
        let part = |of: usize| {
            let slice = &plan.slices()[of];
            let bound = |chunk: usize| (slice.start + chunk * chunk_len).min(slice.end);
            bound(chunk)..bound(chunk + 1)
        };
        let own = part(rank);
        let read = |nodes: &[&mut dyn Numbers<T>], part: &std::ops::Range<usize>, out: &mut Vec<T>| {
            out.resize(nodes.len() * part.len(), T::zeroed());
            let each = out.chunks_mut(part.len().max(1));
            nodes.iter().zip(each).try_for_each(|(node, out)| node.read(part.start, out))
        };
        // In each of `size` rounds the processes whose ranks add up to the round's number exchange messages.
        for round in 0..size {
            let peer = (round + size - rank) % size;
            if peer == rank {
                read(nodes, &own, &mut received[rank])?;
                continue;
            }
            read(nodes, &part(peer), &mut send)?;
            let into = &mut received[peer];
            into.resize(plan.nodes()[peer].len() * own.len(), T::zeroed());
            processes.exchange(peer, bytemuck::cast_slice(&send), bytemuck::cast_slice_mut(into))?;
        }
        if own.is_empty() {
            continue;
        }
        let mut tree = TreeSum::new(plan.n_leaves());
        for (nodes, values) in plan.nodes().iter().zip(&mut received) {
            for (node, values) in nodes.iter().zip(values.chunks_mut(own.len())) {
                tree.push(node.clone(), values, |left: &mut &mut [T], right: &mut [T]| {
                    left.iter_mut().zip(right).for_each(|(left, right)| *left += *right);
                    Ok::<_, crate::Error>(())
                })?;
            }
        }
        for (_, sum) in tree.into_nodes() {
            nodes[0].write(own.start, sum)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{leaves_of, slices};
    use crate::share::share;
    use crate::threads::threads;

    /// Values of very different magnitudes, so that every order of addition yields different bits.
    fn leaf(leaf: usize, len: usize) -> Vec<f32> {
        let value = |i: usize| ((leaf * 31 + i * 7919) % 1013) as f32 - 500.0;
        (0..len).map(|i| value(i) * 10f32.powi(((leaf * 5 + i) % 9) as i32 - 4)).collect()
    }

    fn add(a: &mut [f32], b: Vec<f32>) -> Result<()> {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// The sum of `n_leaves` leaves by `size` processes.
    fn by(size: usize, n_leaves: usize, len: usize) -> Vec<u32> {
        let cuts: Vec<usize> = (0..len).step_by(7).chain([len]).collect();
        let slices = slices(&cuts, size);
        let plan = SumPlan::new(n_leaves, &slices).unwrap();
        let one = |processes: &Processes| {
            let mut tree = TreeSum::new(n_leaves);
            for at in leaves_of(processes.rank(), size, n_leaves) {
                tree.push(at..at + 1, leaf(at, len), |a, b| add(a, b)).unwrap();
            }
            let mut nodes: Vec<Vec<f32>> = tree.into_nodes().into_iter().map(|(_, node)| node).collect();
            let mut rows: Vec<&mut dyn Numbers<f32>> =
                nodes.iter_mut().map(|node| node as &mut dyn Numbers<f32>).collect();
            sum(processes, &plan, &mut rows).unwrap();
            share(processes, &slices, &mut nodes[0]).unwrap();
            nodes.swap_remove(0).into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let found: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let running: Vec<_> =
                threads(size).into_iter().map(|own| scope.spawn(move || one(&own))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|row| *row == found[0]), "the processes' results differ");
        found[0].clone()
    }

    #[test]
    fn any_number_of_processes_is_bit_identical() {
        for n_leaves in [1, 2, 3, 4, 6, 7, 8, 12, 13, 16] {
            let one = by(1, n_leaves, 100);
            for size in 2..=n_leaves.min(9) {
                assert_eq!(by(size, n_leaves, 100), one, "{size} processes, {n_leaves} leaves");
            }
        }
        assert_ne!(by(1, 8, 100), {
            let mut row = leaf(0, 100);
            (1..8).for_each(|at| add(&mut row, leaf(at, 100)).unwrap());
            row.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        });
    }

    #[test]
    fn arrays_of_many_messages_and_with_fewer_elements_than_processes() {
        let len = 2 * CHUNK + 5;
        let one = by(1, 6, len);
        for size in [2, 3, 4] {
            assert_eq!(by(size, 6, len), one);
        }
        assert_eq!(by(4, 8, len), by(1, 8, len));
        assert_eq!(by(8, 8, 3), by(1, 8, 3));
        assert_eq!(by(5, 8, 3), by(1, 8, 3));
    }
}
