//! Sources of rows: windows over packed documents, documents, ids, conversations, synthetic ids.

use super::chat_rows::Chats;
use super::row::Row;
use crate::batch::IGNORED;
use crate::config::ObjectiveKind;
use crate::corpus::{IdRow, Labels};
use crate::error::Result;
use crate::store::Store;

/// The rows of one set, by number.
#[derive(Debug)]
pub(super) enum Rows {
    Windows(Windows),
    Documents(Documents),
    Ids { rows: Vec<IdRow>, objective: ObjectiveKind },
    Chats(Chats),
    Synthetic { vocab_size: u64, len: usize },
}

impl Rows {
    /// The number of rows.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Windows(windows) => windows.n,
            Self::Documents(documents) => documents.len(),
            Self::Ids { rows, .. } => rows.len() as u64,
            Self::Chats(chats) => chats.len(),
            // More than any run reads, so that no epoch ends.
            Self::Synthetic { .. } => 1 << 32,
        }
    }

    pub(super) fn n_tokens(&self) -> u64 {
        match self {
            Self::Windows(Windows { store, .. }) | Self::Documents(Documents { store, .. }) => {
                store.n_tokens()
            }
            Self::Ids { rows, .. } => rows.iter().map(|row| row.ids.len() as u64).sum(),
            Self::Chats(chats) => chats.n_tokens(),
            Self::Synthetic { len, .. } => self.len() * *len as u64,
        }
    }

    /// The number of tokens of a row.
    pub(super) fn len_of(&self, index: u64) -> usize {
        match self {
            Self::Windows(windows) => windows.len,
            Self::Documents(documents) => documents.place(index).1,
            Self::Ids { rows, .. } => rows[index as usize].ids.len(),
            Self::Chats(chats) => chats.len_of(index),
            Self::Synthetic { len, .. } => *len,
        }
    }

    /// The number of tokens of the longest row.
    pub(super) fn longest(&self) -> usize {
        match self {
            Self::Windows(windows) => windows.len,
            Self::Documents(documents) => documents.longest,
            Self::Ids { rows, .. } => rows.iter().map(|row| row.ids.len()).max().unwrap_or(0),
            Self::Chats(chats) => (0..chats.len()).map(|index| chats.len_of(index)).max().unwrap_or(0),
            Self::Synthetic { len, .. } => *len,
        }
    }

    /// Row number `index`.
    pub(super) fn row(&self, index: u64) -> Row {
        match self {
            Self::Windows(windows) => windows.row(index),
            Self::Documents(documents) => documents.row(index),
            Self::Ids { rows, objective } => id_row(&rows[index as usize], *objective),
            Self::Chats(chats) => chats.row(index),
            Self::Synthetic { vocab_size, len } => {
                let number = |place: u64| (index * *len as u64 + place).wrapping_mul(7919);
                let places = 0..*len as u64;
                Row {
                    ids: places.clone().map(|place| (number(place) % vocab_size) as u32).collect(),
                    targets: places
                        .map(|place| (number(place).wrapping_add(13) % vocab_size) as i64)
                        .collect(),
                    ..Row::default()
                }
            }
        }
    }

    /// Checks that no file of the rows has changed.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Windows(Windows { store, .. }) | Self::Documents(Documents { store, .. }) => store.check(),
            Self::Ids { .. } | Self::Chats(_) | Self::Synthetic { .. } => Ok(()),
        }
    }
}

/// Windows of `len` positions over all tokens, end to end; with next-token targets each needs one more token.
#[derive(Debug)]
pub(super) struct Windows {
    store: Store,
    len: usize,
    n: u64,
    next_token: bool,
    separate: bool,
}

impl Windows {
    /// `tail`: whether a last, incomplete window counts; it does in evaluation.
    pub(super) fn new(
        store: Store,
        len: usize,
        objective: ObjectiveKind,
        separate: bool,
        tail: bool,
    ) -> Self {
        let next_token = objective == ObjectiveKind::NextToken;
        let n_places = store.n_tokens().saturating_sub(u64::from(next_token));
        let n = if tail { n_places.div_ceil(len as u64) } else { n_places / len as u64 };
        Self { store, len, n, next_token, separate }
    }

