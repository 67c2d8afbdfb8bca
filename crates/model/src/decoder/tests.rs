//! A row's bits don't depend on other rows, chunks, or the number of threads, in any type.

use candle_core::{DType, Device, Var};
use vulpes_ops::decode::{Arena, Packed};

use super::*;
use crate::config::Family;
use crate::folder::{self, Extra, load_decoder};
use crate::section::ModelSection;
use crate::{Head, Kind, PackedType, Part};

fn models() -> Vec<Transformer> {
    let small = |family| ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(4),
        d_model: Some(64),
        context_len: Some(24),
        init_std: Some(0.2),
        ..ModelSection::default()
    };
    let sections = [
        small(Family::Gpt2),
        ModelSection { n_kv_head: Some(2), ..small(Family::Llama) },
        ModelSection { window: Some(3), ..small(Family::Llama) },
        ModelSection { n_kv_head: Some(1), d_head: Some(24), ..small(Family::Qwen3) },
        ModelSection { window: Some(5), logit_softcap: Some(3.0), ..small(Family::Gemma3) },
        small(Family::Phi),
        small(Family::GptNeox),
    ];
    let model = |section: &ModelSection| {
        let config = section.resolve(41, Head::NextToken);
        Transformer::init(&config, 5, DType::F32, &Device::Cpu).unwrap().without_gradients().unwrap()
    };
    sections.iter().map(model).collect()
}

/// What a decoder reads its weights from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Tensors,
    /// A folder, in float32 or a smaller type.
    Folder(Option<PackedType>),
}

const ALL: [Origin; 5] = [
    Origin::Tensors,
    Origin::Folder(None),
    Origin::Folder(Some(PackedType::Bf16)),
    Origin::Folder(Some(PackedType::Q8_0)),
    Origin::Folder(Some(PackedType::Q4_0)),
];

