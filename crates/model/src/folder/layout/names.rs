//! From our parameter names to the names in a file: a table a layout, and its rules for joining and turning.

use crate::config::ModelConfig;
use crate::parameters::declare;

/// How a layout names its tensors. `*` at the start of a name stands for [`Names::prefix`].
pub(in crate::folder) struct Names {
    /// What stands before every name of the model proper; files of the bare model lack it.
    pub(in crate::folder) prefix: &'static str,
    /// What stands before a block's number.
    pub(super) block: &'static str,
    /// Modules (or whole names, which go first) outside the blocks: ours, theirs.
    pub(super) outside: &'static [(&'static str, &'static str)],
    /// Modules inside a block: ours, theirs. Several of ours under one of theirs are joined along their outputs.
    pub(super) inside: &'static [(&'static str, &'static str)],
    /// Whether a block's projections are stored `[in, out]`.
    pub(super) turned: bool,
    /// Other names that go before the canonical one where a folder has both: canonical, other.
    pub(in crate::folder) first: &'static [(&'static str, &'static str)],
    /// Older endings of names: canonical, other.
    pub(in crate::folder) endings: &'static [(&'static str, &'static str)],
    /// Endings of buffers that old files hold and nothing reads.
    pub(in crate::folder) stale: &'static [&'static str],
    /// Beginnings of tensors that belong to other heads.
    pub(in crate::folder) other_heads: &'static [&'static str],
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::folder) struct Stored {
    /// Its canonical name, with `*` for the prefix.
    pub(in crate::folder) name: String,
    /// Its shape in the file.
    pub(in crate::folder) shape: Vec<usize>,
    /// Our parameters in it, in order, with their shapes: one, or several joined along their outputs.
    pub(in crate::folder) parts: Vec<(String, Vec<usize>)>,
    /// Whether a matrix is stored `[in, out]`.
    pub(in crate::folder) turned: bool,
}

impl Names {
    /// The table with nothing but the names that every layout has.
    pub(super) const fn new(
        prefix: &'static str,
        block: &'static str,
        outside: &'static [(&'static str, &'static str)],
        inside: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            prefix,
            block,
            outside,
            inside,
            turned: false,
            first: &[],
            endings: &[],
            stale: &[],
            other_heads: &[],
        }
    }

    /// The same with a block's projections stored `[in, out]`.
    pub(super) const fn turned(self) -> Self {
        Self { turned: true, ..self }
    }

    /// Every tensor of the file of a model, in the order of the data's way through it.
    pub(in crate::folder) fn table(&self, config: &ModelConfig) -> Vec<Stored> {
        let mut table: Vec<Stored> = Vec::new();
        for declared in declare(config) {
            let (name, in_block) = self.stored(&declared.name);
            // Weights and biases of query, key and value alternate: the other parts are among the last few.
            match table.iter_mut().rev().take(4).find(|stored| stored.name == name) {
                Some(joined) => {
                    let along = if joined.turned { joined.shape.len() - 1 } else { 0 };
                    joined.shape[along] += declared.shape[0];
                    joined.parts.push((declared.name, declared.shape));
                }
                None => {
                    let turned = self.turned && in_block && declared.shape.len() == 2;
                    let mut shape = declared.shape.clone();
                    if turned {
                        shape.reverse();
                    }
                    table.push(Stored { name, shape, parts: vec![(declared.name, declared.shape)], turned });
                }
            }
        }
        table
    }

    /// The canonical name in the file of our parameter `name`.
    pub(in crate::folder) fn of(&self, name: &str) -> String {
        self.stored(name).0
    }

    /// The canonical name in the file of our parameter `name`, and whether it stands in a block.
    fn stored(&self, name: &str) -> (String, bool) {
        if let Some((layer, rest)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            return (format!("{}.{layer}.{}", self.block, renamed(self.inside, rest)), true);
        }
        (renamed(self.outside, name), false)
    }
}

/// `name` under its other name: looked up whole, then by its module; what no row knows keeps its name.
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

/// Vulpes' own layout: our names as they are.
pub(super) const OWN: Names = Names::new("", "blocks", &[], &[]);
