//! Blocks against GGUF's bytes, and every form of the product against its definition, bit for bit.

use super::*;
use crate::kernel::lines::Arena;
use crate::kernel::team::Team;
use vulpes_random::Key;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Key::new(seed, "quantized").stream();
    (0..n).map(|_| stream.normal() as f32).collect()
}

fn panels(quant: Quant, weight: &[f32], n_out: usize, n_in: usize) -> (Panels, Vec<u8>) {
    let mut bytes = vec![0; weight.len() / BLOCK * quant.n_bytes()];
    quant.quantize(weight, &mut bytes);
    (panels_of(quant, &bytes, n_out, n_in), bytes)
}

fn panels_of(quant: Quant, bytes: &[u8], n_out: usize, n_in: usize) -> Panels {
    let len = panel_bytes(quant, n_in / BLOCK);
    let mut lines = Arena::new(0).lines(n_out.div_ceil(PANEL) * len);
    let rows = bytes.chunks_exact(n_in / BLOCK * quant.n_bytes());
    for (row, blocks) in rows.enumerate() {
        place(quant, row % PANEL, blocks, &mut lines.bytes_mut()[row / PANEL * len..][..len]);
    }
    Panels::new(quant, n_out, n_in, lines)
}

/// The definition in the module's documentation, on GGUF's bytes.
fn by_definition(quant: Quant, bytes: &[u8], x: &[f32], n_out: usize, n_in: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for x in x.chunks_exact(n_in) {
        for row in bytes.chunks_exact(n_in / BLOCK * quant.n_bytes()).take(n_out) {
            let mut sum = 0.0f32;
            for (block, x) in row.chunks_exact(quant.n_bytes()).zip(x.as_chunks::<BLOCK>().0) {
                let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32() * (largest / 127.0);
                let whole = |i: usize| match quant {
                    Quant::Q8_0 => i32::from(block[2 + i].cast_signed()),
                    Quant::Q4_0 if i < 16 => i32::from(block[2 + i] & 15) - 8,
                    Quant::Q4_0 => i32::from(block[2 + i - 16] >> 4) - 8,
                };
                let product = |i: usize| whole(i) * (x[i] * inverse).round_ties_even() as i32;
                sum = ((0..BLOCK).map(product).sum::<i32>() as f32).mul_add(scale, sum);
            }
            out.push(sum);
        }
    }
    out
}

fn kernels() -> Vec<(&'static str, Kernel)> {
    let mut kernels: Vec<(&str, Kernel)> =
        vec![("plain", plain::tile::<false>), ("plain with FMA", plain::tile::<true>)];
    #[cfg(target_arch = "x86_64")]
    {
        if level() != Level::Portable && is_x86_feature_detected!("f16c") {
            kernels.push(("AVX2", avx2::tile));
        }
        if level() == Level::Avx512 && is_x86_feature_detected!("avx512vnni") {
            kernels.push(("AVX-512", avx512::tile));
        }
    }
    kernels
}

/// Every form of the product of `n_out` rows and these vectors against the definition.
fn check(quant: Quant, (panels, bytes): (&Panels, &[u8]), x: &[f32], n_out: usize, n_in: usize) {
    let n_vector = x.len() / n_in;
    let right = by_definition(quant, bytes, x, n_out, n_in);
    let mut rounded = Rounded::default();
    rounded.fill(quant, x, n_in, &mut Team::new(1));
    for (name, kernel) in kernels() {
        let mut out = vec![f32::NAN; n_vector * n_out];
        for (panel, tile) in
            (0..n_out.div_ceil(PANEL)).flat_map(|panel| rounded.tiles.iter().map(move |tile| (panel, tile)))
        {
            let first = panel * PANEL;
            let columns = PANEL.min(n_out - first);
            // SAFETY: the panel's columns of the tile's rows are in `out`; `kernels` returns only those that the
            // processor supports.
            unsafe {
                let out = out.as_mut_ptr().add(tile.first * n_out + first);
                kernel(quant, panels.panel(panel), tile, Target { out, stride: n_out, columns });
            }
        }
        let of = format!("{quant:?} {n_out} {n_in} {n_vector} {name}");
        assert!(out.iter().zip(&right).all(|(a, b)| a.to_bits() == b.to_bits()), "{of}");
    }
}