    fn row(&self, index: u64) -> Row {
        let start = index * self.len as u64;
        let mut ids = self.store.read(start, self.len + usize::from(self.next_token));
        let mut row = Row::default();
        if self.separate {
            let (segments, positions) = self.documents(start, ids.len());
            (row.segments, row.positions) = (Some(segments), Some(positions));
        }
        if self.next_token {
            row.targets = ids.iter().skip(1).map(|&id| i64::from(id)).collect();
            ids.pop();
            if let Some(segments) = &mut row.segments {
                // The first token of a document is not a target of the previous document's end.
                for (place, target) in row.targets.iter_mut().enumerate() {
                    if segments[place] != segments[place + 1] {
                        *target = IGNORED;
                    }
                }
                segments.pop();
            }
            row.positions.as_mut().map(Vec::pop);
        }
        row.ids = ids;
        row
    }

    /// For `n` tokens from `start` on: the document of the window that each is in, and its position there.
    ///
    /// Positions count from the window's start, as the tokens before it are not seen.
    fn documents(&self, start: u64, n: usize) -> (Vec<u32>, Vec<u32>) {
        let mut document = self.store.document_at(start);
        let mut end = self.store.document(document).end;
        let (mut segment, mut position) = (0, 0);
        let (mut segments, mut positions) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for at in start..start + n as u64 {
            if at >= end {
                while at >= end {
                    document += 1;
                    end = self.store.document(document).end;
                }
                (segment, position) = (segment + 1, 0);
            }
            segments.push(segment);
            positions.push(position);
            position += 1;
        }
        (segments, positions)
    }
}

/// One document per row; a document longer than the context takes several rows, so that no token is lost.
#[derive(Debug)]
pub(super) struct Documents {
    store: Store,
    len: usize,
    objective: ObjectiveKind,
    /// The label number of each stored label.
    label_order: Vec<u32>,
    /// The number of rows before every [`MARK`]th document; empty if each document is one row.
    marks: Vec<u64>,
    n: u64,
    /// The maximum number of positions of a row.
    longest: usize,
}

/// How many documents share one mark: memory stays small compared with the corpus.
const MARK: u64 = 64;

impl Documents {
    pub(super) fn new(store: Store, len: usize, objective: ObjectiveKind, label_order: Vec<u32>) -> Self {
        let n_documents = store.n_documents();
        let mut documents = Self { store, len, objective, label_order, marks: Vec::new(), n: 0, longest: 0 };
        let (mut marks, mut all_one) = (Vec::new(), true);
        let (mut n, mut start, mut number, mut most) = (0, 0, 0, 0);
        documents.store.ends.read(0, n_documents as usize, |end| {
            if number % MARK == 0 {
                marks.push(n);
            }
            let own = documents.rows_of(end - start);
            all_one &= own == 1;
            most = most.max(end - start);
            (n, start, number) = (n + own, end, number + 1);
        });
        if !all_one {
            documents.marks = marks;
        }
        documents.n = n;
        let next = u64::from(objective == ObjectiveKind::NextToken);
        documents.longest = most.saturating_sub(next).min(len as u64) as usize;
        documents
    }

    /// How many rows a document with this many tokens takes.
    fn rows_of(&self, n_tokens: u64) -> u64 {
        match self.objective {
            ObjectiveKind::Classify | ObjectiveKind::Contrastive => 1,
            ObjectiveKind::NextToken => n_tokens.saturating_sub(1).div_ceil(self.len as u64),
            ObjectiveKind::MaskedToken => n_tokens.div_ceil(self.len as u64),
        }
    }

    fn len(&self) -> u64 {
        self.n
    }

