//! Float32 values that are read where their file is mapped.

use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

/// Float32 values in a mapped file, which stays mapped as long as they are used.
pub(crate) struct Mapped {
    file: Arc<Mmap>,
    bytes: Range<usize>,
}

impl Mapped {
    /// The values of little-endian bytes; `None` if they can't be read in place: out of range, not aligned, or on a
    /// big-endian machine.
    pub(crate) fn new(file: &Arc<Mmap>, bytes: Range<usize>) -> Option<Self> {
        let is_in_place = cfg!(target_endian = "little")
            && file
                .get(bytes.clone())
                .is_some_and(|bytes| bytemuck::try_cast_slice::<u8, f32>(bytes).is_ok());
        is_in_place.then(|| Self { file: Arc::clone(file), bytes })
    }

    /// The values.
    pub(crate) fn get(&self) -> &[f32] {
        bytemuck::cast_slice(&self.file[self.bytes.clone()])
    }
}
