//! The TIPC transport: service ranges, multicast to them, SOCK_STREAM sessions, and the
//! topology service that tells who is there.
//!
//! [`address`], [`subscription`], [`event`] and [`topology`] are part of the core, and
//! there without the feature `tipc`: no system call, no heap, no clock, no panic.

pub mod address;
#[cfg(feature = "tipc")]
pub mod batch;
pub mod event;
#[cfg(feature = "tipc")]
pub mod link;
#[cfg(feature = "tipc")]
pub mod services;
#[cfg(feature = "tipc")]
pub mod socket;
#[cfg(feature = "tipc")]
pub mod spread;
#[cfg(feature = "tipc")]
pub mod stream;
pub mod subscription;
#[cfg(feature = "tipc")]
mod sys;
#[cfg(feature = "tipc")]
pub mod taken;
pub mod topology;
#[cfg(feature = "tipc")]
pub mod transport;
#[cfg(feature = "tipc")]
pub mod view;
#[cfg(feature = "tipc")]
pub mod watcher;

#[cfg(feature = "tipc")]
pub use batch::Batch;
#[cfg(feature = "tipc")]
pub use spread::SPREAD_SOCKETS;
#[cfg(feature = "tipc")]
pub use stream::{Listener, Stream};
#[cfg(feature = "tipc")]
pub use transport::{
    BlockingStream, Door, ENDPOINTS, Endpoint, NAME, OpenError, Origin, STEP_PROOFS, Transport, blocking,
    origin, set_patience,
};
#[cfg(feature = "tipc")]
pub use view::TopologyView;
