//! The group of a single process, without communication.

use crate::error::{Error, Result};
use crate::group::Group;

/// The group of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, peer: usize, _: &[u8], _: &mut [u8]) -> Result<()> {
        Err(Error::Gone { rank: peer, size: 1 })
    }

    fn abort(&self, _: u8) {}
}
