//! thimble keeps a cluster of small Linux nodes patched: controllers keep a
//! repository of signed patches, agents install them, a command line drives it.
//!
//! # The layers
//!
//! The folders are the layers. Data flows down this list and events back up by
//! one door; nothing calls upward.
//!
//! | folder | what it turns into what | may use |
//! |---|---|---|
//! | [`wire`] | bytes into messages and back | the core alone |
//! | [`repo`] | entries into one map, and that into what hosts should have | the core alone |
//! | [`fsm`] | messages and events into state and actions | the core alone |
//! | `udp`, `tipc` | actions into datagrams and streams | system calls |
//! | `daemon` | sockets, processes and a clock into turns of a loop | all of these |
//! | `store` | a controller's repository into files, durably | the disk, in a worker |
//! | `install` | a set of patches into a host's tree, or nothing at all | the disk, in a worker |
//! | `patch` | patch files into metadata and members, signature first | files |
//! | `config` | configuration and key files into checked values | files |
//! | `cli` | words into requests, and replies into tables and JSON | the control socket |
//!
//! The core ([`wire`], [`repo`], [`fsm`], with [`types`], [`limits`], [`time`],
//! [`table`] and [`list`], and what of [`tipc`] is said to its topology service) has no
//! std, no heap, no clock, no I/O and does not panic; it compiles for a target that has
//! none of these, and a simulator drives it with invented time.
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

#![cfg_attr(not(feature = "std"), no_std)]

pub mod fsm;
pub mod limits;
pub mod list;
pub mod repo;
pub mod table;
pub mod time;
pub mod tipc;
pub mod types;
pub mod wire;

#[cfg(feature = "std")]
pub mod cli;
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
pub mod sorted;
#[cfg(feature = "std")]
pub mod store;
#[cfg(feature = "udp")]
pub mod udp;
