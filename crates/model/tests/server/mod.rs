//! A local hub with one model that misbehaves on demand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of a test"
)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

/// The access token.
pub const TOKEN: &str = "hf_of_a_test";
/// The commit of every revision.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How an answer deviates.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection ends after this many bytes of the file (counted from its start).
    Cut(usize),
    /// One byte is changed.
    Corrupt,
    /// It announces and sends this many bytes more.
    Length(i64),
    /// It announces no length, and sends this many bytes more.
    Unsaid(i64),
    /// It sends the entire file when a part is requested.
    IgnoreRange,
    /// A status, and the hub's error code.
    Status(u16, &'static str),
    /// The connection ends without an answer.
    Hangup,
    /// An HTML page.
    Page,
}

struct State {
    files: Vec<(String, Vec<u8>)>,
    of_large: VecDeque<Fault>,
    of_small: VecDeque<Fault>,
    of_list: VecDeque<Fault>,
    asked: Vec<String>,
}

/// The server; it runs until the test's process ends.
pub struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// A hub with a small Llama.
    pub fn start() -> Self {
        Self::of(&model())
    }

    /// The same with its weights in two shard files.
    pub fn sharded() -> Self {
        let mut files = model();
        let at = files.iter().position(|(file, _)| *file == "model.safetensors").unwrap();
        let (_, whole) = files.remove(at);
        let n_header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&whole[8..8 + n_header]).unwrap();
        let mut map = serde_json::Map::new();
        for (shard, file) in
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].into_iter().enumerate()
        {
            let (mut part, mut data) = (serde_json::Map::new(), Vec::new());
            let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
            for (number, (name, tensor)) in tensors.enumerate() {
                if number % 2 != shard {
                    continue;
                }
                let place = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
                let start = data.len();
                data.extend_from_slice(&whole[8 + n_header + place(0)..8 + n_header + place(1)]);
                let mut tensor = tensor.clone();
                tensor["data_offsets"] = json!([start, data.len()]);
                part.insert(name.clone(), tensor);
                map.insert(name.clone(), json!(file));
            }
            let head = serde_json::Value::Object(part).to_string();
            let bytes = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &data].concat();
            files.push((file, bytes));
        }
        let index = json!({"metadata": {}, "weight_map": map}).to_string();
        files.push(("model.safetensors.index.json", index.into_bytes()));
        Self::of(&files)
    }

    /// A hub with these files.
    pub fn of(files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let files = files.iter().map(|(file, content)| ((*file).to_owned(), content.clone())).collect();
        let state = State {
            files,
            of_large: VecDeque::new(),
            of_small: VecDeque::new(),
            of_list: VecDeque::new(),
            asked: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                std::thread::spawn(move || answer(&stream.unwrap(), &state, port));
            }
        });
        Self { port, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.state.lock().unwrap().files.clone()
    }

    pub fn content(&self, file: &str) -> Vec<u8> {
        self.files().into_iter().find(|(name, _)| name == file).unwrap().1
    }

    /// Every request: its line, then its range and token.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The faults of the next answers with a large file.
    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().of_large.extend(faults);
    }

    /// The faults of the next answers with a small file.
    pub fn fault_small(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().of_small.extend(faults);
    }

    /// The faults of the next answers with the list of files.
    pub fn fault_list(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().of_list.extend(faults);
    }
}

