//! Patch files and the repository on disk, with real signatures, hostile
//! archives, full disks and a kill between any two steps.
//!
//! These tests call the library. The shipped binary runs the same code in tests/net, from
//! uploads to merges.

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod batches;
#[cfg(feature = "proof")]
mod confined;
mod conflicts;
mod fetch;
mod floors;
mod full;
mod incarnation;
mod jobs;
#[cfg(feature = "proof")]
mod kill;
mod large;
mod lies;
mod make;
mod other_packers;
mod plain_tar;
mod pull;
mod rollouts;
mod signature;
mod sys;
mod whole_files;
