//! Fetches patch files that the map names and that are missing here, from another
//! controller.
//!
//! A file is written to `HASH.fetch` and gets its name when it is whole and verified, so
//! bytes that arrived before a session broke are not fetched twice, and a partial file
//! is never served. Both of its hashes are computed while it arrives, in one pass. If a
//! file is resumed, the part that is here is read and hashed first.

use std::cmp::Reverse;
use std::os::fd::AsFd;
use std::path::Path;
use std::{fmt, io};

use super::batch::{self, Arrived, Batch, Published};
use super::blobs::BlobStore;
use super::controllers::Controllers;
use super::disk;
use super::error::{JobFailure, Stop, StoreError, finish, send};
use super::map_file::Snapshot;
use super::partial::Partial;
use super::{hashing, index};
use crate::config::Config;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::job::{BlobSource, FetchError, Space, SystemError};
use crate::limits;
use crate::patch::archive::{self, Archive};
use crate::patch::metadata::Metadata;
use crate::patch::signature::{Claim, SignatureError, TrustedKeys};
use crate::repo::entry::Entry;
use crate::types::{NodeId, Reason};

/// Fetches every patch file that the map names and that is missing here, the wanted ones
/// first. Checks the signature's key before any byte is fetched, then signature and
/// hash, then the archive's metadata, and only then gives the file its name, together with
/// others if they are small (`batch`); only this last step holds the store's lock. Reads
/// large archives for their indexes when all files are fetched.
///
/// Reports [`Report::BlobHere`] or [`Report::BlobMissing`] with the reason for
/// each, then `Done`; or `Failed` if the session can no longer be used.
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
    named.retain(|entry| !entry.state.is_deleted());
    let mut missing: Vec<&Entry> = named.iter().filter(|entry| !blobs.has(entry)).collect();
    missing.sort_unstable_by(|a, b| (Reverse(a.is_wanted()), &a.id).cmp(&(Reverse(b.is_wanted()), &b.id)));
    let mut batch = Batch::new(&config.node.state_dir, blobs.clone());
    let mut fetch = Fetch { blobs, keys: &keys, peer, source };
    let ended = fetch_all(&mut fetch, &mut batch, &missing, reporter);
    // No job waits for the indexes: a change that needs one earlier reads the patch.
    named.iter().for_each(|entry| index::make(&fetch.blobs, entry));
    ended
}

fn fetch_all<'a>(
    fetch: &mut Fetch<'_>,
    batch: &mut Batch<'a>,
    missing: &[&'a Entry],
    reporter: &mut dyn Reporter,
) -> Result<(), Stop> {
    let mut rest = missing;
    while let [first, ..] = rest {
        let (group, behind) = rest.split_at(batch::group(rest));
        rest = behind;
        if !batch.may_wait_for(first) {
            publish(batch, reporter)?;
        }
        // All signatures, and then all files, without a pause for each.
        if group.len() > 1 {
            group.iter().for_each(|entry| fetch.source.ahead(&entry.hash, entry.size_bytes));
        }
        let mut begun = Vec::with_capacity(group.len());
        for entry in group {
            match fetch.begin(entry) {
                Ok(one) => begun.push(one),
                Err(failure) => failed(entry, failure, batch, reporter)?,
            }
        }
        if begun.len() > 1 {
            for Begun { entry, partial, .. } in &begun {
                if partial.len_bytes() < entry.size_bytes {
                    fetch.source.ahead(&entry.hash, partial.len_bytes());
                }
            }
        }
        for one in begun {
            let entry = one.entry;
            if !batch.may_wait_for(entry) {
                publish(batch, reporter)?;
            }
            match fetch.finish(one) {
                Ok(arrived) => batch.add(arrived),
                Err(failure) => failed(entry, failure, batch, reporter)?,
            }
        }
    }
    publish(batch, reporter)
}

/// Reports a file that was not fetched. If the session can no longer be used, ends the job, with
/// the files that have come.
fn failed(
    entry: &Entry,
    failure: FetchFailure,
    batch: &mut Batch<'_>,
    reporter: &mut dyn Reporter,
) -> Result<(), Stop> {
    let FetchFailure::Session(reason) = failure else {
        return report_missing(entry, &failure.to_string(), reporter);
    };
    publish(batch, reporter)?;
    report_missing(entry, &reason, reporter)?;
    Err(JobFailure::refused(reason).into())
}

