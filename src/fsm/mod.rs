//! Messages and events to state and actions. No I/O, no clock, no heap.
//!
//! All state machines have one shape: `on_message` and `on_event` say what
//! happened, `on_timeout` that time passed (early: it does nothing), `poll_at`
//! when it will want to know; what they want done they push as [`Action`]s.
//! `invariants` checks what must always hold.
//!
//! | file | what it decides |
//! |---|---|
//! | [`node`] | which role a message or event is for |
//! | [`controller`] | a controller: wires the next eleven |
//! | [`pacing`] | when to say HelloAgent and how long answers may take |
//! | [`hosts`] | what is known of a host |
//! | [`queries`] | whom to ask in detail |
//! | [`requests`] | an install request to one host, until it is answered |
//! | [`reasons`] | why installs did not go well |
//! | [`rollout`] | how each host stands in a rollout |
//! | [`presence`] | whether a node is there, as a topology service tells it |
//! | [`topology`] | who is bound and was not heard |
//! | [`drops`] | when to say that a host is to be forgotten |
//! | [`host_kinds`] | what each kind of host should have |
//! | [`sync`] | the repository that controllers keep together |
//! | [`agent`] | an agent: wires the next two |
//! | [`acks`] | when to say HelloAgentAck |
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
pub mod node;
pub mod pacing;
pub mod presence;
pub mod queries;
pub mod random;
pub mod reasons;
pub mod requests;
pub mod rollout;
pub mod sync;
pub mod topology;
