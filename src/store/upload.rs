//! Patch files into the store: each wholly, or not at all.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::blobs::BlobStore;
use super::disk::Store;
use super::error::{JobFailure, Stop, StoreError, finish, tell};
use super::{durable, index};
use crate::config::Config;
use crate::failpoint;
use crate::job::Report;
use crate::job::reporter::Reporter;
use crate::limits;
use crate::patch::PatchError;
use crate::patch::archive;
use crate::patch::signature::{Claim, TrustedKeys, VerifiedFile};
use crate::repo::entry::{Entry, EntryState};
use crate::repo::rules::{self, Upload};
use crate::types::Text;

/// A patch file on its way into the store.
#[derive(Debug)]
pub struct Offered {
    /// What its owner calls it, for messages.
    pub name: String,
    /// The patch file.
    pub patch: File,
    /// Its `.minisig` file.
    pub signature: File,
}

/// Takes the files one after the other: signature, archive, rules, then durably
/// the blob and durably the map, under a new replica where `renew` says so. The
/// store's lock is held for the rules and what follows, not for the copying.
///
/// Reports [`Report::Entry`], [`Report::BlobHere`] and [`Report::Item`] for each
/// that is in, then `Done`; of one that was in already, `BlobHere` where its file
/// was missing. At the first that is not taken `Failed`, and those after it are
/// not looked at.
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
    // Makes the store where there is none, and lets go of it again.
    let blobs = Store::open(&config.node.state_dir)?.blobs();
    let mut desk = Desk { state_dir: &config.node.state_dir, blobs, keys, renew };
    for mut file in files {
        let taken = desk.take(&mut file);
        // Gone already where it got its name.
        durable::forget(&desk.blobs.upload());
        let line = match taken? {
            Taken::New(entry) => {
                tell(reporter, &Report::Entry(entry.clone()))?;
                tell(reporter, &Report::BlobHere { hash: entry.hash })?;
                Text::format(format_args!("{} is now available", entry.id))
            }
            Taken::Already { entry, was_missing } => {
                if was_missing {
                    tell(reporter, &Report::BlobHere { hash: entry.hash })?;
                }
                Text::format(format_args!("{} is already in the repository", entry.id))
            }
        };
        tell(reporter, &Report::Item(line))?;
    }
    Ok(())
}

enum Taken {
    New(Entry),
    Already {
        entry: Entry,
        /// Its file was not there until now.
        was_missing: bool,
    },
}

/// Where files are taken in.
struct Desk<'a> {
    state_dir: &'a Path,
    blobs: BlobStore,
    keys: TrustedKeys,
    /// The next commit must be under a new replica.
    renew: bool,
}

impl Desk<'_> {
    fn take(&mut self, file: &mut Offered) -> Result<Taken, JobFailure> {
        let of_patch = |error: PatchError| JobFailure::of_patch(&file.name, &error);
        let of_store = |error: StoreError| JobFailure::refused(format_args!("{}: {error}", file.name));
        let mut signature = Vec::new();
        let most = limits::SIGNATURE_BYTES as u64 + 1;
        let read = (&mut file.signature).take(most).read_to_end(&mut signature);
        read.map_err(|error| of_patch(PatchError::Io(error)))?;

        let path = self.blobs.upload();
        let (mut copy, verified) = copy(&path, &self.keys, &mut file.patch, &signature, &file.name)?;
        copy.rewind().map_err(|error| of_patch(PatchError::Io(error)))?;
        let index = archive::index(&copy).map_err(of_patch)?;
        durable::sync(&copy).map_err(|error| of_store(StoreError::at(&path)(error)))?;

        let mut store = Store::open(self.state_dir).map_err(of_store)?;
        if self.renew {
            store.renew().map_err(of_store)?;
        }
        let entry = Entry {
            id: index.metadata.id.clone(),
            hash: verified.hash,
            size_bytes: verified.size_bytes,
            state: EntryState::Available,
            stamp: store.next_stamp(),
            meta: index.metadata.entry_meta(),
        };
        let mut slots = Vec::new();
        let verdict = rules::check_upload(&store.map(&mut slots), &entry)?;
        if verdict == Upload::Already && self.blobs.has(&entry) {
            return Ok(Taken::Already { entry, was_missing: false });
        }
        let paths = index::seal(&index::of(&index));
        if let Err(error) = self.blobs.place(&path, &entry.hash, &signature, Some(&paths)) {
            if verdict == Upload::New {
                // Nobody names it; where this fails too, the next start removes it.
                let _ = self.blobs.remove(&entry.hash);
            }
            return Err(of_store(error));
        }
        if verdict == Upload::Already {
            // The entry was there without its file, which the upload has mended. That
            // counts as the first change, so what comes next is not renewed again.
            if self.renew {
                store.commit(&[]).map_err(of_store)?;
                self.renew = false;
            }
            return Ok(Taken::Already { entry, was_missing: true });
        }
        if let Err(error) = store.commit(std::slice::from_ref(&entry)) {
            if store.is_as_before() {
                let _ = self.blobs.remove(&entry.hash);
            }
            return Err(of_store(error));
        }
        self.renew = false;
        Ok(Taken::New(entry))
    }
}

/// Copies a patch to `path`, hashing on the way.
fn copy(
    path: &Path,
    keys: &TrustedKeys,
    patch: &mut File,
    signature: &[u8],
    name: &str,
) -> Result<(File, VerifiedFile), JobFailure> {
    let of_patch = |error: PatchError| JobFailure::of_patch(name, &error);
    let claim = Claim::parse(signature, keys).map_err(|error| of_patch(error.into()))?;
    let mut pass = claim.begin().map_err(|error| of_patch(error.into()))?;
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