/// Gives the files that have come their names, and reports what became of each.
fn publish(batch: &mut Batch<'_>, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    for Arrived { entry, floor, end, .. } in batch.publish() {
        match end.unwrap_or(Published::Unnamed) {
            Published::Here(corrected) => {
                corrected.into_iter().try_for_each(|one| one.report(reporter))?;
                send(reporter, &Report::BlobHere { hash: entry.hash })?;
                if let Some(floor) = floor {
                    send(reporter, &Report::FloorHere { hash: entry.hash, floor })?;
                }
            }
            // The patch was deleted while its file was fetched.
            Published::Unnamed => {}
            Published::Failed(why) => report_missing(entry, &format!("{}: {why}", entry.id), reporter)?,
        }
    }
    Ok(())
}

fn report_missing(entry: &Entry, reason: &str, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    send(reporter, &Report::BlobMissing { hash: entry.hash, reason: Reason::truncated(reason) })
}

/// Why a patch file was not fetched.
enum FetchFailure {
    /// This peer does not have it, or it cannot be stored; other files may work.
    File(String),
    /// Its bytes do not match the map or the signature.
    Unverified(String),
    /// The session can no longer be used.
    Session(String),
}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(reason) | Self::Unverified(reason) | Self::Session(reason)) = self;
        f.write_str(reason)
    }
}

/// A file whose signature is here, and perhaps a part of its bytes.
struct Begun<'e> {
    entry: &'e Entry,
    signature: Vec<u8>,
    partial: Partial,
}

struct Fetch<'a> {
    blobs: BlobStore,
    keys: &'a TrustedKeys,
    /// The name of the other controller.
    peer: String,
    source: &'a mut dyn BlobSource,
}