#[test]
fn every_form_is_bit_identical_to_the_definition() {
    for quant in [Quant::Q8_0, Quant::Q4_0] {
        for (n_out, n_in) in [(1, 32), (16, 64), (17, 96), (40, 320), (7, 768)] {
            for n_vector in [1, 2, 3, 4, 7, 8, 11, 12, 13, 31] {
                let weight = numbers(n_out * n_in, 1);
                let mut x = numbers(n_vector * n_in, 2);
                // A block of zeros, and one with a single large value.
                x[..32].fill(0.0);
                x[n_vector * n_in - 1] = 1e4;
                let (panels, bytes) = panels(quant, &weight, n_out, n_in);
                check(quant, (&panels, &bytes), &x, n_out, n_in);
            }
        }
    }
}

/// Sums of the largest values overflow nowhere: the smallest and the greatest integers, of one sign and of both.
#[test]
fn the_largest_integers_are_summed_exactly() {
    let (n_out, n_in) = (3, 64);
    for quant in [Quant::Q8_0, Quant::Q4_0] {
        for pattern in [[0x80, 0x80], [0x7f, 0x7f], [0x80, 0x7f], [0x00, 0x00], [0xff, 0xff], [0xf0, 0x0f]] {
            let block: Vec<u8> = half::f16::ONE.to_le_bytes().into_iter().chain(pattern.repeat(16)).collect();
            let bytes = block[..quant.n_bytes()].repeat(n_out * n_in / BLOCK);
            let panels = panels_of(quant, &bytes, n_out, n_in);
            for x in [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]] {
                for n_vector in [1, 2, 4] {
                    check(quant, (&panels, &bytes), &x.repeat(n_vector * n_in / 2), n_out, n_in);
                }
            }
        }
    }
}

#[test]
fn a_row_equals_its_dequantized_blocks() {
    for quant in [Quant::Q8_0, Quant::Q4_0] {
        let (n_out, n_in) = (19, 96);
        let (panels, bytes) = panels(quant, &numbers(n_out * n_in, 3), n_out, n_in);
        let mut whole = vec![0.0; n_out * n_in];
        quant.dequantize(&bytes, &mut whole);
        for (row, right) in whole.chunks_exact(n_in).enumerate() {
            let mut found = vec![0.0; n_in];
            panels.row(row, &mut found);
            assert_eq!(found, right);
        }
    }
}

#[test]
fn non_finite_values_are_not_hidden() {
    for bad in [f32::NAN, f32::INFINITY, -f32::NAN] {
        let (panels, _) = panels(Quant::Q8_0, &[0.5; 32], 1, 32);
        let mut x = vec![1.0; 32];
        x[5] = bad;
        let mut rounded = Rounded::default();
        rounded.fill(Quant::Q8_0, &x, 32, &mut Team::new(1));
        let mut out = [0.0];
        // SAFETY: one row, one column.
        unsafe { multiply(&panels, &rounded, 0..1, out.as_mut_ptr(), 1) };
        assert!(!out[0].is_finite(), "{bad}");
    }
}

/// An empty block, ties, values that vanish in half precision, an outlier and the largest values: bytes as written by
/// llama.cpp's `gguf` package.
#[test]
fn blocks_match_gguf_to_the_byte() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gguf/quants.safetensors");
    let file = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let values = file["values"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (quant, name) in [(Quant::Q8_0, "q8_0"), (Quant::Q4_0, "q4_0")] {
        let wanted = file[&format!("{name}.bytes")].flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let mut found = vec![0; wanted.len()];
        quant.quantize(&values, &mut found);
        assert!(found == wanted, "{name}");
    }
}
