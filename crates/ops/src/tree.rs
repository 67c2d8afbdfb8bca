//! The fixed tree by which the parts of a step are summed.
//!
//! A sum of n leaves is the sum of the first p and that of the others, p being the largest power of two below n; a leaf
//! without a value is left out. The shape hangs on n alone, so whoever sums up which part of it, and when, changes no
//! bit:
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

/// How many of `n` ≥ 2 leaves stand on the left.
pub(crate) fn left(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// Sums up leaves along the tree; none where there is no value.
///
/// # Errors
/// Those of `add`.
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
    // Neighbors first, then pairs of pairs: the same tree, level by level.
    let mut level: Vec<Option<T>> = leaves.into_iter().collect();
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2));
        let mut nodes = level.into_iter();
        while let Some(left) = nodes.next() {
            above.push(match (left, nodes.next().flatten()) {
                (Some(left), Some(right)) => Some(add(left, right)?),
                (left, right) => left.or(right),
            });
        }
        level = above;
    }
    Ok(level.pop().flatten())
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
    fn level_by_level_is_the_tree_of_the_definition() {
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
}
