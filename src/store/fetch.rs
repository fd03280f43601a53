//! Patch files that the map names and that are not here, from another controller.
//!
//! A file comes into `HASH.fetch` and gets its name when it is whole and
//! believed, so what a broken session brought is not fetched twice and nothing
//! partial is ever served. Both its hashes are made as it comes, in one pass; of
//! a file that is resumed, the part that is here is read for them first.

use std::cmp::Reverse;
use std::path::Path;
use std::{fmt, io, panic, thread};

use super::blobs::BlobStore;
use super::controllers::Controllers;
use super::disk::{self, Store};
use super::error::{JobFailure, Stop, StoreError, finish, tell};
use super::map_file::Snapshot;
use super::partial::Partial;
use super::{durable, hashing, index, sys};
use crate::config::Config;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::job::{BlobSource, FetchError};
use crate::limits;
use crate::patch::archive;
use crate::patch::signature::{Claim, SignatureError, TrustedKeys};
use crate::repo::entry::{Entry, EntryState};
use crate::types::{NodeId, Reason};

/// Fetches every patch file that the map names and that is not here, the wanted
/// ones first. The signature's key is looked at before any byte comes, signature
/// and hash before the file is opened as an archive, and what the archive says of
/// itself before the file gets its name; the store's lock is held for that last
/// step alone. The whole archive is read for its index only once no file is waited
/// for.
///
/// Reports [`Report::BlobHere`] or [`Report::BlobMissing`] with the reason for
/// each, then `Done`; or `Failed` where the session is of no more use.
///
/// # Errors
/// The reporter's.
pub fn fetch_blobs(
    config: &Config,
    peer: NodeId,
    source: &mut dyn BlobSource,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    finish(run(config, peer, source, reporter), reporter)
}

fn run(
    config: &Config,
    peer: NodeId,
    source: &mut dyn BlobSource,
    reporter: &mut dyn Reporter,
) -> Result<(), Stop> {
    let keys = TrustedKeys::parse(&config.security.trusted_keys)?;
    let repo = disk::dir(&config.node.state_dir);
    let Some(snapshot) = Snapshot::read(&repo)? else { return Ok(()) };
    let peer = match Controllers::read(&repo)?.name(peer) {
        Some(name) if !name.is_empty() => name.to_string(),
        _ => format!("controller {peer}"),
    };
    let blobs = BlobStore::of(&repo);
    let mut named = snapshot.entries;
    named.retain(|entry| entry.state != EntryState::Deleted);
    let mut missing: Vec<&Entry> = named.iter().filter(|entry| !blobs.has(entry)).collect();
    missing.sort_unstable_by(|a, b| (Reverse(a.is_wanted()), &a.id).cmp(&(Reverse(b.is_wanted()), &b.id)));
    let mut fetch = Fetch { state_dir: &config.node.state_dir, blobs, keys: &keys, peer, source };
    let ended = fetch_all(&mut fetch, &missing, reporter);
    // Nobody waits for these: a change that needs one before reads the patch itself.
    named.iter().for_each(|entry| index::make(&fetch.blobs, entry));
    ended
}

fn fetch_all(fetch: &mut Fetch<'_>, missing: &[&Entry], reporter: &mut dyn Reporter) -> Result<(), Stop> {
    for entry in missing {
        let hash = entry.hash;
        match fetch.one(entry) {
            Ok(true) => tell(reporter, &Report::BlobHere { hash })?,
            // Deleted while its file was on the way.
            Ok(false) => {}
            Err(trouble) => {
                let reason = Reason::truncated(&trouble.to_string());
                tell(reporter, &Report::BlobMissing { hash, reason })?;
                if let Trouble::Session(why) = trouble {
                    return Err(JobFailure::refused(why).into());
                }
            }
        }
    }
    Ok(())
}

