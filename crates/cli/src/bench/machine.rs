//! Measures this machine: peak matrix product and memory bandwidth, and the process's peak memory.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use vulpes_ops::decode::matvec_no_grad;
use vulpes_ops::threads::with_kernel_threads;

/// The processor's name, if the system reports it.
pub(crate) fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let unknown = || format!("{} processor", std::env::consts::ARCH);
    let model = [("family", "cpu family"), ("model", "model")]
        .map(|(word, name)| Some(format!("{word} {}", field(name)?)));
    let rest: Vec<String> = model.into_iter().flatten().collect();
    let name = field("model name").unwrap_or_else(unknown);
    if rest.is_empty() { name } else { format!("{name} ({})", rest.join(", ")) }
}

/// The best rate of a large float32 matrix product on this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MatrixPeak {
    /// Billions of floating-point operations per second, all threads together.
    pub(crate) gflops: f64,
    /// The threads that it was measured on.
    pub(crate) threads: usize,
}

/// Measures the product of two matrices, best of several: 1024 × 1024 on `threads` threads of the CPU at once, or 4096
/// × 4096 on another device.
///
/// # Errors
/// Returns an error if a thread can't be started or the device can't be used.
pub(crate) fn matrix_peak(threads: usize, device: &Device) -> Result<MatrixPeak> {
    const ROUNDS: usize = 8;
    let (n, threads) = if device.is_cpu() { (1024, threads) } else { (4096, 1) };
    let one = || -> Result<f64> {
        let a = Tensor::ones((n, n), DType::F32, device)?;
        device.synchronize()?;
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = std::time::Instant::now();
            std::hint::black_box(vulpes_ops::linear(&a, &a, None)?);
            device.synchronize()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        Ok(2.0 * (n as f64).powi(3) / best / 1e9)
    };
    let rates = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| with_kernel_threads(1, one))).collect();
        all.into_iter()
            .map(|thread| thread.join().ok().context("the measuring thread failed")?)
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(MatrixPeak { gflops: rates.iter().sum(), threads })
}

/// The best rate at which this machine's threads read memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemoryPeak {
    /// Billions of bytes per second, all threads together.
    pub(crate) gb_per_s: f64,
    /// The threads that it was measured on.
    pub(crate) threads: usize,
}

/// Measures a matrix of 512 MiB, more than any cache holds, times a vector, best of several, on `threads` threads at
/// once: each element is read once, in order.
pub(crate) fn memory_peak(threads: usize) -> MemoryPeak {
    const ROUNDS: usize = 6;
    const WIDTH: usize = 4096;
    let (numbers, x) = (vec![1.0f32; 128 << 20], vec![1.0f32; WIDTH]);
    let mut out = vec![0.0f32; numbers.len() / WIDTH];
    let rows = out.len().div_ceil(threads.max(1));
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = std::time::Instant::now();
        std::thread::scope(|scope| {
            for (part, out) in numbers.chunks(rows * WIDTH).zip(out.chunks_mut(rows)) {
                let x = &x;
                scope.spawn(move || with_kernel_threads(1, || matvec_no_grad(part, x, None, out)));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    MemoryPeak { gb_per_s: (numbers.len() * 4) as f64 / best / 1e9, threads }
}

/// The peak resident memory of this process in MiB.
pub(crate) fn peak_rss_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("the peak memory is read from /proc, which exists on Linux only")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("/proc/self/status has no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("VmHWM is not a number")?;
    Ok(kib / 1024.0)
}