    /// The start of a row's tokens, its number of positions, and its document.
    fn place(&self, index: u64) -> (u64, usize, u64) {
        let (document, part) = match self.marks.partition_point(|&before| before <= index).checked_sub(1) {
            None => (index, 0),
            Some(mark) => {
                let (mut document, mut part) = (mark as u64 * MARK, index - self.marks[mark]);
                loop {
                    let tokens = self.store.document(document);
                    let own = self.rows_of(tokens.end - tokens.start);
                    if part < own {
                        break (document, part);
                    }
                    (document, part) = (document + 1, part - own);
                }
            }
        };
        let tokens = self.store.document(document);
        let start = tokens.start + part * self.len as u64;
        if self.objective == ObjectiveKind::Contrastive {
            // Each of its two texts was cut to fit.
            return (start, (tokens.end - start) as usize, document);
        }
        let n_places = tokens.end - start - u64::from(self.objective == ObjectiveKind::NextToken);
        (start, n_places.min(self.len as u64) as usize, document)
    }

    fn row(&self, index: u64) -> Row {
        let (start, n, document) = self.place(index);
        let mut row = Row::default();
        match self.objective {
            ObjectiveKind::NextToken => {
                let mut ids = self.store.read(start, n + 1);
                row.targets = ids.iter().skip(1).map(|&id| i64::from(id)).collect();
                ids.pop();
                row.ids = ids;
            }
            ObjectiveKind::MaskedToken | ObjectiveKind::Contrastive => row.ids = self.store.read(start, n),
            ObjectiveKind::Classify => {
                row.ids = self.store.read(start, n);
                let stored = self.store.labels.as_ref().map_or(0, |labels| labels.get(document));
                let label = self.label_order.get(stored as usize).copied().unwrap_or_default();
                row.targets = vec![i64::from(label)];
            }
        }
        if let Some(pair_starts) = &self.store.pair_starts {
            let second = self.store.document(document).start + pair_starts.get(document);
            row.token_types = Some((start..start + n as u64).map(|at| u32::from(at >= second)).collect());
        }
        row
    }
}

/// A row of ids. For a causal model labels are per position and shifted by one: each is the target of the position
/// before.
pub(super) fn id_row(source: &IdRow, objective: ObjectiveKind) -> Row {
    let own: Vec<i64> = match &source.labels {
        Labels::Places(labels) => labels.clone(),
        Labels::Row(label) => vec![*label],
        Labels::None => source.ids.iter().map(|&id| i64::from(id)).collect(),
    };
    let is_real = |place: usize| source.padding_mask.as_ref().is_none_or(|mask| mask[place] != 0);
    let targets = match objective {
        ObjectiveKind::NextToken => {
            // Padding is neither an input nor a target of a prediction, except where labels are given.
            let asks = |place: usize| {
                is_real(place - 1) && (is_real(place) || matches!(source.labels, Labels::Places(_)))
            };
            let label = |place: usize| if asks(place) { own[place] } else { IGNORED };
            (1..own.len()).map(label).chain([IGNORED]).collect()
        }
        ObjectiveKind::MaskedToken | ObjectiveKind::Classify | ObjectiveKind::Contrastive => own,
    };
    Row {
        ids: source.ids.clone(),
        targets,
        padding_mask: source.padding_mask.clone(),
        token_types: source.token_types.clone(),
        segments: None,
        positions: source.positions.clone().or_else(|| places(source.padding_mask.as_deref()?)),
    }
}

/// The position ids of a row with padding before or among its tokens, `Σ keep − 1`: padding does not consume
/// positions, so a row means the same wherever its padding is. `None` if all padding is on the right.
fn places(padding_mask: &[u8]) -> Option<Vec<u32>> {
    if padding_mask.is_sorted_by(|before, after| before >= after) {
        return None;
    }
    let mut n_seen = 0;
    let place = |&real: &u8| {
        n_seen += u32::from(real != 0);
        n_seen.saturating_sub(1)
    };
    Some(padding_mask.iter().map(place).collect())
}
