//! The workspace's own tests: the real programs, the shape of the repository, README's claims.

mod architecture;
mod readme;
mod repository;