/// Runs `f` with a model's decoder.
fn with_decoder<R>(
    model: &Transformer,
    from: Origin,
    threads: usize,
    f: impl FnOnce(&mut Decoder<'_>) -> R,
) -> R {
    let Origin::Folder(to) = from else { return f(&mut Decoder::new(model, threads).unwrap().unwrap()) };
    let dir = tempfile::tempdir().unwrap();
    folder::save(dir.path(), model, &Extra::default()).unwrap();
    let loaded = load_decoder(dir.path(), to, threads).unwrap();
    assert_eq!(loaded.config, *model.config());
    f(&mut loaded.decoder.unwrap())
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// The logits after each token, read one by one.
fn alone(decoder: &mut Decoder<'_>, ids: &[u32]) -> Vec<Vec<u32>> {
    let mut row = decoder.empty_row();
    ids.iter().map(|&id| bits(decoder.step(&mut row, id).unwrap())).collect()
}

#[test]
fn a_rows_bits_do_not_depend_on_other_rows_chunks_or_threads() {
    let texts: Vec<Vec<u32>> =
        (0..9).map(|row| (0..20).map(|place| (row * 7 + place * place * 3) % 41).collect()).collect();
    for (number, model) in models().iter().enumerate() {
        for from in ALL {
            let right: Vec<_> = with_decoder(model, from, 1, |decoder| {
                texts.iter().map(|text| alone(decoder, text)).collect()
            });
            for threads in [1, 3] {
                with_decoder(model, from, threads, |decoder| {
                    let what = format!("model {number}, {from:?}, {threads} threads");
                    // Prompts of different lengths as chunks; then rows join one by one, and leave.
                    let mut rows = Vec::new();
                    for step in 0..17 {
                        if rows.len() < texts.len() {
                            let number: usize = rows.len();
                            let mut row = decoder.empty_row();
                            let n = 1 + number % 7;
                            let ids = &texts[number][..n];
                            let wanted = Wanted::All;
                            let found = decoder.read(&mut [Feed { row: &mut row, ids, wanted }]).unwrap();
                            for (found, right) in found.chunks(41).zip(&right[number]) {
                                assert!(bits(found) == *right, "{what}, prompt {number}");
                            }
                            rows.push((number, row));
                        }
                        if step > 12 {
                            rows.remove(step % 5);
                        }
                        rows.retain(|(_, row)| row.n_seen() < 20);
                        let next: Vec<[u32; 1]> =
                            rows.iter().map(|(number, row)| [texts[*number][row.n_seen()]]).collect();
                        let places: Vec<_> =
                            rows.iter().map(|(number, row)| (*number, row.n_seen())).collect();
                        let mut feeds = Vec::new();
                        for ((_, row), ids) in rows.iter_mut().zip(&next) {
                            feeds.push(Feed { row, ids, wanted: Wanted::Last });
                        }
                        let found = decoder.read(&mut feeds).unwrap();
                        for (found, (number, place)) in found.chunks(41).zip(places) {
                            assert!(bits(found) == right[number][place], "{what}, row {number} at {place}");
                        }
                    }
                });
            }
        }
    }
}

/// Tokens that are taken back leave no trace.
#[test]
fn tokens_taken_back_leave_no_trace() {
    let model = &models()[1];
    for from in ALL {
        with_decoder(model, from, 2, |decoder| {
            let right = alone(decoder, &[1, 2, 3, 4]);
            let mut row = decoder.empty_row();
            assert!(row.can_take_back(24) && !row.can_take_back(25));
            decoder.read_prompt(&mut row, &[1, 2, 9, 8, 7]).unwrap();
            row.take_back(2);
            let mut row = row.clone();
            decoder.step(&mut row, 3).unwrap();
            assert_eq!(bits(decoder.step(&mut row, 4).unwrap()), right[3]);
        });
    }
}

/// Float32 is read where the file is mapped, in the tensors' bits; what is stored in another order is copied.
#[test]
fn a_mapped_folder_has_the_bits_of_the_tensors() {
    let ids: Vec<u32> = (0..12).map(|place| place * place % 41).collect();
    for (number, model) in models().iter().enumerate() {
        let right = with_decoder(model, Origin::Tensors, 1, |decoder| alone(decoder, &ids));
        with_decoder(model, Origin::Folder(None), 2, |decoder| {
            assert!(alone(decoder, &ids) == right, "model {number}");
            let leaves = decoder.layers.leaves();
            let n_mapped = leaves.iter().filter(|weights| matches!(weights, Weights::Mapped(_))).count();
            // GPT-2's matrices are transposed in the file, GPT-NeoX's queries, keys and values interleaved.
            let is_in_order = !matches!(model.config().family, Family::Gpt2 | Family::GptNeox);
            assert_eq!(
                n_mapped == leaves.len(),
                is_in_order,
                "model {number}: {n_mapped} of {}",
                leaves.len()
            );
            assert!(n_mapped > leaves.len() / 3, "model {number}: {n_mapped} of {}", leaves.len());
        });
    }
}

/// Values that are not aligned in the file are copied.
#[test]
fn values_off_a_multiple_of_four_are_copied() {
    let model = &models()[1];
    let dir = tempfile::tempdir().unwrap();
    folder::save(dir.path(), model, &Extra::default()).unwrap();
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    bytes[..8].copy_from_slice(&(n + 1).to_le_bytes());
    bytes.insert(8 + n as usize, b' ');
    std::fs::write(&path, bytes).unwrap();
    let mut decoder = load_decoder(dir.path(), None, 1).unwrap().decoder.unwrap();
    assert!(!decoder.layers.leaves().iter().any(|weights| matches!(weights, Weights::Mapped(_))));
    let right = with_decoder(model, Origin::Tensors, 1, |decoder| alone(decoder, &[1, 2, 3]));
    assert_eq!(alone(&mut decoder, &[1, 2, 3]), right);
}

/// Close to float32 on the same stored values: what is left is the rounding of the activations between the layers.
#[test]
fn packed_types_agree_with_float32_on_their_stored_values() {
    let ids: Vec<u32> = (0..12).map(|place| place * place % 41).collect();
    for (number, model) in models().iter().enumerate() {
        for to in [PackedType::Bf16, PackedType::Q8_0, PackedType::Q4_0] {
            let held = holding(model, to);
            let last = |from| {
                with_decoder(&held, from, 2, |decoder| {
                    let mut row = decoder.empty_row();
                    decoder.read_prompt(&mut row, &ids).unwrap().to_vec()
                })
            };
            let (right, found) = (last(Origin::Tensors), last(Origin::Folder(Some(to))));
            let size = right.iter().map(|x| x * x).sum::<f32>().sqrt();
            let off = found.iter().zip(&right).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            println!("model {number}, {to:?}: {:.4}", off / size);
            assert!(off < 0.1 * size, "model {number}, {to:?}: {off} of {size}");
        }
    }
}

/// The model with the values that its matrices have in a type.
fn holding(model: &Transformer, to: PackedType) -> Transformer {
    let mut parameters = std::collections::BTreeMap::new();
    for spec in crate::parameter_specs(model.config()) {
        let tensor = model.parameters().get(&spec.name).unwrap().as_tensor().clone();
        let is_packed = spec.role.kind == Kind::Matrix || spec.role.part == Part::Token;
        let mut numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        if let (true, [n_out, n_in]) = (is_packed, tensor.dims())
            && to.takes(*n_in)
        {
            let all = numbers.clone();
            let rows = |rows: std::ops::Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&all[rows.start * n_in..rows.end * n_in]);
            };
            let packed = Packed::new(to, *n_out, *n_in, (&mut Arena::new(0), &mut Team::new(1)), &rows);
            numbers.chunks_exact_mut(*n_in).enumerate().for_each(|(row, out)| packed.row(row, out));
        }
        parameters.insert(spec.name.clone(), Var::from_vec(numbers, tensor.dims(), &Device::Cpu).unwrap());
    }
    let parameters = crate::Parameters::from_map(parameters);
    Transformer::from_parameters(model.config(), parameters).unwrap().without_gradients().unwrap()
}

#[test]
fn invalid_feeds_are_refused_before_anything_is_read() {
    let model = &models()[0];
    with_decoder(model, Origin::Folder(Some(PackedType::Q8_0)), 2, |decoder| {
        let mut row = decoder.empty_row();
        assert!(decoder.read_prompt(&mut row, &[1, 41]).is_err() && row.n_seen() == 0);
        assert!(decoder.read_prompt(&mut row, &[1; 25]).is_err() && row.n_seen() == 0);
        assert!(decoder.read_prompt(&mut row, &[1; 24]).is_ok());
    });
}
