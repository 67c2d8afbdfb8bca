//! Flat arrays of values, independent of their location in memory.

use std::ops::AddAssign;

use crate::error::Result;

/// A type of values that are summed and sent.
pub trait Number: bytemuck::Pod + AddAssign + Send + Sync {}

impl Number for f32 {}
impl Number for f64 {}

/// A flat array that can be read and written in parts.
pub trait Numbers<T: Number> {
    /// Copies the values from `start` on into `out`.
    ///
    /// # Errors
    /// Returns [`crate::Error::Numbers`] if the values can't be accessed.
    fn read(&self, start: usize, out: &mut [T]) -> Result<()>;

    /// Copies `values` to the elements from `start` on.
    ///
    /// # Errors
    /// Returns [`crate::Error::Numbers`] if the values can't be accessed.
    fn write(&mut self, start: usize, values: &[T]) -> Result<()>;

    /// Adds `values` to the elements from `start` on.
    ///
    /// # Errors
    /// Returns [`crate::Error::Numbers`] if the values can't be accessed.
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
