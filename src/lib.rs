//! thimble keeps a cluster of small Linux nodes patched.

#![cfg_attr(not(feature = "std"), no_std)]

pub mod fsm;
pub mod limits;
pub mod repo;
pub mod table;
pub mod time;
pub mod types;
pub mod wire;

#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod config;
#[cfg(feature = "std")]
pub mod daemon;
#[cfg(feature = "std")]
pub mod failpoint;
#[cfg(feature = "std")]
pub mod install;
#[cfg(feature = "std")]
pub mod patch;
#[cfg(feature = "std")]
pub mod store;
#[cfg(feature = "udp")]
pub mod udp;
