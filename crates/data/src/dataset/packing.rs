//! Packs conversations into windows.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Packs rows of these lengths into windows of at most `room` tokens by best-fit decreasing. Windows, and the rows
/// within each, are in the order of the rows.
pub(super) fn packed(lengths: &[usize], room: usize) -> Vec<Vec<u32>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| Reverse(lengths[row]));
    let mut windows: Vec<Vec<u32>> = Vec::new();
    // The free room of each window.
    let mut left: BTreeSet<(usize, usize)> = BTreeSet::new();
    for row in order {
        let len = lengths[row];
        let fitting = left.range((len, 0)..).next().copied();
        let (free, window) = fitting.unwrap_or((room, windows.len()));
        match fitting {
            Some(window) => drop(left.remove(&window)),
            None => windows.push(Vec::new()),
        }
        windows[window].push(row as u32);
        left.insert((free.saturating_sub(len), window));
    }
    windows.iter_mut().for_each(|window| window.sort_unstable());
    windows.sort_unstable();
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_row_is_packed_into_one_window(
            lengths in proptest::collection::vec(1_usize..=16, 0..60),
        ) {
            let windows = packed(&lengths, 16);
            let mut all: Vec<u32> = windows.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len() as u32).collect::<Vec<_>>());
            let filled: Vec<usize> =
                windows.iter().map(|window| window.iter().map(|&row| lengths[row as usize]).sum()).collect();
            prop_assert!(filled.iter().all(|&filled| filled <= 16));
            // Two half-empty windows would have been one.
            prop_assert!(filled.iter().filter(|&&filled| filled <= 8).count() <= 1);
            prop_assert!(windows.is_sorted_by_key(|window| window[0]));
        }
    }
}