/// Why a patch file is not here yet.
enum Trouble {
    /// It cannot be had from this peer, or not be kept; others may.
    File(String),
    /// Its bytes are not those that the map and the signature are about.
    NotBelieved(String),
    /// The session is of no more use.
    Session(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(why) | Self::NotBelieved(why) | Self::Session(why)) = self;
        f.write_str(why)
    }
}

struct Fetch<'a> {
    state_dir: &'a Path,
    blobs: BlobStore,
    keys: &'a TrustedKeys,
    /// What the controller at the other end is called.
    peer: String,
    source: &'a mut dyn BlobSource,
}

impl Fetch<'_> {
    /// Fetches one file. False where the map no longer names it.
    fn one(&mut self, entry: &Entry) -> Result<bool, Trouble> {
        if entry.size_bytes > limits::PATCH_FILE_BYTES {
            return Err(self.of_peer(entry, SignatureError::TooLarge));
        }
        let signature = self.signature(entry)?;
        let keys = self.keys;
        let claim = Claim::parse(&signature, keys).map_err(|error| self.of_peer(entry, error))?;
        let path = self.blobs.fetched(&entry.hash);
        let on_disk = |error| of_disk(entry, &path, error);
        let partial = Partial::open(path.clone(), entry.size_bytes).map_err(on_disk)?;
        let Some(mut partial) = partial else {
            return Err(Trouble::File(format!("{} is being fetched already", entry.id)));
        };
        loop {
            let was_resumed = partial.len_bytes() > 0;
            match self.bytes(entry, &claim, &mut partial) {
                Ok(()) => break,
                // What was here may be the fault.
                Err(Trouble::NotBelieved(_)) if was_resumed => partial.begin_anew().map_err(on_disk)?,
                Err(trouble) => {
                    if matches!(trouble, Trouble::NotBelieved(_)) {
                        partial.forget();
                    }
                    return Err(trouble);
                }
            }
        }
        self.settle(entry, &partial)?;
        self.place(entry, &partial, &signature)
    }

    /// The signature that the peer has beside the file: asked for at the file's
    /// end, so that no byte of it comes.
    fn signature(&mut self, entry: &Entry) -> Result<Vec<u8>, Trouble> {
        let fetched = self.source.blob(&entry.hash, entry.size_bytes, &mut |_| Err(more_than_announced()));
        fetched.map(|fetched| fetched.signature).map_err(|error| self.of_source(entry, 0, error))
    }

    /// Fetches the bytes that are not here, and holds them all against signature
    /// and hash.
    fn bytes(&mut self, entry: &Entry, claim: &Claim<'_>, partial: &mut Partial) -> Result<(), Trouble> {
        let verified = hashing::alongside(claim, |hash| {
            partial.read(hash).map_err(|error| of_disk(entry, partial.path(), error))?;
            if partial.len_bytes() < entry.size_bytes {
                make_sure_of_room(entry, partial)?;
                let fetched = self.source.blob(&entry.hash, partial.len_bytes(), &mut |bytes| {
                    if entry.size_bytes - partial.len_bytes() < bytes.len() as u64 {
                        return Err(more_than_announced());
                    }
                    hash(bytes);
                    partial.write(bytes)
                });
                fetched.map_err(|error| self.of_source(entry, partial.len_bytes(), error))?;
            }
            if partial.len_bytes() < entry.size_bytes {
                return Err(self.of_peer(entry, "its file is shorter than the map says"));
            }
            Ok(())
        })?;
        let not_believed =
            |why: &dyn fmt::Display| Trouble::NotBelieved(self.of_peer(entry, why).to_string());
        match verified {
            Ok(verified) if verified.hash == entry.hash => Ok(()),
            Ok(_) => Err(not_believed(&"its file is another one than the map says")),
            Err(error) => Err(not_believed(&error)),
        }
    }

    /// Makes the bytes durable and, meanwhile, reads what the patch says of itself.
    /// A file that is not what its entry says stays as it is, since no peer has a
    /// better one.
    fn settle(&self, entry: &Entry, partial: &Partial) -> Result<(), Trouble> {
        let on_disk = |error| of_disk(entry, partial.path(), error);
        let file = partial.rewound().map_err(on_disk)?;
        let (synced, metadata) = thread::scope(|scope| {
            let syncing = scope.spawn(|| durable::sync(file));
            let metadata = archive::metadata(file);
            (syncing.join().unwrap_or_else(|cause| panic::resume_unwind(cause)), metadata)
        });
        synced.map_err(on_disk)?;
        let metadata = metadata.map_err(|error| self.of_peer(entry, error))?;
        if (&metadata.id, &metadata.entry_meta()) != (&entry.id, &entry.meta) {
            return Err(self.of_peer(entry, "the file says other of itself than the map says of it"));
        }
        Ok(())
    }

    /// Gives the file its name, if the map still names it.
    fn place(&self, entry: &Entry, partial: &Partial, signature: &[u8]) -> Result<bool, Trouble> {
        let of_store = |error: StoreError| Trouble::File(format!("{}: {error}", entry.id));
        let store = Store::open(self.state_dir).map_err(of_store)?;
        let is_named = |other: &Entry| {
            (&other.id, other.hash) == (&entry.id, entry.hash) && other.state != EntryState::Deleted
        };
        if !store.entries().iter().any(is_named) {
            partial.forget();
            return Ok(false);
        }
        self.blobs.place(partial.path(), &entry.hash, signature, None).map_err(of_store)?;
        Ok(true)
    }

    /// The peer's own file is at fault, or its words.
    fn of_peer(&self, entry: &Entry, why: impl fmt::Display) -> Trouble {
        Trouble::File(format!("{} of {}: {why}", entry.id, self.peer))
    }

    /// What was asked for did not come, or not further than to byte `so_far`.
    fn of_source(&self, entry: &Entry, so_far: u64, error: FetchError) -> Trouble {
        match error {
            FetchError::Refused(reason) => self.of_peer(entry, reason),
            FetchError::Session(error) => Trouble::Session(format!(
                "{} of {}: the session broke at byte {so_far} of {} ({}), and goes on from there",
                entry.id,
                self.peer,
                entry.size_bytes,
                error.kind()
            )),
            // In the middle of the file: what follows on the session is not for us.
            FetchError::Sink(error) if error.kind() == io::ErrorKind::InvalidData => {
                Trouble::Session(self.of_peer(entry, error).to_string())
            }
            FetchError::Sink(error) => {
                let path = self.blobs.fetched(&entry.hash);
                Trouble::Session(of_disk(entry, &path, error).to_string())
            }
        }
    }
}

fn of_disk(entry: &Entry, path: &Path, error: io::Error) -> Trouble {
    Trouble::File(format!("{}: {}", entry.id, StoreError::at(path)(error)))
}

fn more_than_announced() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its file is longer than the map says")
}

/// Looks whether the rest of the file can be kept, before it comes.
fn make_sure_of_room(entry: &Entry, partial: &Partial) -> Result<(), Trouble> {
    let path = partial.path();
    let room = sys::room(partial.file()).map_err(|error| of_disk(entry, path, error))?;
    let rest_bytes = entry.size_bytes - partial.len_bytes();
    if rest_bytes <= room.free_bytes {
        return Ok(());
    }
    let (id, size_bytes) = (&entry.id, entry.size_bytes);
    if size_bytes > room.whole_bytes {
        // It would only keep others out.
        partial.forget();
        return Err(Trouble::File(format!(
            "{id} has {size_bytes} bytes, and the file system of {} only {} in all: give it a larger one",
            path.display(),
            room.whole_bytes
        )));
    }
    Err(Trouble::File(format!(
        "{id}: no space left for {}: it needs {rest_bytes} bytes more and {} are free; make room",
        path.display(),
        room.free_bytes
    )))
}
