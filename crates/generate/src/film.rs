//! Snapshots of a run (`film.jsonl`): at chosen steps, what the model predicts for probe sentences.
//!
//! The last word of each probe is the answer: the model reads the words before it, or the sentence with its last word
//! masked. A frame holds attention weights, the entropy of each head, the most likely words, and the angle between
//! the hidden state and the answer's row of the vocabulary head. One JSON object per line: the probes first, then the
//! frames.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde::{Deserialize, Serialize};
use vulpes_data::Tokenizer;
use vulpes_model::{Head, Input, Pass, Recorder, Site, Transformer};

use crate::error::Error;
use crate::next::{NextToken, next_tokens};
use crate::prompt::token_text;
use crate::sampler::normalizer;

/// The file's name in a run folder.
const FILE: &str = "film.jsonl";

/// The writer of a run's snapshots.
#[derive(Debug)]
pub struct Film {
    path: PathBuf,
    file: File,
    probes: Vec<Probe>,
}

/// A sentence with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Probe {
    text: String,
    /// The input of the model.
    ids: Vec<u32>,
    tokens: Vec<String>,
    /// The position of the predicted token.
    position: usize,
    target: u32,
    answer: String,
}

/// The first line of the file.
#[derive(Serialize, Deserialize)]
struct Opening {
    probes: Vec<Probe>,
}

/// The model's predictions for the probes at one step.
#[derive(Serialize)]
struct Frame {
    step: u64,
    val_loss: Option<f64>,
    probes: Vec<Seen>,
}

/// The model's prediction for one probe.
#[derive(Serialize)]
struct Seen {
    /// `[layer][head][query][key]`, to four decimals.
    attentions: Vec<Vec<Vec<Vec<f32>>>>,
    /// Entropy in nats of the attention weights at the predicted position, `[layer][head]`.
    entropies: Vec<Vec<f32>>,
    next: Vec<NextToken>,
    /// The probability of the answer.
    probability: f64,
    /// The angle between the hidden state and the answer's row of the vocabulary head, in degrees.
    angle: Option<f64>,
    /// The hidden state's Euclidean norm.
    length: f64,
}

impl Film {
    /// Opens `film.jsonl` of a run folder at `step`: later frames, which a resumed run may have left, are cut off.
    ///
    /// # Errors
    /// Returns an error if the file can't be written, or a probe has fewer than two tokens or more than the model reads.
    pub fn open(
        run: &Path,
        probes: &[String],
        tokenizer: &Tokenizer,
        model: &Transformer,
        step: u64,
    ) -> Result<Self, Error> {
        let probes: Vec<Probe> =
            probes.iter().map(|text| probe(text, tokenizer, model)).collect::<Result<_, _>>()?;
        let path = run.join(FILE);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let mut kept = line(&Opening { probes: probes.clone() })?;
        let is_the_same = before.lines().next().is_some_and(|first| first == kept.trim_end());
        for frame in before.lines().skip(1).filter(|_| is_the_same) {
            let at = serde_json::from_str::<serde_json::Value>(frame)
                .ok()
                .and_then(|frame| frame["step"].as_u64());
            // A line truncated by a crash is not a frame.
            if at.is_some_and(|at| at <= step) {
                kept += frame;
                kept.push('\n');
            }
        }
        // Frames take a run's time to make: a crash here must not lose them.
        let unfinished = run.join(".tmp-film.jsonl");
        let replace = || {
            std::fs::write(&unfinished, kept)?;
            std::fs::rename(&unfinished, &path)?;
            OpenOptions::new().append(true).open(&path)
        };
        let file = replace().map_err(|source| fail(&path, source))?;
        Ok(Self { path, file, probes })
    }

    /// Adds the frame of a step.
    ///
    /// # Errors
    /// Returns an error if the file can't be written, or the model fails.
    pub fn record(
        &self,
        model: &Transformer,
        tokenizer: &Tokenizer,
        step: u64,
        val_loss: Option<f64>,
    ) -> Result<(), Error> {
        let model = model.without_gradients()?;
        let probes =
            self.probes.iter().map(|probe| look(probe, &model, tokenizer)).collect::<Result<_, _>>()?;
        let line = line(&Frame { step, val_loss, probes })?;
        append(&self.file, line.as_bytes()).map_err(|source| fail(&self.path, source))
    }
}

/// Appends a line to a file completely or not at all.
fn append(mut file: &File, line: &[u8]) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(line).inspect_err(|_| {
        let _ = file.set_len(before);
    })
}

fn fail(path: &Path, source: std::io::Error) -> Error {
    Error::Film { path: path.to_path_buf(), source }
}

fn line(value: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_string(value).map_err(|error| fail(Path::new(FILE), error.into()))?;
    Ok(json + "\n")
}

