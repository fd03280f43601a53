//! A controller's store in a scratch directory. Its jobs are called as the daemon's
//! workers call them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thimble::config::Config;
use thimble::job::reporter::Reporter;
use thimble::job::{BlobSource, FetchError, Fetched, Sink};
use thimble::job::{Change, PatchIds, RefusalKind, Report, RolloutChange};
use thimble::repo::entry::{Entry, EntryState, Stamp};
use thimble::repo::rollout::Rollout;
use thimble::store::{self, MapHead, MapPart, MapSource, Offered, Store};
use thimble::types::{Digest, Hash, Hostname, NodeId, PatchId, Reason};

use super::sign::{Signer, signature_path};

/// Keeps all reports.
#[derive(Default)]
pub struct Reports(pub Vec<Report>);

impl Reporter for Reports {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        assert!(!self.is_over(), "nothing follows the last report");
        self.0.push(report.clone());
        Ok(())
    }
}

impl Reports {
    fn is_over(&self) -> bool {
        matches!(self.0.last(), Some(Report::Done | Report::Failed { .. }))
    }

    /// The reported entries.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |report: &Report| match report {
            Report::Entry(entry) => Some(entry.clone()),
            _ => None,
        };
        self.0.iter().filter_map(entry).collect()
    }

    /// The reported lines.
    pub fn items(&self) -> Vec<String> {
        let item = |report: &Report| match report {
            Report::Item(line) => Some(line.to_string()),
            _ => None,
        };
        self.0.iter().filter_map(item).collect()
    }

    /// The outcome of the job.
    pub fn end(&self) -> Result<(), (RefusalKind, String)> {
        match self.0.last() {
            Some(Report::Done) => Ok(()),
            Some(Report::Failed { kind, reason }) => Err((*kind, reason.to_string())),
            other => panic!("a job ended with {other:?}"),
        }
    }

    /// Why it was refused.
    pub fn refusal(&self) -> String {
        self.end().expect_err("it should be refused").1
    }

    /// The reports of a job that must have succeeded.
    pub fn done(self) -> Self {
        assert_eq!(self.end(), Ok(()));
        self
    }
}

/// The text of the configuration of a controller that trusts a minisign public key.
pub fn config(state_dir: &Path, trusted: &str) -> String {
    format!(
        "[node]\nroles = [\"controller\"]\nstate_dir = \"{}\"\nhostname = \"c\"\n\
         [network]\ninterface = \"lo\"\n\
         [security]\nauth = \"none\"\ntrusted_keys = [\"{}\"]\n",
        state_dir.display(),
        trusted
    )
}

/// A controller, as its configuration and its jobs make it.
pub struct Controller {
    pub config: Config,
}

impl Controller {
    /// A controller that trusts a minisign public key, given as its base64 line.
    pub fn new(state_dir: &Path, trusted: &str) -> Self {
        let text = config(state_dir, trusted);
        Self { config: Config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}")) }
    }

    pub fn load(&self) -> Reports {
        let mut reports = Reports::default();
        store::load(&self.config, true, &mut reports).unwrap();
        reports
    }

    /// Uploads files that have their signatures beside them.
    pub fn upload(&self, patches: &[&Path]) -> Reports {
        self.upload_as(patches, false)
    }

    /// As [`upload`](Self::upload), with a new replica id if `renew`.
    pub fn upload_as(&self, patches: &[&Path], renew: bool) -> Reports {
        let offered = |path: &&Path| Offered {
            name: path.file_name().unwrap().to_str().unwrap().to_string(),
            patch: File::open(path).unwrap(),
            signature: File::open(signature_path(path)).unwrap(),
        };
        let mut reports = Reports::default();
        store::upload(&self.config, patches.iter().map(offered).collect(), renew, &mut reports).unwrap();
        reports
    }

    pub fn change(&self, to: EntryState, ids: &[&str]) -> Reports {
        self.change_with(to, ids, false)
    }

    /// The same with `--below-floor`.
    pub fn change_below_floor(&self, to: EntryState, ids: &[&str]) -> Reports {
        self.change_with(to, ids, true)
    }

    fn change_with(&self, to: EntryState, ids: &[&str], below_floor: bool) -> Reports {
        let ids: PatchIds = ids.iter().map(|id| PatchId::new(id).unwrap()).collect();
        let mut reports = Reports::default();
        let change = Change { to, ids, below_floor, renew: false };
        store::change(&self.config, &change, &mut reports).unwrap();
        reports
    }

    /// Changes the rollout, if the map still has the one with this stamp.
    pub fn change_rollout(&self, to: Rollout, instead_of: Option<Stamp>) -> Reports {
        let mut reports = Reports::default();
        let change = RolloutChange { to, instead_of, renew: false };
        store::change_rollout(&self.config, &change, &mut reports).unwrap();
        reports
    }

    /// The map as another controller reads it. `name` is this controller's hostname.
    pub fn map(&self, name: &str) -> TheirMap {
        let store = Store::open(&self.config.node.state_dir).unwrap();
        TheirMap { rollout: store.rollout().copied(), ..TheirMap::new(name, store.floor(), store.entries()) }
    }

    /// Merges the map of the controller with this node id.
    pub fn pull(&self, peer: u64, map: &mut TheirMap) -> Reports {
        let mut reports = Reports::default();
        store::pull(&self.config, NodeId(peer), 0, map, &mut reports).unwrap();
        reports
    }

