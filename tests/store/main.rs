//! Patch files and the repository on disk, with real signatures, hostile
//! archives, full disks and a kill between any two steps.

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod fetch;
mod full;
mod incarnation;
mod jobs;
#[cfg(feature = "proof")]
mod kill;
mod make;
mod plain_tar;
mod pull;
mod rollouts;
mod signature;
