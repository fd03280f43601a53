//! The repository as a map that merges, and what follows from it. No I/O.

pub mod entry;
