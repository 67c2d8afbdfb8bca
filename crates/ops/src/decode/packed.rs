//! Matrices in a smaller type than float32, packed once for the products of every token.

use crate::kernel::lines::Arena;
use crate::kernel::product::packed::{self as pairs, Pairs};
use crate::kernel::quantized::{self as blocks, BLOCK, Panels, Quant};
use crate::kernel::team::Team;

/// The type in which a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackedType {
    /// bfloat16; vectors are rounded to it, sums are float32.
    Bf16,
    /// GGUF's blocks of 32 8-bit values with a float16 scale.
    Q8_0,
    /// GGUF's blocks of 32 4-bit values with a float16 scale.
    Q4_0,
}

impl PackedType {
    /// Whether rows of this length can be stored in it.
    pub fn takes(self, n_in: usize) -> bool {
        n_in > 0 && (self == Self::Bf16 || n_in.is_multiple_of(BLOCK))
    }

    /// Bytes of a matrix.
    pub fn n_bytes(self, n_out: usize, n_in: usize) -> usize {
        let (height, len) = self.panel(n_in);
        n_out.div_ceil(height) * len
    }

    /// Bytes of a row of so many numbers in blocks; `None` where the type has no blocks, or they don't take the row.
    pub fn n_row_bytes(self, n_in: usize) -> Option<usize> {
        self.quant().filter(|_| self.takes(n_in)).map(|quant| n_in / BLOCK * quant.n_bytes())
    }

    /// The numbers of whole blocks.
    ///
    /// # Panics
    /// Where there are more or fewer blocks than `out` has room for.
    pub fn widen_blocks(self, bytes: &[u8], out: &mut [f32]) {
        match self.quant() {
            Some(quant) => quant.dequantize(bytes, out),
            None => assert!(out.is_empty(), "{self:?} has no blocks"),
        }
    }

    /// Rows and bytes of a panel.
    fn panel(self, n_in: usize) -> (usize, usize) {
        match self.quant() {
            None => (pairs::PANEL, pairs::panel_bytes(n_in)),
            Some(quant) => (blocks::PANEL, blocks::panel_bytes(quant, n_in / BLOCK)),
        }
    }

    fn quant(self) -> Option<Quant> {
        match self {
            Self::Bf16 => None,
            Self::Q8_0 => Some(Quant::Q8_0),
            Self::Q4_0 => Some(Quant::Q4_0),
        }
    }
}

/// Writes the panels of a range of rows.
type Fill<'a> = dyn Fn(std::ops::Range<usize>, &mut [&mut [u8]]) + Sync + 'a;

/// A matrix `[out, in]` in one of the types of [`PackedType`].
pub struct Packed {
    form: Form,
    n_out: usize,
    n_in: usize,
}

pub(super) enum Form {
    Pairs(Pairs),
    Blocks(Quant, Panels),
}

/// A function that writes rows of a matrix, one after another.
pub type Rows<'a> = dyn Fn(std::ops::Range<usize>, &mut [f32]) + Sync + 'a;

/// What gives a row of a matrix as its blocks.
pub type BlockRows<'a> = dyn Fn(usize) -> &'a [u8] + Sync + 'a;

/// Panels that a thread packs at a time, so that what it reads at once is worth its while.
const GROUP: usize = 4;

impl Packed {
    /// Packs a matrix, whose rows `rows` writes, into memory of `arena`, on the threads of `team`; each row is
    /// requested once.
    ///
    /// # Panics
    /// Panics if [`PackedType::takes`] is false.
    pub fn new(
        to: PackedType,
        n_out: usize,
        n_in: usize,
        (arena, team): (&mut Arena, &mut Team),
        rows: &Rows<'_>,
    ) -> Self {
        let height = to.panel(n_in).0;
        Self::pack(to, (n_out, n_in), (arena, team), &|all, panels| {
            let mut numbers = vec![0.0; all.len() * n_in];
            rows(all, &mut numbers);
            let mut bytes = vec![0; to.quant().map_or(0, |quant| n_in / BLOCK * quant.n_bytes())];
            for (panel, rows) in panels.iter_mut().zip(numbers.chunks(height * n_in)) {
                match to.quant() {
                    None => pairs::pack_panel(rows, n_in, panel),
                    Some(quant) => {
                        for (number, row) in rows.chunks_exact(n_in).enumerate() {
                            quant.quantize(row, &mut bytes);
                            blocks::place(quant, number, &bytes, panel);
                        }
                    }
                }
            }
        })
    }

    /// Packs a matrix that is in blocks of the type already: their bytes are taken as they are.
    ///
    /// # Panics
    /// Where [`PackedType::takes`] says no, the type has no blocks, or a row is of another length.
    pub fn from_blocks(
        to: PackedType,
        n_out: usize,
        n_in: usize,
        (arena, team): (&mut Arena, &mut Team),
        rows: &BlockRows<'_>,
    ) -> Self {
        let height = to.panel(n_in).0;
        Self::pack(to, (n_out, n_in), (arena, team), &|all, panels| {
            for (at, row) in all.enumerate() {
                let bytes = rows(row);
                assert!(Some(bytes.len()) == to.n_row_bytes(n_in), "{to:?}: a row of {n_in} values");
                if let Some(quant) = to.quant() {
                    blocks::place(quant, at % height, bytes, panels[at / height]);
                }
            }
        })
    }

    /// Packs what `fill` writes into panels for the rows that it is given, some panels at a time.
    fn pack(
        to: PackedType,
        (n_out, n_in): (usize, usize),
        (arena, team): (&mut Arena, &mut Team),
        fill: &Fill<'_>,
    ) -> Self {
        assert!(to.takes(n_in), "{to:?} can't store rows of {n_in} values");
        let (height, len) = to.panel(n_in);
        let mut lines = arena.lines(to.n_bytes(n_out, n_in));
        let mut panels: Vec<&mut [u8]> = lines.bytes_mut().chunks_exact_mut(len).collect();
        let mut groups: Vec<&mut [&mut [u8]]> = panels.chunks_mut(GROUP).collect();
        team.each(&mut groups, &|number, group| {
            let first = number * GROUP * height;
            fill(first..(first + group.len() * height).min(n_out), group);
        });
        let form = match to.quant() {
            None => Form::Pairs(Pairs::new(n_out, n_in, lines)),
            Some(quant) => Form::Blocks(quant, Panels::new(quant, n_out, n_in, lines)),
        };
        Self { form, n_out, n_in }
    }

    /// The number of rows: the length of a product with a vector.
    pub fn n_out(&self) -> usize {
        self.n_out
    }

    /// The row length.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// The values of a row as stored.
    ///
    /// # Panics
    /// Panics if there is no such row, or `out` has another length than a row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_out && out.len() == self.n_in, "row {row} of {}", self.n_out);
        match &self.form {
            Form::Pairs(pairs) => pairs.row(row, out),
            Form::Blocks(_, panels) => panels.row(row, out),
        }
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }
}