fn probe(text: &str, tokenizer: &Tokenizer, model: &Transformer) -> Result<Probe, Error> {
    let mut ids = tokenizer.encode(text)?;
    let (mut opening, mut closing) = (tokenizer.opening(), Vec::new());
    if model.config().head != Head::NextToken {
        let framed = tokenizer.encode_framed(text, None, None)?.0;
        closing = framed.get(opening.len() + ids.len()..).unwrap_or_default().to_vec();
    }
    let context = model.config().context_len.saturating_sub(opening.len() + closing.len());
    let (Some(&target), true) = (ids.last(), ids.len() >= 2 && ids.len() <= context + 1) else {
        let n = ids.len();
        return Err(Error::Prompt(format!(
            "the probe {text:?} has {n} tokens; wanted 2 to {}: the input and, last, the answer",
            context + 1
        )));
    };
    ids.pop();
    if let (Head::MaskedToken, Some(mask)) = (model.config().head, tokenizer.mask_id()) {
        ids.push(mask);
    }
    let position = opening.len() + ids.len() - 1;
    opening.append(&mut ids);
    opening.append(&mut closing);
    let ids = opening;
    Ok(Probe {
        text: text.to_owned(),
        tokens: ids.iter().map(|&id| token_text(tokenizer, id)).collect(),
        position,
        ids,
        target,
        answer: token_text(tokenizer, target),
    })
}

fn look(probe: &Probe, model: &Transformer, tokenizer: &Tokenizer) -> Result<Seen, Error> {
    let n_layer = model.config().n_layer;
    let mut recorder = Recorder::of(&(0..n_layer).map(Site::AttentionWeights).collect::<Vec<_>>());
    let hidden_btd =
        model.forward(&Input::new(&probe.ids, 1, model.device())?, &mut Pass::probed(&mut recorder))?;
    let asked = hidden_btd.narrow(1, probe.position, 1)?;
    let logits: Vec<f32> =
        model.logits(&asked, &mut Pass::inference())?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
    let mut attentions = Vec::new();
    for layer in 0..n_layer {
        if let Some(weights) = recorder.get(Site::AttentionWeights(layer)) {
            attentions.push(weights.squeeze(0)?.to_dtype(DType::F32)?.to_vec3::<f32>()?);
        }
    }
    let entropy = |row: &[f32]| -row.iter().filter(|w| **w > 0.0).map(|w| w * w.ln()).sum::<f32>() + 0.0;
    let entropies = attentions
        .iter()
        .map(|layer| {
            layer.iter().map(|head| head.get(probe.position).map_or(0.0, |row| entropy(row))).collect()
        })
        .collect();
    attentions.iter_mut().flatten().flatten().flatten().for_each(|w| *w = (*w * 1e4).round() / 1e4);
    let (greatest, sum) = normalizer(&logits)?;
    let logit = logits.get(probe.target as usize).copied().unwrap_or(f32::NEG_INFINITY);
    let hidden: Vec<f32> = asked.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
    Ok(Seen {
        attentions,
        entropies,
        next: next_tokens(&logits, 5, &|id| token_text(tokenizer, id))?,
        probability: f64::from(logit - greatest).exp() / sum,
        angle: angle(model, probe.target, &hidden)?,
        length: hidden.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt(),
    })
}

/// The angle between the hidden state and a token's row of the vocabulary head; `None` if a layer is between them.
fn angle(model: &Transformer, target: u32, hidden: &[f32]) -> Result<Option<f64>, Error> {
    if model.config().head != Head::NextToken {
        return Ok(None);
    }
    let name = if model.config().tied_head { "embedding.token.weight" } else { "head.weight" };
    let row = model.parameters().get(name)?.get(target as usize)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(hidden, &row) / (dot(hidden, hidden) * dot(&row, &row)).sqrt();
    Ok(cosine.is_finite().then(|| cosine.clamp(-1.0, 1.0).acos().to_degrees()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use vulpes_data::TokenizerConfig;
    use vulpes_model::{ModelSection, config::Family};

    #[test]
    fn frames_after_the_step_of_a_resume_are_dropped() {
        let text = "The quick brown fox jumps over the lazy dog .";
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
        let section =
            ModelSection { family: Some(Family::Fox), context_len: Some(8), ..ModelSection::default() };
        let config = section.resolve(tokenizer.vocab_size(), Head::NextToken);
        let model = Transformer::init(&config, 1, DType::F32, &Device::Cpu).unwrap();
        let run = std::env::temp_dir().join(format!("vulpes-film-{}", std::process::id()));
        std::fs::create_dir_all(&run).unwrap();
        let probes = ["The quick brown fox jumps".to_owned()];
        let film = Film::open(&run, &probes, &tokenizer, &model, 0).unwrap();
        for step in [0, 50, 100] {
            film.record(&model, &tokenizer, step, Some(2.0)).unwrap();
        }
        Film::open(&run, &probes, &tokenizer, &model, 50).unwrap();
        let lines: Vec<serde_json::Value> = std::fs::read_to_string(run.join(FILE))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["probes"][0]["answer"], "jumps");
        assert_eq!(
            lines[1..].iter().map(|frame| frame["step"].as_u64().unwrap()).collect::<Vec<_>>(),
            [0, 50]
        );
        let seen = &lines[1]["probes"][0];
        assert_eq!(seen["attentions"][0][0].as_array().unwrap().len(), 4);
        assert!(seen["angle"].as_f64().unwrap() > 0.0 && seen["probability"].as_f64().unwrap() > 0.0);
        // Snapshots of other probes are not continued.
        Film::open(&run, &["The lazy dog".to_owned()], &tokenizer, &model, 50).unwrap();
        assert_eq!(std::fs::read_to_string(run.join(FILE)).unwrap().lines().count(), 1);
        assert!(Film::open(&run, &["fox".to_owned()], &tokenizer, &model, 0).is_err());
        std::fs::remove_dir_all(run).unwrap();
    }
}
