//! Tokenizers in GGUF files: llama.cpp's keys, for writing and reading.
//!
//! llama.cpp has its own code for each kind of tokenizer, and a file has what that code needs: tokens, their kinds,
//! scores or merges. The rest of a `tokenizer.json` is stored under [`REST`]; for files by other programs, which lack
//! that key, it is reconstructed from what llama.cpp's code does.

mod parts;
mod pieces;
mod plain;
mod read;
mod spelling;

pub use parts::{BLANK, CHARSMAP, KIND, MERGES, REST, TEMPLATE, TOKEN_KINDS, TOKENS, TokenKind, rest, task};
pub use pieces::merges_of;
pub use read::{Vocabulary, read};
pub use spelling::{NEVER, spelled};

pub use crate::splitters::{SPLITTERS, Splitter};
