//! The destination of the products of a panel and a tile.

/// A part of a result: rows `stride` elements apart, of which each kernel writes up to [`super::PANEL`] elements.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) out: *mut f32,
    pub(super) stride: usize,
    pub(super) columns: usize,
}