    /// The blobs as another controller fetches them.
    pub fn blobs(&self) -> TheirBlobs {
        let state_dir = self.config.node.state_dir.clone();
        TheirBlobs { state_dir, breaks_after: None, asked: Vec::new(), meanwhile: None }
    }

    /// Fetches what is missing from the controller with this node id.
    pub fn fetch(&self, peer: u64, blobs: &mut TheirBlobs) -> Reports {
        let mut reports = Reports::default();
        store::fetch_blobs(&self.config, NodeId(peer), blobs, &mut reports).unwrap();
        reports
    }

    pub fn purge(&self) -> Reports {
        self.purge_agreed(self.digest())
    }

    /// Purges, if the map is still the one that all agreed on.
    pub fn purge_agreed(&self, agreed: Digest) -> Reports {
        let mut reports = Reports::default();
        store::purge(&self.config, agreed, &mut reports).unwrap();
        reports
    }

    /// The digest of the map.
    pub fn digest(&self) -> Digest {
        let store = Store::open(&self.config.node.state_dir).unwrap();
        store.map(&mut Vec::new()).digest()
    }

    pub fn drop_controller(&self, node: u64) -> Reports {
        let mut reports = Reports::default();
        store::drop_controller(&self.config, NodeId(node), &mut reports).unwrap();
        reports
    }

    /// What is in the repository: id and state, sorted.
    pub fn states(&self) -> Vec<(String, EntryState)> {
        let entries = self.load().done().entries();
        let mut states: Vec<_> = entries.iter().map(|entry| (entry.id.to_string(), entry.state)).collect();
        states.sort();
        states
    }

    /// The files of the repository, relative to it, sorted.
    pub fn files(&self) -> Vec<String> {
        let repo = self.config.node.state_dir.join("repo");
        let mut files = Vec::new();
        let mut dirs = vec![repo.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.push(path.strip_prefix(&repo).unwrap().to_str().unwrap().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

/// A controller's map as another one reads it.
pub struct TheirMap {
    pub head: MapHead,
    pub entries: Vec<Entry>,
    pub rollout: Option<Rollout>,
    /// The session breaks after this many entries.
    pub breaks_after: Option<usize>,
    sent: usize,
}

impl TheirMap {
    pub fn new(name: &str, floor: u64, entries: &[Entry]) -> Self {
        let head = MapHead { hostname: Hostname::new(name).unwrap(), floor };
        Self { head, entries: entries.to_vec(), rollout: None, breaks_after: None, sent: 0 }
    }
}

impl MapSource for TheirMap {
    fn head(&mut self) -> Result<MapHead, FetchError> {
        self.sent = 0;
        Ok(self.head.clone())
    }

    fn next(&mut self) -> Result<Option<MapPart>, FetchError> {
        if self.breaks_after == Some(self.sent) {
            return Err(FetchError::Session(io::ErrorKind::ConnectionReset.into()));
        }
        self.sent += 1;
        let rollout = (self.sent == self.entries.len() + 1).then_some(self.rollout).flatten();
        let entry = self.entries.get(self.sent - 1).cloned();
        Ok(entry.map(MapPart::Entry).or(rollout.map(MapPart::Rollout)))
    }
}

/// A controller's blobs as another one fetches them, and what was asked for.
pub struct TheirBlobs {
    state_dir: PathBuf,
    /// The session breaks after this many bytes of patch files.
    pub breaks_after: Option<u64>,
    /// Each request: hash, offset, and the number of bytes sent.
    pub asked: Vec<(Hash, u64, u64)>,
    /// Called once, before the first byte is sent.
    pub meanwhile: Option<Box<dyn FnOnce()>>,
}

impl TheirBlobs {
    /// The bytes of patch files sent, and the number of requests that got any.
    pub fn came(&self) -> (u64, usize) {
        let with_bytes = self.asked.iter().filter(|(_, _, len)| *len > 0);
        (self.asked.iter().map(|(_, _, len)| len).sum(), with_bytes.count())
    }
}

impl BlobSource for TheirBlobs {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let blob = store::blob(&self.state_dir, hash);
        let mut blob = blob.map_err(|why| FetchError::Refused(Box::new(Reason::truncated(&why))))?;
        if offset > blob.size_bytes {
            return Err(FetchError::Refused(Box::new(Reason::truncated(
                "The file is shorter than the requested offset.",
            ))));
        }
        let mut bytes = Vec::new();
        blob.file.seek(SeekFrom::Start(offset)).unwrap();
        blob.file.read_to_end(&mut bytes).unwrap();
        let (came, _) = self.came();
        let whole = bytes.len();
        if let Some(most) = self.breaks_after {
            bytes.truncate(usize::try_from(most - came).unwrap());
        }
        self.asked.push((*hash, offset, bytes.len() as u64));
        if let Some(act) = self.meanwhile.take_if(|_| whole > 0) {
            act();
        }
        for piece in bytes.chunks(1_000) {
            sink(piece).map_err(FetchError::Sink)?;
        }
        if bytes.len() < whole {
            return Err(FetchError::Session(io::ErrorKind::ConnectionReset.into()));
        }
        Ok(Fetched { len_bytes: whole as u64, signature: blob.signature })
    }
}

/// Writes a patch file of these bytes and signs it.
pub fn signed(dir: &Path, name: &str, patch: &[u8], signer: &Signer) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, patch).unwrap();
    signer.sign(&path);
    path
}
