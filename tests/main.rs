//! The workspace's own tests: the real programs, the shape of the repository, README's claims.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod architecture;
mod bad_folders;
mod bad_input;
mod cases;
mod circles;
mod claims;
mod configs;
mod corpus;
mod damage;
mod device;
mod embeddings;
mod endings;
mod export;
mod families;
mod finetune;
mod fuzz;
mod golden;
mod hub;
mod lessons;
mod own_data;
mod paths;
mod predict;
mod processes;
mod programs;
mod readme;
mod repository;
mod resume;
mod support;
mod threads;
mod watch;