/// A small Llama's folder, and unneeded files next to it.
fn model() -> Vec<(&'static str, Vec<u8>)> {
    let section = ModelSection {
        family: Some(Family::Llama),
        n_layer: Some(1),
        n_head: Some(2),
        d_model: Some(16),
        context_len: Some(8),
        ..ModelSection::default()
    };
    let config = section.resolve(40, Head::NextToken);
    let model = Transformer::init(&config, 1, DType::F32, &Device::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    folder::save(dir.path(), &model, &folder::Extra::default()).unwrap();
    let read = |file: &'static str| (file, std::fs::read(dir.path().join(file)).unwrap());
    vec![
        read("config.json"),
        read("generation_config.json"),
        ("tokenizer.json", b"{}".to_vec()),
        ("1_Pooling/config.json", b"{\"a\": 1}".to_vec()),
        read("model.safetensors"),
        ("README.md", b"# A card".to_vec()),
        ("pytorch_model.bin", b"the same again".to_vec()),
    ]
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: &TcpStream, state: &Mutex<State>, port: u16) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let (mut range, mut token) = (None, String::new());
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = value.to_owned(),
            _ => {}
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let said = range.as_ref().map_or(String::new(), |range| format!(" range: {range}"));
    let mut state = state.lock().unwrap();
    state.asked.push(format!("{method} {path}{said} {token}"));
    if path.starts_with("/api/models/org/small/revision/") {
        let files: Vec<_> = state.files.iter().map(|(file, _)| json!({"rfilename": file})).collect();
        let body = json!({"sha": COMMIT, "siblings": files}).to_string().into_bytes();
        let fault = state.of_list.pop_front();
        drop(state);
        return give(stream, &body, "", 0, fault);
    }
    let file =
        path.strip_prefix("/cdn/").or_else(|| path.strip_prefix(&format!("/org/small/resolve/{COMMIT}/")));
    let found =
        state.files.iter().find(|(name, _)| Some(name.as_str()) == file).map(|(_, content)| content.clone());
    let Some(content) = found else {
        drop(state);
        return give(stream, b"", "", 0, Some(Fault::Status(404, "EntryNotFound")));
    };
    let is_large = path.ends_with(".safetensors");
    if is_large && !path.starts_with("/cdn/") {
        drop(state);
        // Another name of this machine counts as another host.
        let place = format!("http://localhost:{port}/cdn/{}", file.unwrap());
        let etag = hex(&Sha256::digest(&content));
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {place}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\nETag: \"other\"\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            content.len()
        );
        let mut stream = stream;
        let _ = stream.write_all(head.as_bytes());
        return;
    }
    let etag = hex(&Sha1::digest([format!("blob {}\0", content.len()).as_bytes(), &content].concat()));
    let etag = format!("ETag: \"{etag}\"\r\n");
    if method == "HEAD" {
        drop(state);
        let head = format!(
            "HTTP/1.1 200 OK\r\n{etag}Content-Length: {}\r\nConnection: close\r\n\r\n",
            content.len()
        );
        let mut stream = stream;
        let _ = stream.write_all(head.as_bytes());
        return;
    }
    let fault = if is_large { state.of_large.pop_front() } else { state.of_small.pop_front() };
    drop(state);
    let first =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let first = if matches!(fault, Some(Fault::IgnoreRange)) { 0 } else { first };
    give(stream, &content, &etag, first, fault);
}

/// Sends a file from `first` on, with the fault applied.
fn give(mut stream: &TcpStream, content: &[u8], etag: &str, first: usize, fault: Option<Fault>) {
    let mut body = content[first..].to_vec();
    let mut sent = body.len();
    let mut says_length = true;
    match fault {
        Some(Fault::Hangup) => return,
        Some(Fault::Page) => body = b"<html>".to_vec(),
        Some(Fault::Status(status, code)) => {
            let head = format!(
                "HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
            return;
        }
        Some(Fault::Cut(end)) => sent = end.saturating_sub(first),
        Some(Fault::Corrupt) => body[0] ^= 1,
        Some(Fault::Length(more) | Fault::Unsaid(more)) => {
            body.resize((body.len() as i64 + more) as usize, 0);
            says_length = matches!(fault, Some(Fault::Length(_)));
        }
        Some(Fault::IgnoreRange) | None => {}
    }
    let sent = if matches!(fault, Some(Fault::Cut(_))) { sent.min(body.len()) } else { body.len() };
    let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
    let length = if says_length { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let range = if first > 0 {
        format!("Content-Range: bytes {first}-{}/{}\r\n", content.len() - 1, content.len())
    } else {
        String::new()
    };
    let head = format!("HTTP/1.1 {status}\r\n{etag}{length}{range}Connection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body[..sent]);
    let _ = stream.flush();
}
