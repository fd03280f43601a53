//! Adds uploaded patch files to the store, each as a whole or not at all.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::blobs::BlobStore;
use super::disk::Store;
use super::error::{JobFailure, Stop, StoreError, finish, send};
use super::signed::{self, Corrected};
use super::{durable, floor, index};
use crate::config::Config;
use crate::failpoint;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::limits;
use crate::patch::PatchError;
use crate::patch::archive::{self, Member};
use crate::patch::caution::{self, Caution, Cautions};
use crate::patch::signature::{Claim, TrustedKeys, VerifiedFile};
use crate::repo::entry::{Entry, EntryState};
use crate::repo::rules::{self, Upload};
use crate::types::{Hash, Reason, Text};

/// A patch file that is offered to the store.
#[derive(Debug)]
pub struct Offered {
    /// Its name for messages.
    pub name: String,
    /// The patch file.
    pub patch: File,
    /// Its `.minisig` file.
    pub signature: File,
}

/// Adds the files one after the other. Checks signature, archive and rules, then writes
/// the blob and the map durably, with `renew` under a new replica. Holds the store's
/// lock from the rules on, not while it copies.
///
/// Reports [`Report::Entry`], [`Report::BlobHere`] and [`Report::Item`] for each new
/// file, then `Done`. For a patch that is in the repository already, reports `BlobHere`
/// if its file was missing. Reports `Failed` at the first file that is refused, and does
/// not read those after it.
///
/// # Errors
/// The reporter's.
pub fn upload(
    config: &Config,
    files: Vec<Offered>,
    renew: bool,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    finish(run(config, files, renew, reporter), reporter)
}

fn run(config: &Config, files: Vec<Offered>, renew: bool, reporter: &mut dyn Reporter) -> Result<(), Stop> {
    let keys = TrustedKeys::parse(&config.security.trusted_keys)?;
    // Makes the store if it is missing, and unlocks it again.
    let blobs = Store::open(&config.node.state_dir)?.blobs();
    let mut uploader = Uploader { state_dir: &config.node.state_dir, blobs, keys, renew };
    for mut file in files {
        let added = uploader.add(&mut file);
        // They are gone already if they got their names.
        durable::try_remove(&uploader.blobs.upload());
        durable::try_remove(&BlobStore::beside(&uploader.blobs.upload()));
        let line = match added? {
            Added::New { entry, cautions } => {
                send(reporter, &Report::Entry(entry.clone()))?;
                send(reporter, &Report::BlobHere { hash: entry.hash })?;
                floor::report(&uploader.blobs, &entry, reporter)?;
                available(&entry, &cautions)
            }
            Added::Already { entry, was_missing, corrected } => {
                corrected.into_iter().try_for_each(|one| one.report(reporter))?;
                if was_missing {
                    send(reporter, &Report::BlobHere { hash: entry.hash })?;
                    floor::report(&uploader.blobs, &entry, reporter)?;
                }
                Text::format(format_args!("{} is already in the repository", entry.id))
            }
        };
        send(reporter, &Report::Item(line))?;
    }
    Ok(())
}

/// The line for a new patch, with what an operator should look at.
fn available(entry: &Entry, cautions: &[Caution]) -> Reason {
    let line = format!("{} is now available", entry.id);
    if cautions.is_empty() {
        return Reason::truncated(&line);
    }
    let line = line + "; caution: ";
    let cautions = caution::in_one_line(cautions, limits::REASON_BYTES.saturating_sub(line.len()));
    Reason::format(format_args!("{line}{cautions}"))
}

/// The result of adding a file.
enum Added {
    New {
        entry: Entry,
        cautions: Vec<Caution>,
    },
    Already {
        entry: Entry,
        /// Its file was missing until now.
        was_missing: bool,
        /// The entry, if it said something else than the file.
        corrected: Vec<Corrected>,
    },
}

/// Adds files to one store.
struct Uploader<'a> {
    state_dir: &'a Path,
    blobs: BlobStore,
    keys: TrustedKeys,
    /// The next commit must be under a new replica.
    renew: bool,
}

