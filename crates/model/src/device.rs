//! The device that a model runs on.

use candle_core::Device;

use crate::{Error, Result};

/// The device that `--device` names: `cpu`, `cuda`, `cuda:N` or `metal`; `None` = the best that is compiled in and
/// present.
///
/// # Errors
/// Returns an error if the device is not compiled in or not present. A device requested by name is never replaced by
/// another.
///
/// # Examples
/// ```
/// assert!(vulpes_model::device::parse(Some("cpu")).unwrap().is_cpu());
/// assert!(vulpes_model::device::parse(Some("tpu")).is_err());
/// ```
pub fn parse(name: Option<&str>) -> Result<Device> {
    let Some(name) = name else { return Ok(best()) };
    let (kind, index) = name.split_once(':').map_or((name, None), |(kind, index)| (kind, Some(index)));
    let number = match index.map(str::parse::<usize>) {
        None => 0,
        Some(Ok(number)) if kind == "cuda" => number,
        _ => return Err(unknown(name)),
    };
    match kind {
        "cpu" => Ok(Device::Cpu),
        "cuda" if cfg!(feature = "cuda") => {
            Device::new_cuda(number).map_err(|error| absent(name, "an NVIDIA GPU and its driver", &error))
        }
        "metal" if cfg!(feature = "metal") => {
            Device::new_metal(number).map_err(|error| absent(name, "an Apple GPU", &error))
        }
        "cuda" | "metal" => Err(Error::Device(format!(
            "device `{name}` is not compiled into this program; build it with `--features {kind}`, or use `--device cpu`"
        ))),
        _ => Err(unknown(name)),
    }
}

/// The device's name as `--device` takes it.
pub fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".into(),
    }
}

/// Why [`parse`] falls back to the CPU in a program built for a GPU when no device is named; `None` if it doesn't.
pub fn fallback() -> Option<String> {
    let error = gpu()?.err()?;
    Some(format!("no GPU can be used ({}); computing on the CPU, as `--device cpu` does", cause(&error)))
}

fn best() -> Device {
    gpu().and_then(|gpu| gpu.ok()).unwrap_or(Device::Cpu)
}

/// The first GPU of the compiled-in kind, if any is compiled in.
fn gpu() -> Option<candle_core::Result<Device>> {
    if cfg!(feature = "cuda") {
        Some(Device::new_cuda(0))
    } else if cfg!(feature = "metal") {
        Some(Device::new_metal(0))
    } else {
        None
    }
}

fn unknown(name: &str) -> Error {
    Error::Device(format!("device `{name}` is unknown; use cpu, cuda, cuda:N or metal"))
}

fn absent(name: &str, wanted: &str, error: &candle_core::Error) -> Error {
    Error::Device(format!(
        "device `{name}` can't be used: it needs {wanted} ({}); or use `--device cpu`",
        cause(error)
    ))
}

/// The error without the backtrace that candle adds below it.
fn cause(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_or_unavailable_devices_are_refused() {
        assert_eq!(name(&parse(Some("cpu")).unwrap()), "cpu");
        for wrong in ["gpu", "cpu:1", "cuda:x", "metal:0", ""] {
            assert!(parse(Some(wrong)).unwrap_err().to_string().contains("unknown"), "{wrong}");
        }
        assert_eq!(fallback().is_some(), gpu().is_some() && parse(None).unwrap().is_cpu());
        if !cfg!(feature = "cuda") {
            let error = parse(Some("cuda:1")).unwrap_err().to_string();
            assert!(error.contains("--features cuda"), "{error}");
        }
    }
}
