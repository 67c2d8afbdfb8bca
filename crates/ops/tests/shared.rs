//! Muon against PyTorch and float64, in `VULPES_SHARED` or `../shared`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var, safetensors};
use vulpes_ops::{MuonScaling, MuonStep, Orthogonalizer, muon, orthogonalized};

const SHAPES: [&str; 6] = ["tall", "wide", "square", "row", "col", "rank2"];

const DEFAULT: MuonStep = MuonStep {
    lr: 0.02,
    momentum: 0.95,
    nesterov: true,
    weight_decay: 0.1,
    cautious: false,
    scaling: MuonScaling::Original,
    orthogonalizer: Orthogonalizer::Quintic,
    grad_scale: 1.0,
};

fn goldens() -> HashMap<String, Tensor> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let path = std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from);
    let path = path.join("goldens/muon/golden.safetensors");
    assert!(path.exists(), "{} does not exist; set VULPES_SHARED to its parent folder", path.display());
    safetensors::load(path, &Device::Cpu).unwrap()
}

fn off(found: &Tensor, wanted: &Tensor) -> f64 {
    let found = found.to_dtype(DType::F64).unwrap();
    (found - wanted).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn ten_steps_of_muon_match_the_goldens() {
        let goldens = goldens();
        let runs = [
            ("default", DEFAULT),
            (
                "plain-momentum-no-decay",
                MuonStep { momentum: 0.9, nesterov: false, weight_decay: 0.0, ..DEFAULT },
            ),
            ("match-rms-adamw", MuonStep { lr: 0.003, scaling: MuonScaling::MatchRmsAdamw, ..DEFAULT }),
            ("polar-express", MuonStep { orthogonalizer: Orthogonalizer::PolarExpress, ..DEFAULT }),
        ];
        for (run, step) in runs {
            for shape in SHAPES {
                for dtype in [DType::F32, DType::F64] {
                    let bound = match (dtype, shape) {
                        (DType::F64, _) => 1e-9,
                        (_, "rank2") => 2e-5,
                        _ => 2e-6,
                    };
                    let of = |name: &str| goldens[&format!("{name}.{shape}")].to_dtype(dtype).unwrap();
                    let (start, grads) = (of("start"), of("grads"));
                    let truth = &goldens[&format!("{run}.{shape}.f64")];
                    let param = Var::from_tensor(&start).unwrap();
                    let momentum = Var::from_tensor(&start.zeros_like().unwrap()).unwrap();
                    for at in 0..10 {
                        muon(&param, &momentum, &grads.get(at).unwrap().contiguous().unwrap(), &step)
                            .unwrap();
                        let off = off(&param, &truth.get(at).unwrap());
                        assert!(off < bound, "{run}, {shape}, {dtype:?}, step {at}: {off:e} off");
                    }
                    let off = off(&momentum, &goldens[&format!("{run}.{shape}.momentum_f64")]);
                    assert!(off < bound, "{run}, {shape}, {dtype:?}: momentum {off:e} off");
                }
            }
        }
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn orthogonalized_gradients_match_the_goldens() {
        let goldens = goldens();
        for (name, how) in
            [("ns5_f64", Orthogonalizer::Quintic), ("polar5_f64", Orthogonalizer::PolarExpress)]
        {
            for shape in SHAPES {
                let first = goldens[&format!("grads.{shape}")].get(0).unwrap().contiguous().unwrap();
                // The same steps in float32 by numpy are off by 4e-6, and 1.2e-5 for rank 2: Polar Express's first
                // polynomials have large coefficients.
                let bound = if shape == "rank2" { 5e-5 } else { 1e-5 };
                let off = off(&orthogonalized(&first, how).unwrap(), &goldens[&format!("{name}.{shape}")]);
                assert!(off < bound, "{name}, {shape}: {off:e} off");
            }
        }
    }
}
