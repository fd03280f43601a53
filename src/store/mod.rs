//! A controller's repository on disk, and the incarnation that every node keeps.
//!
//! ```text
//! STATE_DIR/daemon.lock          held by the daemon while it runs
//! STATE_DIR/incarnation          the number of the last start
//! STATE_DIR/repo/lock            held by the process that changes anything below
//! STATE_DIR/repo/map             all entries, replica, counter, purge floor
//! STATE_DIR/repo/controllers     all other controllers ever known
//! STATE_DIR/repo/blobs/HASH.patch, .minisig, .index
//! STATE_DIR/repo/blobs/HASH.fetch    a patch file that is being fetched
//! ```
//!
//! A reported change is durable. A file is replaced by writing another beside it, fsync,
//! rename, and fsync of the directory; an index, which follows from its patch, only by a
//! write. A blob is whole and durable before the map names
//! it, and is removed only after the map no longer does. So a power cut leaves the old
//! map or the new one, with all of its blobs. It may also leave unfinished files and
//! blobs that no entry names; [`load()`] removes them at the next start. An entry from
//! another controller may be here before its blob: [`fetch_blobs`] fetches those.
//!
//! Each job here runs in a worker process of its own. A job holds the lock while it
//! changes the map or gives a blob its name, and no longer: it copies and hashes files
//! before. Jobs that only read do not take the lock, since a map is always replaced as a
//! whole.

mod batch;
mod blobs;
mod change;
mod collision;
mod controllers;
mod disk;
mod durable;
mod error;
mod fetch;
mod floor;
mod hashing;
pub mod incarnation;
mod index;
mod load;
mod map_file;
mod partial;
mod pull;
mod purge;
mod requirement;
mod rollouts;
mod sealed_file;
mod serve;
mod show;
mod signed;
pub mod state_dir;
mod sys;
mod upload;

pub use blobs::Blob;
pub use change::change;
pub use disk::Store;
pub use error::{JobFailure, StoreError};
pub use fetch::fetch_blobs;
pub use load::load;
pub use pull::{MapHead, MapPart, MapSource, pull};
pub use purge::{drop_controller, purge};
pub use rollouts::change_rollout;
pub use serve::{blob, manifest};
pub use show::show;
pub use upload::{Offered, upload};
