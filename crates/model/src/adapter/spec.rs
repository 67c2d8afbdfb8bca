//! Which modules of a model an adapter changes, and how.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{Init, Kind, ParameterSpec, Role};

/// The token embedding as a module.
pub(crate) const TOKEN: &str = "embedding.token";

/// The last parts of the names of a block's modules; a module's index in this list keys its dropout mask.
const OF_BLOCK: [&str; 7] = ["query", "key", "value", "output", "gate", "up", "down"];

/// An adapter of a model: the modules with low-rank changes, and the parameters trained in full.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterSpec {
    /// Projections (and the token embedding) by our name, as `blocks.0.attention.query`.
    pub modules: BTreeMap<String, ModuleSpec>,
    /// Names of parameters that are trained in full: saved modules, selected biases.
    pub whole: BTreeSet<String>,
    /// The dropout probability on an adapter's input in training.
    pub dropout: f64,
}

/// The low-rank change of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleSpec {
    /// The module whose A this one uses: itself, or, for modules that a folder stores as one tensor, the first of them.
    pub first: String,
    /// The inner dimension, between A and B.
    pub rank: usize,
    /// The numerator of the scale.
    pub alpha: f64,
    /// Whether `B A` is scaled by `alpha / √rank` ([Kalajdzievski 2023](https://arxiv.org/abs/2312.03732)) instead of
    /// `alpha / rank`.
    pub rslora: bool,
    /// Whether each output has a magnitude ([Liu et al. 2024](https://arxiv.org/abs/2402.09353)).
    pub dora: bool,
}

impl ModuleSpec {
    /// The factor on `B A`.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// The index that keys this module's dropout mask within a sublayer.
    pub(crate) fn draw(&self) -> u64 {
        let last = self.first.rsplit('.').next().unwrap_or_default();
        OF_BLOCK.iter().position(|name| *name == last).unwrap_or(OF_BLOCK.len()) as u64
    }

    /// The name of A.
    pub fn a(&self) -> String {
        format!("{}.adapter.a", self.first)
    }

    /// The name of the B of the module `name`.
    pub fn b(name: &str) -> String {
        format!("{name}.adapter.b")
    }

    /// The name of the magnitude of the module `name`.
    pub fn magnitude(name: &str) -> String {
        format!("{name}.adapter.magnitude")
    }

    /// The parameters of the module `name`, whose weight is `[o, i]`: A, B and the magnitude.
    ///
    /// A projection's B is initialized to zeros, so the change is zero at first; of a table it is A, as in PEFT. A
    /// magnitude is set to the lengths of the weight's rows once the weight exists.
    pub(crate) fn parameters(
        &self,
        name: &str,
        (o, i): (usize, usize),
        role: Role,
    ) -> (ParameterSpec, ParameterSpec, Option<ParameterSpec>) {
        let role = Role { kind: Kind::Matrix, ..role };
        let (of_a, of_b) = match name {
            TOKEN => (Init::Zeros, Init::Normal { std: 1.0 }),
            _ => (Init::Uniform { bound: 1.0 / (i.max(1) as f64).sqrt() }, Init::Zeros),
        };
        let spec = |name, shape, init| ParameterSpec { name, shape, init, role };
        let magnitude = self.dora.then(|| ParameterSpec {
            name: Self::magnitude(name),
            shape: vec![o],
            init: Init::Ones,
            role: Role { kind: Kind::Scale, ..role },
        });
        (spec(self.a(), vec![self.rank, i], of_a), spec(Self::b(name), vec![o, self.rank], of_b), magnitude)
    }
}

impl AdapterSpec {
    /// Whether the parameter of that name is trained: it belongs to the adapter, or is trained in full.
    pub fn trains(&self, name: &str) -> bool {
        self.whole.contains(name) || name.contains(".adapter.")
    }
}
