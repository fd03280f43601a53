//! A controller's repository on disk, and the incarnation that every node keeps.
//!
//! ```text
//! STATE_DIR/incarnation          the last start's number
//! STATE_DIR/repo/lock            held by whoever changes anything below
//! STATE_DIR/repo/map             all entries, replica, counter, purge floor
//! STATE_DIR/repo/controllers     the other controllers ever met
//! STATE_DIR/repo/blobs/HASH.patch, .minisig, .index
//! STATE_DIR/repo/blobs/HASH.fetch    what has come of one that is not whole yet
//! ```
//!
//! What is said to be done is on the disk: a file is replaced by writing another
//! beside it, fsync, rename, fsync of the directory. A blob is whole and durable
//! before the map names it, and goes only after the map no longer does. So a
//! power cut leaves the old map or the new one, with all the blobs that it had;
//! what it may leave besides, unfinished files and blobs that nobody names, goes
//! at the next start's [`load()`]. An entry that came from another controller may
//! be here before its blob: those are fetched by [`fetch_blobs`].
//!
//! Each job here runs in a worker process of its own. Whoever changes the map or
//! gives a blob its name holds the lock meanwhile, and no longer than that: files
//! are copied and hashed before. Jobs that only read need it not, since a map is
//! only ever replaced as a whole.

mod blobs;
mod change;
mod collision;
mod controllers;
mod disk;
mod durable;
mod error;
mod fetch;
mod hashing;
pub mod incarnation;
mod index;
mod load;
mod map_file;
mod partial;
mod pull;
mod purge;
mod rollouts;
mod sealed_file;
mod serve;
mod show;
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
