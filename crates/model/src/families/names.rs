//! Maps our parameter names to those in a file: a table per family, with rules for joining and transposing.

use crate::config::{Head, ModelConfig};
use crate::layers::parameter_specs;

/// The tensor names of a layout. `*` at the start of a name means [`Names::prefix`].
pub(crate) struct Names {
    /// The prefix of every name of the base model; files of the bare model lack it.
    pub(crate) prefix: &'static str,
    /// Other prefixes in use.
    pub(crate) other_prefixes: &'static [&'static str],
    /// The prefix of a block's number.
    pub(crate) block: &'static str,
    /// Modules (or full names, which take precedence) outside the blocks: ours, theirs.
    pub(crate) outside: &'static [(&'static str, &'static str)],
    /// Modules inside a block: ours, theirs. Several of ours under one of theirs are joined along their outputs.
    pub(crate) inside: &'static [(&'static str, &'static str)],
    /// Rows that take precedence over `outside` in a model without a head.
    pub(crate) bare: &'static [(&'static str, &'static str)],
    /// Those of the joined modules whose parts alternate from head to head.
    pub(crate) by_head: &'static [&'static str],
    /// Whether a block's projections are stored `[in, out]`.
    pub(crate) transposed: bool,
    /// Other names that take precedence over the canonical one if a folder has both: canonical, other.
    pub(crate) first: &'static [(&'static str, &'static str)],
    /// Older suffixes of names: canonical, other.
    pub(crate) endings: &'static [(&'static str, &'static str)],
    /// Suffixes of unused buffers in old files.
    pub(crate) stale: &'static [&'static str],
    /// Prefixes of tensors that belong to other heads.
    pub(crate) other_heads: &'static [&'static str],
}

/// One tensor of a file.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its canonical name, with `*` for the prefix.
    pub(crate) name: String,
    /// Its shape in the file.
    pub(crate) shape: Vec<usize>,
    /// Our parameters in it, in order, with their shapes: one, or several joined along their outputs.
    pub(crate) parts: Vec<(String, Vec<usize>)>,
    /// Whether a matrix is stored `[in, out]`.
    pub(crate) transposed: bool,
    /// The number of pieces that each part is split into, which then alternate; 1 = the parts are consecutive.
    pub(crate) n_piece: usize,
}

impl Names {
    /// The table with only the names that every layout has.
    pub(crate) const fn new(
        prefix: &'static str,
        block: &'static str,
        outside: &'static [(&'static str, &'static str)],
        inside: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            prefix,
            block,
            other_prefixes: &[],
            outside,
            inside,
            bare: &[],
            by_head: &[],
            transposed: false,
            first: &[],
            endings: &[],
            stale: &[],
            other_heads: &[],
        }
    }

    /// The same with a block's projections stored `[in, out]`.
    pub(crate) const fn transposed(self) -> Self {
        Self { transposed: true, ..self }
    }

    /// Every tensor in the file of a model, in forward order.
    pub(crate) fn table(&self, config: &ModelConfig) -> Vec<Stored> {
        let mut table: Vec<Stored> = Vec::new();
        for spec in parameter_specs(config) {
            let (name, in_block) = self.stored(&spec.name, matches!(config.head, Head::Hidden { .. }));
            // Weights and biases of query, key and value alternate: the other parts are among the last few.
            match table.iter_mut().rev().take(4).find(|stored| stored.name == name) {
                Some(joined) => {
                    let along = if joined.transposed { joined.shape.len() - 1 } else { 0 };
                    joined.shape[along] += spec.shape[0];
                    joined.parts.push((spec.name, spec.shape));
                }
                None => {
                    let transposed = self.transposed && in_block && spec.shape.len() == 2;
                    let mut shape = spec.shape.clone();
                    if transposed {
                        shape.reverse();
                    }
                    let by_head =
                        |module: &&str| name.rsplit_once('.').is_some_and(|(of, _)| of.ends_with(*module));
                    let n_piece = if self.by_head.iter().any(by_head) { config.n_head } else { 1 };
                    let parts = vec![(spec.name, spec.shape)];
                    table.push(Stored { name, shape, parts, transposed, n_piece });
                }
            }
        }
        table
    }

    /// The canonical name in the file of our parameter `name`.
    pub(crate) fn of(&self, name: &str) -> String {
        self.stored(name, false).0
    }

    /// The canonical name in the file of our parameter `name`, and whether it is in a block.
    fn stored(&self, name: &str, is_bare: bool) -> (String, bool) {
        if let Some((layer, rest)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            return (format!("{}.{layer}.{}", self.block, renamed(self.inside, rest)), true);
        }
        if is_bare {
            let bare = renamed(self.bare, name);
            if bare != name {
                return (bare, false);
            }
        }
        (renamed(self.outside, name), false)
    }
}

/// `name` under its other name, looked up in full, then by its module; an unknown name is returned unchanged.
fn renamed(rows: &[(&str, &str)], name: &str) -> String {
    let find = |wanted: &str| rows.iter().find(|(ours, _)| *ours == wanted).map(|(_, theirs)| *theirs);
    if let Some(theirs) = find(name) {
        return theirs.to_string();
    }
    match name.rsplit_once('.') {
        Some((module, last)) => match find(module) {
            Some(theirs) => format!("{theirs}.{last}"),
            None => name.to_string(),
        },
        None => name.to_string(),
    }
}
