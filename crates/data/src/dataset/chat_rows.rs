//! Conversation rows as tokens, learned or not, one or several per window.

use std::ops::Range;

use super::packing::packed;
use super::row::Row;
use crate::batch::IGNORED;
use crate::chat::RowsOf;

/// The rows of conversations, in memory.
#[derive(Debug, Default)]
pub(super) struct Chats {
    ids: Vec<u32>,
    learned: Vec<bool>,
    /// The end of each row in both.
    ends: Vec<usize>,
    /// The rows that share a window, if rows are packed.
    windows: Option<Vec<Vec<u32>>>,
    /// The text of each row and the bytes of its tokens, if they are kept.
    texts: Vec<(String, Vec<Range<usize>>)>,
}

impl Chats {
    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The number of rows.
    pub(super) fn len(&self) -> u64 {
        self.windows.as_ref().map_or(self.ends.len(), Vec::len) as u64
    }

    pub(super) fn n_tokens(&self) -> u64 {
        self.ids.len() as u64
    }

    /// The number of tokens of a row.
    pub(super) fn len_of(&self, index: u64) -> usize {
        self.members(index).iter().map(|&one| self.tokens(one).len()).sum()
    }

    /// Row number `index`: a conversation, or several that share a window without attending to each other.
    pub(super) fn row(&self, index: u64) -> Row {
        let members = self.members(index);
        let mut row = Row::default();
        let (mut segments, mut positions) = (Vec::new(), Vec::new());
        for (segment, &one) in (0..).zip(&members) {
            let tokens = self.tokens(one);
            let next = tokens.clone().skip(1);
            let asked = next.map(|at| if self.learned[at] { i64::from(self.ids[at]) } else { IGNORED });
            row.targets.extend(asked.chain([IGNORED]));
            segments.resize(segments.len() + tokens.len(), segment);
            positions.extend(0..tokens.len() as u32);
            row.ids.extend_from_slice(&self.ids[tokens]);
        }
        if self.windows.is_some() {
            (row.segments, row.positions) = (Some(segments), Some(positions));
        }
        row
    }

    /// The text of a row, the bytes of its tokens, and which of them are learned; `None` if texts weren't kept.
    pub(super) fn shown(&self, index: u64) -> Option<(String, Vec<Range<usize>>, Vec<bool>)> {
        let (mut text, mut bytes, mut learned) = (String::new(), Vec::new(), Vec::new());
        for one in self.members(index) {
            let (own, of_tokens) = self.texts.get(one as usize)?;
            bytes.extend(of_tokens.iter().map(|bytes| bytes.start + text.len()..bytes.end + text.len()));
            learned.extend_from_slice(&self.learned[self.tokens(one)]);
            text += own;
        }
        Some((text, bytes, learned))
    }

    /// The conversations of a row.
    fn members(&self, index: u64) -> Vec<u32> {
        match &self.windows {
            Some(windows) => windows[index as usize].clone(),
            None => vec![index as u32],
        }
    }

    fn tokens(&self, one: u32) -> Range<usize> {
        let one = one as usize;
        one.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[one]
    }

    /// Adds the rows of a conversation.
    pub(super) fn push(&mut self, rows: RowsOf, keep_texts: bool) {
        for row in rows.rows {
            self.ids.extend(row.ids);
            self.learned.extend(row.learned);
            self.ends.push(self.ids.len());
            if keep_texts {
                self.texts.push((row.text, row.bytes));
            }
        }
    }

    /// Packs rows into windows of `room` tokens.
    pub(super) fn pack(&mut self, room: usize) {
        let lengths: Vec<usize> = (0..self.ends.len() as u32).map(|one| self.tokens(one).len()).collect();
        self.windows = Some(packed(&lengths, room));
    }
}
