//! Collective operations on small values: gather, barrier, broadcast, sums.

use vulpes_ops::fold_tree;

use crate::error::{Error, Result};
use crate::processes::Processes;

/// The number of bytes of a length prefix.
const LENGTH: usize = size_of::<u64>();

impl Processes {
    /// The bytes of each process, in order of rank, the same on all.
    ///
    /// Up a tree of processes to the first, and down again: `2 log₂ N` messages one after the other.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (rank, size) = (self.rank(), self.size());
        let mut all = Vec::new();
        append(&mut all, own);
        let mut step = 1;
        // So far this process has the bytes of `rank..rank + step`.
        while step < size && rank & step == 0 {
            if rank + step < size {
                let heard = self.receive(rank + step)?;
                all.extend_from_slice(&heard);
            }
            step *= 2;
        }
        if rank > 0 {
            self.send(rank - step, &all)?;
            all = self.receive(rank - step)?;
        }
        while step > 1 {
            step /= 2;
            if rank + step < size {
                self.send(rank + step, &all)?;
            }
        }
        split(&all, size)
    }

    /// Waits until all processes have called it.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn barrier(&self) -> Result<()> {
        if self.is_alone() { Ok(()) } else { self.gather(&[]).map(|_| ()) }
    }

    /// The bytes of the first process, on all.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn from_first(&self, own: &[u8]) -> Result<Vec<u8>> {
        if self.is_alone() {
            return Ok(own.to_vec());
        }
        let said = self.gather(if self.is_first() { own } else { &[] })?;
        Ok(said.into_iter().next().unwrap_or_default())
    }

    /// Whether `own` is true on any process.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn any(&self, own: bool) -> Result<bool> {
        Ok(self.sum_whole(&[u64::from(own)])?[0] > 0)
    }

    /// The first process that has a message, such as that it failed, with the message.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn first_said(&self, own: Option<&str>) -> Result<Option<(usize, String)>> {
        // A byte before the message, to distinguish an empty one from none.
        let said = own.map_or_else(Vec::new, |words| [b"!", words.as_bytes()].concat());
        let first = self.gather(&said)?.into_iter().enumerate().find(|(_, said)| !said.is_empty());
        Ok(first.map(|(rank, said)| (rank, String::from_utf8_lossy(&said[1..]).into_owned())))
    }

    /// The elementwise sums of integers, as many on each process.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn sum_whole(&self, own: &[u64]) -> Result<Vec<u64>> {
        if self.is_alone() {
            return Ok(own.to_vec());
        }
        let mut sums = vec![0u64; own.len()];
        for (rank, said) in self.gather(bytemuck::cast_slice(own))?.into_iter().enumerate() {
            let numbers: Vec<u64> = numbers(rank, &said)?;
            if numbers.len() != own.len() {
                return Err(Error::Length { rank, sent: said.len(), wanted: size_of_val(own) });
            }
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.wrapping_add(number));
        }
        Ok(sums)
    }

    /// The concatenation of the processes' values, any number on each.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn join(&self, own: &[f64]) -> Result<Vec<f64>> {
        if self.is_alone() {
            return Ok(own.to_vec());
        }
        let said = self.gather(bytemuck::cast_slice(own))?;
        let joined = said.iter().enumerate().map(|(rank, said)| numbers(rank, said));
        Ok(joined.collect::<Result<Vec<Vec<f64>>>>()?.concat())
    }

    /// The sum along the fixed tree of leaves that are distributed consecutively over the processes; 0 without leaves.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn sum_f64(&self, leaves: &[f64]) -> Result<f64> {
        let leaves = self.join(leaves)?.into_iter().map(Some);
        fold_tree(leaves, |a, b| Ok::<_, Error>(a + b)).map(|sum| sum.unwrap_or(0.0))
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        self.exchange(to, &(bytes.len() as u64).to_le_bytes(), &mut [])?;
        self.exchange(to, bytes, &mut [])
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let mut length = [0; LENGTH];
        self.exchange(from, &[], &mut length)?;
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        self.exchange(from, &[], &mut bytes)?;
        Ok(bytes)
    }
}

fn append(all: &mut Vec<u8>, one: &[u8]) {
    all.extend_from_slice(&(one.len() as u64).to_le_bytes());
    all.extend_from_slice(one);
}

/// Splits the result of [`append`].
fn split(all: &[u8], size: usize) -> Result<Vec<Vec<u8>>> {
    let mut rest = all;
    let mut parts = Vec::with_capacity(size);
    for rank in 0..size {
        let short = |wanted| Error::Length { rank, sent: rest.len(), wanted };
        let (length, others) = rest.split_first_chunk::<LENGTH>().ok_or_else(|| short(LENGTH))?;
        let length = u64::from_le_bytes(*length) as usize;
        let (one, others) = others.split_at_checked(length).ok_or_else(|| short(length))?;
        parts.push(one.to_vec());
        rest = others;
    }
    Ok(parts)
}

fn numbers<T: bytemuck::AnyBitPattern>(rank: usize, bytes: &[u8]) -> Result<Vec<T>> {
    let length =
        |_| Error::Length { rank, sent: bytes.len(), wanted: bytes.len() / size_of::<T>() * size_of::<T>() };
    let places = bytes.chunks(size_of::<T>());
    places.map(|place| bytemuck::try_pod_read_unaligned(place).map_err(length)).collect()
}

#[cfg(test)]
mod tests {
    use crate::threads::threads;

    #[test]
    fn all_processes_gather_the_same() {
        for size in 1..=9 {
            let heard: Vec<_> = std::thread::scope(|scope| {
                let running = threads(size).into_iter().map(|processes| {
                    scope.spawn(move || {
                        let own = vec![processes.rank() as u8; processes.rank() % 3];
                        let said = processes.gather(&own).unwrap();
                        let first = processes.from_first(&[processes.rank() as u8 + 7]).unwrap();
                        let any = processes.any(processes.rank() == 1).unwrap();
                        let sums = processes.sum_whole(&[1, processes.rank() as u64]).unwrap();
                        let sum = processes.sum_f64(&vec![0.1; processes.rank() + 1]).unwrap();
                        processes.barrier().unwrap();
                        (said, first, any, sums, sum.to_bits())
                    })
                });
                let running: Vec<_> = running.collect();
                running.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let said: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; rank % 3]).collect();
            let n = size as u64;
            for (rank, heard) in heard.iter().enumerate() {
                assert_eq!(heard.0, said, "{rank} of {size}");
                assert_eq!((&heard.1, heard.2), (&vec![7], size > 1));
                assert_eq!(heard.3, [n, n * (n - 1) / 2]);
                assert_eq!(heard.4, tree(size * (size + 1) / 2).to_bits());
            }
        }
    }

    /// The sum of `n` tenths by the tree.
    fn tree(n: usize) -> f64 {
        vulpes_ops::fold_tree((0..n).map(|_| Some(0.1)), |a, b| Ok::<_, ()>(a + b)).unwrap().unwrap()
    }

    #[test]
    fn an_ended_process_is_reported() {
        let mut all = threads(3);
        drop(all.remove(1));
        let error = all[0].exchange(1, &[], &mut [0]).unwrap_err().to_string();
        assert_eq!(error, "process 1 of 3 ended unexpectedly");
    }
}
