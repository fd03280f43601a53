//! The transport that was compiled in. Each offers the same names: `Transport`,
//! `Endpoint`, `Batch`, `Stream`, `Listener`, `OpenError`, `NAME`.

#[cfg(feature = "udp")]
pub use crate::udp::*;

#[cfg(not(feature = "udp"))]
compile_error!("a thimble with std needs a transport: build with the feature `udp`");