impl Fetch<'_> {
    /// Fetches the signature of a file and checks its key, before any byte is fetched.
    fn begin<'e>(&mut self, entry: &'e Entry) -> Result<Begun<'e>, FetchFailure> {
        if entry.size_bytes > limits::PATCH_FILE_BYTES {
            return Err(self.of_peer(entry, SignatureError::TooLarge));
        }
        let signature = self.signature(entry)?;
        Claim::parse(&signature, self.keys).map_err(|error| self.of_peer(entry, error))?;
        let path = self.blobs.fetched(&entry.hash);
        let partial = Partial::open(path.clone(), entry.size_bytes);
        match partial.map_err(|error| of_disk(entry, &path, error))? {
            Some(partial) => Ok(Begun { entry, signature, partial }),
            None => Err(FetchFailure::File(format!("{} is being fetched already", entry.id))),
        }
    }

    /// Fetches the bytes of a file and verifies it. It is not durable yet.
    fn finish<'e>(&mut self, begun: Begun<'e>) -> Result<Arrived<'e>, FetchFailure> {
        let Begun { entry, signature, mut partial } = begun;
        let keys = self.keys;
        let claim = Claim::parse(&signature, keys).map_err(|error| self.of_peer(entry, error))?;
        loop {
            let was_resumed = partial.len_bytes() > 0;
            match self.bytes(entry, &claim, &mut partial) {
                Ok(()) => break,
                // The part from an earlier session may be at fault.
                Err(FetchFailure::Unverified(_)) if was_resumed => {
                    partial.truncate().map_err(|error| of_disk(entry, partial.path(), error))?;
                }
                Err(failure) => {
                    if matches!(failure, FetchFailure::Unverified(_)) {
                        partial.try_remove();
                    }
                    return Err(failure);
                }
            }
        }
        let metadata = self.check(entry, &partial)?;
        Arrived::new(entry, partial, &signature, &metadata)
            .map_err(|error| FetchFailure::File(format!("{}: {error}", entry.id)))
    }

    /// Fetches the peer's signature of the file, by asking for the file from its end, so
    /// that no byte of it is sent.
    fn signature(&mut self, entry: &Entry) -> Result<Vec<u8>, FetchFailure> {
        let fetched = self.source.blob(&entry.hash, entry.size_bytes, &mut |_| Err(more_than_announced()));
        fetched.map(|fetched| fetched.signature).map_err(|error| self.of_source(entry, 0, error))
    }

    /// Fetches the missing bytes, and checks all bytes against signature and hash.
    fn bytes(&mut self, entry: &Entry, claim: &Claim<'_>, partial: &mut Partial) -> Result<(), FetchFailure> {
        let verified = hashing::alongside(claim, entry.size_bytes, &mut |hash| {
            partial.read(hash).map_err(|error| of_disk(entry, partial.path(), error))?;
            if partial.len_bytes() < entry.size_bytes {
                check_space(entry, partial)?;
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
        let unverified =
            |reason: &dyn fmt::Display| FetchFailure::Unverified(self.of_peer(entry, reason).to_string());
        match verified {
            Ok(verified) if verified.hash == entry.hash => Ok(()),
            Ok(_) => Err(unverified(&"its file has another hash than the map says")),
            Err(error) => Err(unverified(&error)),
        }
    }

    /// Checks that the file is that of this patch. What else the entry has wrong is corrected
    /// later. Writes the index of a small file, and returns the metadata.
    fn check(&self, entry: &Entry, partial: &Partial) -> Result<Metadata, FetchFailure> {
        partial.begin_writing();
        let rewound = || partial.rewound().map_err(|error| of_disk(entry, partial.path(), error));
        let is_of_it = |metadata: &Metadata| metadata.id == entry.id;
        if entry.size_bytes <= batch::SMALL_BYTES {
            let mut paths = index::Collector::default();
            // If it is no whole archive, whoever reads it tells.
            if let Ok(Archive { metadata, .. }) =
                archive::members(rewound()?, &mut |member| paths.add(member))
                && is_of_it(&metadata)
            {
                self.blobs.write_index(&entry.hash, &index::seal(&paths.finish(&metadata)));
                return Ok(metadata);
            }
        }
        let metadata = archive::metadata(rewound()?).map_err(|error| self.of_peer(entry, error))?;
        if !is_of_it(&metadata) {
            let other = format_args!("the file that it names is that of {}", metadata.id);
            return Err(self.of_peer(entry, other));
        }
        Ok(metadata)
    }

    /// A failure that is the peer's fault.
    fn of_peer(&self, entry: &Entry, reason: impl fmt::Display) -> FetchFailure {
        FetchFailure::File(format!("{} of {}: {reason}", entry.id, self.peer))
    }

    /// A failure of the source at byte `so_far`.
    fn of_source(&self, entry: &Entry, so_far: u64, error: FetchError) -> FetchFailure {
        match error {
            FetchError::Refused(reason) => self.of_peer(entry, reason),
            FetchError::Session(error) => FetchFailure::Session(format!(
                "{} of {}: the session broke at byte {so_far} of {} ({}), and goes on from there",
                entry.id,
                self.peer,
                entry.size_bytes,
                SystemError(&error)
            )),
            // In the middle of the file: the rest of it is still to come on the session.
            FetchError::Sink(error) if error.kind() == io::ErrorKind::InvalidData => {
                FetchFailure::Session(self.of_peer(entry, error).to_string())
            }
            FetchError::Sink(error) => {
                let path = self.blobs.fetched(&entry.hash);
                FetchFailure::Session(of_disk(entry, &path, error).to_string())
            }
        }
    }
}

fn of_disk(entry: &Entry, path: &Path, error: io::Error) -> FetchFailure {
    FetchFailure::File(format!("{}: {}", entry.id, StoreError::at(path)(error)))
}

fn more_than_announced() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its file is longer than the map says")
}

/// Checks that there is disk space for the rest of the file.
fn check_space(entry: &Entry, partial: &Partial) -> Result<(), FetchFailure> {
    let path = partial.path();
    let space = Space::of(partial.file().as_fd()).map_err(|error| of_disk(entry, path, error))?;
    let rest_bytes = entry.size_bytes - partial.len_bytes();
    let Some(free_bytes) = space.free_bytes.filter(|free_bytes| rest_bytes > *free_bytes) else {
        return Ok(());
    };
    let (id, size_bytes) = (&entry.id, entry.size_bytes);
    if let Some(total_bytes) = space.total_bytes.filter(|total_bytes| size_bytes > *total_bytes) {
        // The part would only take space from other files.
        partial.try_remove();
        return Err(FetchFailure::File(format!(
            "{id} has {size_bytes} bytes, and the file system of {} only {total_bytes} in all: give it a larger one",
            path.display(),
        )));
    }
    Err(FetchFailure::File(format!(
        "{id}: no space left for {}: it needs {rest_bytes} bytes more and {free_bytes} are free; make room",
        path.display(),
    )))
}
