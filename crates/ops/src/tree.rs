//! The fixed tree along which the parts of a step are summed.
//!
//! A sum of n leaves is the sum of the first p and that of the others, p being the largest power of two below n; a leaf
//! without a value is omitted. The shape depends only on n, so who sums which part, and when, does not change a bit:
//!
//! ```text
//!                 +
//!            /         \
//!           +           +
//!         /   \       /   \
//!        +     +     +     6
//!       / \   / \   / \
//!      0   1 2   3 4   5
//! ```

use std::ops::Range;

/// The number of the `n` ≥ 2 leaves that are on the left.
pub(crate) fn left(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// A sum along the tree, built while its leaves arrive in order: two nodes are joined as soon as they are siblings in
/// the tree, so that never more than `log₂ n + 1` values are kept for `n` leaves.
#[derive(Debug)]
pub struct TreeSum<T> {
    n_leaves: usize,
    nodes: Vec<(Range<usize>, T)>,
}

impl<T> TreeSum<T> {
    /// An empty tree of `n_leaves` leaves.
    pub fn new(n_leaves: usize) -> Self {
        Self { n_leaves, nodes: Vec::new() }
    }

    /// Takes the value of the node over the leaves `node`, which follow the previous ones.
    ///
    /// `add` adds its second value, the right one, to its first.
    ///
    /// # Errors
    /// Returns an error if `add` does.
    pub fn push<E>(
        &mut self,
        node: Range<usize>,
        value: T,
        mut add: impl FnMut(&mut T, T) -> Result<(), E>,
    ) -> Result<(), E> {
        self.nodes.push((node, value));
        while let [.., (left, _), (right, _)] = self.nodes.as_slice()
            && are_siblings(left, right, self.n_leaves)
        {
            let Some((right, value)) = self.nodes.pop() else { break };
            if let Some((node, sum)) = self.nodes.last_mut() {
                add(sum, value)?;
                node.end = right.end;
            }
        }
        Ok(())
    }

    /// The number of values kept now.
    pub fn n_kept(&self) -> usize {
        self.nodes.len()
    }

    /// The current nodes: one if all leaves have arrived.
    pub fn into_nodes(self) -> Vec<(Range<usize>, T)> {
        self.nodes
    }
}

/// Whether two adjacent nodes are the halves of one node of the tree of `n` leaves.
fn are_siblings(left: &Range<usize>, right: &Range<usize>, n: usize) -> bool {
    let len = left.len();
    len.is_power_of_two()
        && left.end == right.start
        && left.start.is_multiple_of(2 * len)
        && right.end == n.min(left.start + 2 * len)
}

/// The largest nodes of the tree of `n_leaves` leaves that contain only leaves of `leaves`, in order.
///
/// # Examples
/// ```
/// assert_eq!(vulpes_ops::tree_nodes(3..7, 7), [3..4, 4..7]);
/// ```
pub fn tree_nodes(leaves: Range<usize>, n_leaves: usize) -> Vec<Range<usize>> {
    let mut sum = TreeSum::new(n_leaves);
    for leaf in leaves {
        let Ok(()) = sum.push(leaf..leaf + 1, (), |(), ()| Ok::<_, std::convert::Infallible>(()));
    }
    sum.into_nodes().into_iter().map(|(node, ())| node).collect()
}

/// Sums leaves along the tree; `None` if there are no values.
///
/// # Errors
/// Returns an error if `add` does.
///
/// # Examples
/// ```
/// use std::convert::Infallible;
/// let (leaves, add) = (["a", "b", "c"].map(str::to_owned).map(Some), |a, b| Ok::<_, Infallible>(format!("({a}+{b})")));
/// assert_eq!(vulpes_ops::fold_tree(leaves, add), Ok(Some("((a+b)+c)".to_owned())));
/// ```
pub fn fold_tree<T, E>(
    leaves: impl IntoIterator<Item = Option<T>>,
    mut add: impl FnMut(T, T) -> Result<T, E>,
) -> Result<Option<T>, E> {
    let leaves: Vec<Option<T>> = leaves.into_iter().collect();
    let mut sum = TreeSum::new(leaves.len());
    for (leaf, value) in leaves.into_iter().enumerate() {
        sum.push(leaf..leaf + 1, value, |left: &mut Option<T>, right| {
            *left = match (left.take(), right) {
                (Some(left), Some(right)) => Some(add(left, right)?),
                (left, right) => left.or(right),
            };
            Ok(())
        })?;
    }
    Ok(sum.into_nodes().pop().and_then(|(_, sum)| sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree by its definition.
    fn by_definition(leaves: &[Option<String>]) -> Option<String> {
        let [one] = leaves else {
            let (first, others) = leaves.split_at(left(leaves.len()));
            return match (by_definition(first), by_definition(others)) {
                (Some(a), Some(b)) => Some(format!("({a}+{b})")),
                (a, b) => a.or(b),
            };
        };
        one.clone()
    }

    #[test]
    fn incremental_sums_match_the_definition() {
        for n in 1..=13 {
            for missing in [vec![], vec![0], vec![0, 1, 2, 4], vec![n - 1], (0..n).step_by(2).collect()] {
                let name = |leaf: usize| (!missing.contains(&leaf)).then(|| leaf.to_string());
                let leaves: Vec<Option<String>> = (0..n).map(name).collect();
                let found = fold_tree(leaves.clone(), |a, b| Ok::<_, ()>(format!("({a}+{b})")));
                assert_eq!(found, Ok(by_definition(&leaves)), "{n} leaves without {missing:?}");
            }
        }
        assert_eq!(fold_tree([], |a: u8, _| Ok::<_, ()>(a)), Ok(None));
    }
    /// However the leaves are divided, the parts' largest nodes form the same tree, and few are kept at a time.
    #[test]
    fn nodes_of_parts_join_into_the_same_tree() {
        let join = |a: &mut String, b: String| {
            *a = format!("({a}+{b})");
            Ok::<_, ()>(())
        };
        for n in 1..=40usize {
            let leaves: Vec<Option<String>> = (0..n).map(|leaf| Some(leaf.to_string())).collect();
            let wanted = by_definition(&leaves);
            for parts in 1..=n.min(9) {
                let mut whole = TreeSum::new(n);
                for part in 0..parts {
                    let own = part * n / parts..(part + 1) * n / parts;
                    let mut sum = TreeSum::new(n);
                    for leaf in own.clone() {
                        sum.push(leaf..leaf + 1, leaf.to_string(), join).unwrap();
                        assert!(sum.n_kept() <= 2 * n.ilog2() as usize + 1);
                    }
                    let nodes = sum.into_nodes();
                    let ranges: Vec<_> = nodes.iter().map(|(node, _)| node.clone()).collect();
                    assert_eq!(ranges, tree_nodes(own, n));
                    for (node, value) in nodes {
                        whole.push(node, value, join).unwrap();
                    }
                }
                let [(node, sum)] = whole.into_nodes().try_into().unwrap();
                assert_eq!((node, Some(sum)), (0..n, wanted.clone()), "{n} leaves in {parts} parts");
            }
        }
    }
}
