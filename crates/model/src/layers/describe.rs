//! Constructors for the parameter specs of projections and norms, by name, width and location.

use vulpes_ops::{Adapter, Linear};

use super::norm::Norm;
use crate::adapter::{AdapterSpec, ModuleSpec};
use crate::config::{ModelConfig, NormKind};
use crate::spec::{Init, Kind, Location, ParameterSpec, Part, Role};

/// Constructs the parameter specs of a config.
pub(super) struct Describe<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) adapter: Option<&'a AdapterSpec>,
}

/// The names, shape and role of a projection.
pub(super) struct Projection<'a> {
    /// The name, without `.weight`.
    pub(super) name: &'a str,
    pub(super) d_out: usize,
    pub(super) d_in: usize,
    pub(super) bias: bool,
    /// The factor on the standard deviation of the initial weights.
    pub(super) scale: f64,
    pub(super) location: Location,
    pub(super) part: Part,
}

impl Describe<'_> {
    /// A table or matrix initialized from N(0, (scale · init_std)²), or to zeros if that is 0.
    pub(super) fn weight(&self, name: String, shape: &[usize], scale: f64, role: Role) -> ParameterSpec {
        let init = match self.config.init_std * scale {
            0.0 => Init::Zeros,
            std => Init::Normal { std },
        };
        ParameterSpec { name, shape: shape.into(), init, role }
    }

    /// A bias initialized to zeros.
    pub(super) fn bias(&self, name: String, width: usize, location: Location, part: Part) -> ParameterSpec {
        let role = Role { location, part, kind: Kind::Bias };
        ParameterSpec { name, shape: vec![width], init: Init::Zeros, role }
    }

    /// A projection.
    pub(super) fn linear(&self, projection: Projection) -> Linear<ParameterSpec> {
        let Projection { name, d_out, d_in, bias, scale, location, part } = projection;
        let role = Role { location, part, kind: Kind::Matrix };
        Linear {
            weight: self.weight(format!("{name}.weight"), &[d_out, d_in], scale, role),
            bias: bias.then(|| self.bias(format!("{name}.bias"), d_out, location, part)),
            adapter: self.adapter(name, (d_out, d_in), role),
        }
    }

    /// The low-rank change of the module `name`, whose weight is `[o, i]` with that role; `None` without one.
    pub(super) fn adapter(
        &self,
        name: &str,
        (o, i): (usize, usize),
        role: Role,
    ) -> Option<Adapter<ParameterSpec>> {
        let module: &ModuleSpec = self.adapter?.modules.get(name)?;
        let (a, b, magnitude) = module.parameters(name, (o, i), role);
        Some(Adapter { a, b, magnitude, scale: module.scale(), draw: module.draw() })
    }

    /// A norm of the config's kind; `None` without one.
    pub(super) fn norm(&self, name: &str, d: usize, location: Location) -> Option<Norm<ParameterSpec>> {
        self.norm_of(self.config.norm, name, d, location)
    }

    /// A norm of a given kind.
    pub(super) fn norm_of(
        &self,
        kind: NormKind,
        name: &str,
        d: usize,
        location: Location,
    ) -> Option<Norm<ParameterSpec>> {
        let role = Role { location, part: Part::Norm, kind: Kind::Scale };
        let init = if kind == NormKind::RmsPlusOne { Init::Zeros } else { Init::Ones };
        let weight = ParameterSpec { name: format!("{name}.weight"), shape: vec![d], init, role };
        let eps = self.config.norm_eps;
        match kind {
            NormKind::None => None,
            NormKind::Layer => {
                let bias = Some(self.bias(format!("{name}.bias"), d, location, Part::Norm));
                Some(Norm::Layer { weight, bias, eps })
            }
            NormKind::LayerNoBias => Some(Norm::Layer { weight, bias: None, eps }),
            NormKind::Rms => Some(Norm::Rms { weight, eps }),
            NormKind::RmsBare => Some(Norm::RmsBare { width: d, eps }),
            NormKind::RmsPlusOne => Some(Norm::RmsPlusOne { weight, eps }),
        }
    }
}