impl Uploader<'_> {
    fn add(&mut self, file: &mut Offered) -> Result<Added, JobFailure> {
        let of_patch = |error: PatchError| JobFailure::of_patch(&file.name, &error);
        let of_store = |error: StoreError| JobFailure::refused(format_args!("{}: {error}", file.name));
        let mut signature = Vec::new();
        let most = limits::SIGNATURE_BYTES as u64 + 1;
        let read = (&mut file.signature).take(most).read_to_end(&mut signature);
        read.map_err(|error| of_patch(PatchError::Io(error)))?;

        let path = self.blobs.upload();
        let (mut copy, verified) = copy(&path, &self.keys, &mut file.patch, &signature, &file.name)?;
        copy.rewind().map_err(|error| of_patch(PatchError::Io(error)))?;
        let (mut cautions, mut paths) = (Cautions::new(), index::Collector::default());
        let mut look = |member: &Member| {
            cautions.add(member);
            paths.add(member);
        };
        let metadata = archive::members(&copy, &mut look).map_err(of_patch)?.metadata;
        durable::sync(&copy).map_err(|error| of_store(StoreError::at(&path)(error)))?;

        let mut store = Store::open(self.state_dir).map_err(of_store)?;
        if self.renew {
            store.renew().map_err(of_store)?;
        }
        let entry = Entry {
            id: metadata.id.clone(),
            hash: verified.hash,
            size_bytes: verified.size_bytes,
            state: EntryState::Available,
            stamp: store.next_stamp(),
            meta: metadata.entry_meta(),
        };
        let mut slots = Vec::new();
        let verdict = rules::check_upload(&store.map(&mut slots), &entry)?;
        if verdict == Upload::Already && self.blobs.has(&entry) {
            let corrected = signed::correct(&mut store, |held| held.id == entry.id).map_err(of_store)?;
            return Ok(Added::Already { entry, was_missing: false, corrected });
        }
        if let Some(floor) = metadata.floor.as_ref().filter(|_| verdict == Upload::New) {
            floor::check_upload(&entry.id, floor, store.entries(), &self.blobs)?;
        }
        let paths = index::seal(&paths.finish(&metadata));
        if let Err(error) = self.publish(&path, &entry.hash, &signature, &paths) {
            if verdict == Upload::New {
                // No entry names it; if this fails too, the next start removes it.
                let _ = self.blobs.remove(&entry.hash);
            }
            return Err(of_store(error));
        }
        if verdict == Upload::Already {
            // The entry was there without its file. Adding the file counts as the first
            // change, so the next change does not renew the replica again.
            if self.renew {
                store.commit(&[]).map_err(of_store)?;
                self.renew = false;
            }
            let corrected = signed::correct(&mut store, |held| held.id == entry.id).map_err(of_store)?;
            return Ok(Added::Already { entry, was_missing: true, corrected });
        }
        if let Err(error) = store.commit(std::slice::from_ref(&entry)) {
            if store.is_as_before() {
                let _ = self.blobs.remove(&entry.hash);
            }
            return Err(of_store(error));
        }
        self.renew = false;
        Ok(Added::New { entry, cautions: cautions.found() })
    }
}

impl Uploader<'_> {
    /// Gives the patch file at `path`, which is durable, its name, with its signature and index.
    fn publish(&self, path: &Path, hash: &Hash, signature: &[u8], index: &[u8]) -> Result<(), StoreError> {
        let beside = BlobStore::beside(path);
        let written = durable::write(&beside, signature).and_then(|file| durable::sync(&file));
        written.map_err(StoreError::at(&beside))?;
        self.blobs.write_index(hash, index);
        self.blobs.name_signature(path, hash)?;
        self.blobs.sync()?;
        self.blobs.name_patch(path, hash)?;
        self.blobs.sync()?;
        // A part fetched from another controller is no longer needed.
        durable::try_remove(&self.blobs.fetched(hash));
        Ok(())
    }
}

/// Copies a patch to `path` and verifies it.
fn copy(
    path: &Path,
    keys: &TrustedKeys,
    patch: &mut File,
    signature: &[u8],
    name: &str,
) -> Result<(File, VerifiedFile), JobFailure> {
    let of_patch = |error: PatchError| JobFailure::of_patch(name, &error);
    let claim = Claim::parse(signature, keys).map_err(|error| of_patch(error.into()))?;
    let mut pass = claim.begin_file(patch).map_err(|error| of_patch(error.into()))?;
    let of_store = |error| JobFailure::refused(format_args!("{name}: {}", StoreError::at(path)(error)));
    let mut copy = durable::create(path).map_err(of_store)?;
    let mut buffer = vec![0; 128 * 1024];
    failpoint::hit("writing an upload");
    loop {
        let len = match patch.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(of_patch(PatchError::Io(error))),
        };
        pass.update(&buffer[..len]).map_err(|error| of_patch(error.into()))?;
        copy.write_all(&buffer[..len]).map_err(of_store)?;
    }
    let verified = pass.finish().map_err(|error| of_patch(error.into()))?;
    Ok((copy, verified))
}
