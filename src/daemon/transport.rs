//! The transport that was compiled in: TIPC where the feature `tipc` is on, else UDP.
//! Each offers the same names: `Transport`, `Endpoint`, `Batch`, `Stream`,
//! `BlockingStream`, `blocking` and `set_patience`, `Origin` and `origin`, `Door`, `Listener`, `View`,
//! `OpenError`, `NAME`, `STEP_PROOFS`.

#[cfg(feature = "tipc")]
pub use crate::tipc::*;
#[cfg(all(feature = "udp", not(feature = "tipc")))]
pub use crate::udp::*;

#[cfg(not(any(feature = "udp", feature = "tipc")))]
compile_error!("a thimble with std needs a transport: build with the feature `udp` or `tipc`");
