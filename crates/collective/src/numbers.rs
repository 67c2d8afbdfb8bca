//! Numbers that lie in one row, wherever their memory is.

use std::ops::AddAssign;

use crate::error::Result;

/// A number that is summed and sent.
pub trait Number: bytemuck::Pod + AddAssign + Send + Sync {}

impl Number for f32 {}
impl Number for f64 {}

/// A row of numbers that can be read and written part by part.
pub trait Numbers<T: Number> {
    /// Copies the numbers from `start` on into `out`.
    ///
    /// # Errors
    /// [`crate::Error::Numbers`].
    fn read(&self, start: usize, out: &mut [T]) -> Result<()>;

    /// Copies `values` to the places from `start` on.
    ///
    /// # Errors
    /// [`crate::Error::Numbers`].
    fn write(&mut self, start: usize, values: &[T]) -> Result<()>;

    /// Adds `values` to the numbers from `start` on.
    ///
    /// # Errors
    /// [`crate::Error::Numbers`].
    fn add(&mut self, start: usize, values: &[T]) -> Result<()>;
}

impl<T: Number> Numbers<T> for Vec<T> {
    fn read(&self, start: usize, out: &mut [T]) -> Result<()> {
        out.copy_from_slice(&self[start..start + out.len()]);
        Ok(())
    }

    fn write(&mut self, start: usize, values: &[T]) -> Result<()> {
        self[start..start + values.len()].copy_from_slice(values);
        Ok(())
    }

    fn add(&mut self, start: usize, values: &[T]) -> Result<()> {
        self[start..].iter_mut().zip(values).for_each(|(place, value)| *place += *value);
        Ok(())
    }
}
