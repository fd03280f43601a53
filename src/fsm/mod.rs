//! Messages and events to state and actions. No I/O, no clock, no heap.
//!
//! All state machines have one shape. `on_message` and `on_event` take input,
//! `on_timeout` does what has become due (a call before that does nothing), and
//! `poll_at` gives the time of the next call. What the driver must do is pushed as
//! [`Action`]s. `invariants` checks what must always hold.
//!
//! | file | what it decides |
//! |---|---|
//! | [`node`] | which role a message or event is for |
//! | [`controller`] | a controller: wires the next twelve |
//! | [`pacing`] | when to send HelloAgent, and how long answers may take |
//! | [`hosts`] | what is known of a host |
//! | [`queries`] | which hosts to query in detail |
//! | [`requests`] | an install request to one host, until it is answered |
//! | [`reasons`] | why installs failed |
//! | [`rollout`] | each host's part in a rollout |
//! | [`presence`] | whether a node is up, as a topology service reports |
//! | [`topology`] | which peers are bound and have sent nothing yet |
//! | [`ways`] | by which way each node is heard, and so sent to |
//! | [`paths`] | by which links each node is heard, and at which addresses |
//! | [`drops`] | when to send DropHostReq |
//! | [`host_kinds`] | what each kind of host should have |
//! | [`sync`] | the repository that controllers keep together |
//! | [`agent`] | an agent: wires the next two |
//! | [`acks`] | when to send HelloAgentAck |
//! | [`installed`] | the snapshot of what is installed |
//!
//! [`Action`]: actions::Action

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod acks;
pub mod actions;
pub mod agent;
pub mod controller;
pub mod drops;
pub mod event;
pub mod host_kinds;
pub mod hosts;
pub mod installed;
pub mod movement;
pub mod node;
pub mod pacing;
pub mod paths;
pub mod presence;
pub mod probes;
pub mod queries;
pub mod random;
pub mod reasons;
pub mod requests;
pub mod rollout;
pub mod spread;
pub mod sync;
pub mod topology;
pub mod ways;
