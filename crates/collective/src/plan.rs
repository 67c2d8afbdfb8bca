//! The static plan of a sum: which process computes which leaves, owns which slice and sends what to whom.

use std::ops::Range;

use vulpes_ops::tree_nodes;

use crate::error::{Error, Result};

/// The leaves of process `rank` of `size`: divided as evenly as possible, in order.
pub fn leaves_of(rank: usize, size: usize, n_leaves: usize) -> Range<usize> {
    rank * n_leaves / size..(rank + 1) * n_leaves / size
}

/// The slice of each process, as even as the permitted `cuts` of an array allow (the first is 0, the last its length).
///
/// If the number of processes is a power of two, slices are in the order in which recursive halving leaves them: that
/// of the ranks' reversed bits.
pub fn slices(cuts: &[usize], size: usize) -> Vec<Range<usize>> {
    let len = cuts.last().copied().unwrap_or(0);
    let bound = |part: usize| {
        let target = (part as u128 * len as u128 / size as u128) as usize;
        let above = cuts.partition_point(|cut| *cut < target);
        let (above, below) =
            (cuts.get(above).copied().unwrap_or(len), cuts[..above].last().copied().unwrap_or(0));
        if above - target <= target.saturating_sub(below) { above } else { below }
    };
    let bounds: Vec<usize> = (0..=size).map(bound).collect();
    (0..size).map(|rank| bounds[place(rank, size)]..bounds[place(rank, size) + 1]).collect()
}

/// The index of a rank's slice in the array.
pub(crate) fn place(rank: usize, size: usize) -> usize {
    if size.is_power_of_two() && size > 1 {
        rank.reverse_bits() >> (usize::BITS - size.ilog2())
    } else {
        rank
    }
}

/// How processes sum an array: whose leaves form which nodes, and who owns which slice.
#[derive(Clone, Debug)]
pub struct SumPlan {
    n_leaves: usize,
    /// The nodes of each process in the tree, in order.
    nodes: Vec<Vec<Range<usize>>>,
    slices: Vec<Range<usize>>,
}

impl SumPlan {
    /// The plan for `n_leaves` leaves, with the processes' slices ([`slices`]).
    ///
    /// # Errors
    /// Returns [`Error::TooMany`] if there are more processes than leaves: one without a leaf would only wait.
    pub fn new(n_leaves: usize, slices: &[Range<usize>]) -> Result<Self> {
        let size = slices.len();
        if size > n_leaves {
            return Err(Error::TooMany { size, n_leaves });
        }
        let nodes = (0..size).map(|rank| tree_nodes(leaves_of(rank, size, n_leaves), n_leaves)).collect();
        Ok(Self { n_leaves, nodes, slices: slices.to_vec() })
    }

    /// The number of leaves of the tree.
    pub(crate) fn n_leaves(&self) -> usize {
        self.n_leaves
    }

    /// The nodes of each process in the tree.
    pub(crate) fn nodes(&self) -> &[Vec<Range<usize>>] {
        &self.nodes
    }

    /// The slice of each process.
    pub fn slices(&self) -> &[Range<usize>] {
        &self.slices
    }

    /// Whether recursive halving yields this very tree: each process has one complete node, all of one size, and they
    /// pair up at every level.
    pub(crate) fn is_halving(&self) -> bool {
        let size = self.slices.len();
        let len = self.n_leaves / size;
        size.is_power_of_two() && len.is_power_of_two() && len * size == self.n_leaves
    }

    /// The bytes that process `rank` sends for the sum of an array, at `width` bytes per element.
    pub fn bytes_sent(&self, rank: usize, width: usize) -> u64 {
        let others = self.slices.iter().enumerate().filter(|(peer, _)| *peer != rank);
        let numbers: usize = others.map(|(_, slice)| slice.len()).sum();
        (numbers * self.nodes[rank].len() * width) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_the_array_once_at_cuts() {
        let cuts: Vec<usize> = [0, 3, 16, 40, 41, 42, 43, 90, 100].into();
        for size in 1..=20 {
            let mut all = slices(&cuts, size);
            assert!(all.iter().all(|slice| cuts.contains(&slice.start) && cuts.contains(&slice.end)));
            all.sort_by_key(|slice| (slice.start, slice.end));
            assert_eq!(all[0].start, 0);
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start), "{size}: {all:?}");
            assert_eq!(all[size - 1].end, 100);
        }
        let even: Vec<usize> = (0..=64).collect();
        for size in [1, 2, 3, 4, 5, 8, 16, 31] {
            assert!(slices(&even, size).iter().all(|slice| slice.len().abs_diff(64 / size) <= 1));
        }
    }

    #[test]
    fn more_processes_than_leaves_are_refused() {
        let error = SumPlan::new(2, &slices(&[0, 9], 3)).unwrap_err().to_string();
        assert_eq!(error, "3 processes are too many: a step has only 2 parts");
    }

    #[test]
    fn halving_is_for_powers_of_two() {
        let halving = |n_leaves, size| SumPlan::new(n_leaves, &slices(&[0, 99], size)).unwrap().is_halving();
        assert!(halving(8, 2) && halving(8, 8) && halving(4, 4) && halving(1, 1) && halving(64, 4));
        // The halves of six leaves in the tree are four and two.
        assert!(!halving(6, 2) && !halving(8, 3) && !halving(12, 4) && !halving(9, 8));
    }
}
