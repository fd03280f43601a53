//! thimble keeps a cluster of small Linux nodes patched: controllers keep a
//! repository of signed patches, agents install them, a command line drives it.
//!
//! # The layers
//!
//! The folders are the layers, the lowest first. A folder imports what its row names
//! and what the first row names, nothing else; each of these stands in a row above its
//! own, so nothing calls upward. `tests/tree` reads this table and holds the imports
//! to it.
//!
//! | folder | what it does | may import |
//! |---|---|---|
//! | [`limits`], [`list`], [`types`], [`table`], [`time`], [`visible`] | bounds, ids, texts, tables, time, how text is shown | each other |
//! | [`coding`] | codes a block of packets against loss | |
//! | [`repo`] | merges entries into one map, and computes from it what hosts should have | |
//! | [`wire`] | turns bytes into messages and back | `repo` |
//! | [`fsm`] | turns messages and events into state and actions | `coding`, `repo`, `wire` |
//! | `json`, `sealed`, `sorted`, `failpoint`, `clock` | writes JSON; the format of checksummed files; sorted vectors as maps; kills a test build at a named place; the time of day | |
//! | `config` | reads configuration and key files into checked values | `wire` |
//! | `udp`, [`tipc`] | carry datagrams and streams; tell who is there | `wire`, `fsm`, `config` |
//! | `patch` | reads and makes patch files: signature, metadata, members | `repo`, `config` |
//! | `job` | what a worker process is told to do and what it reports | `repo`, `wire`, `config` |
//! | `control` | what a command asks of the daemon and what it answers | `repo`, `wire`, `fsm`, `job` |
//! | `store` | keeps a controller's repository in files, in a worker | `repo`, `wire`, `json`, `sealed`, `failpoint`, `clock`, `config`, `patch`, `job` |
//! | `install` | brings a host's tree to a set of patches, in a worker | `repo`, `wire`, `sealed`, `sorted`, `failpoint`, `config`, `patch`, `job` |
//! | `daemon` | the event loop: sockets, worker processes and a clock | `coding`, `repo`, `wire`, `fsm`, `clock`, `udp`, `tipc`, `config`, `job`, `control`, `store`, `install` |
//! | `cli` | turns arguments into requests, and replies into tables and JSON | `repo`, `wire`, `fsm`, `json`, `clock`, `config`, `tipc`, `patch`, `job`, `control`, `store`, `install` |
//! | `cli/run` | starts the daemon | `daemon` |
//!
//! The core ([`wire`], [`repo`], [`fsm`], [`coding`], the first row, and the part of [`tipc`] that
//! speaks with its topology service) has no std, no heap, no clock, no I/O and does not
//! panic. It compiles for a target that has none of these, and a simulator drives it
//! with invented time.
//!
//! # The way of a datagram
//!
//! 1. The loop wakes and reads the clock once.
//! 2. The transport fills fixed buffers with what has arrived.
//! 3. [`wire::codec::Codec::decode`] checks it, in a fixed order; a refusal has a
//!    name and a counter, and the loop goes on.
//! 4. [`fsm::node::Node::on_message`] moves one state machine and pushes bounded,
//!    typed actions.
//! 5. The loop carries the actions out: it sends, opens a session, or starts a
//!    worker process for everything that is slow or touches a disk.
//! 6. It sleeps until [`fsm::node::Node::poll_at`]. How sessions and workers went
//!    comes back as [`fsm::event::Event`]s.
//!
//! After start the loop allocates nothing but to start a worker; the feature
//! `proof` builds a binary that counts.
//!
//! docs/architecture.md has the same of an upload, an install and a topology event, what a
//! power cut leaves of each, and why the bounds are what they are.

#![cfg_attr(not(feature = "std"), no_std)]

pub mod coding;
pub mod fsm;
pub mod limits;
pub mod list;
pub mod repo;
pub mod table;
pub mod time;
pub mod tipc;
pub mod types;
pub mod visible;
pub mod wire;

#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod clock;
#[cfg(feature = "std")]
pub mod config;
#[cfg(feature = "std")]
pub mod control;
#[cfg(feature = "std")]
pub mod daemon;
#[cfg(feature = "std")]
pub mod failpoint;
#[cfg(feature = "std")]
pub mod install;
#[cfg(feature = "std")]
pub mod job;
#[cfg(feature = "std")]
pub mod json;
#[cfg(feature = "std")]
pub mod patch;
#[cfg(feature = "std")]
pub mod sealed;
#[cfg(feature = "std")]
pub mod sorted;
#[cfg(feature = "std")]
pub mod store;
#[cfg(feature = "udp")]
pub mod udp;
