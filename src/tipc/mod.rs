//! The TIPC transport: service ranges, multicast to them, SOCK_STREAM sessions, and the
//! topology service that tells who is there.

pub mod address;
pub mod batch;
pub mod event;
pub mod link;
pub mod socket;
pub mod stream;
pub mod subscription;
mod sys;
pub mod topology;
pub mod transport;
pub mod view;
pub mod watcher;

pub use batch::Batch;
pub use stream::{Listener, Stream};
pub use transport::{BlockingStream, Endpoint, NAME, OpenError, Transport, blocking};
pub use view::View;
