//! The file of all known controllers: those that must be present for a purge.
//!
//! Body: per controller `node id u64 LE | length u8 | name`. The golden bytes in
//! the tests are version 1.

use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::sealed_file::SealedFile;
use crate::limits;
use crate::sealed::SealedFormat;
use crate::types::{Hostname, NodeId};

/// The most controllers besides this one.
const MOST: usize = limits::CONTROLLERS - 1;

const FILE: SealedFile = SealedFile {
    format: SealedFormat { magic: b"THMBCTRL", version: 1 },
    most_bytes: 64 + (MOST * (9 + limits::HOSTNAME_BYTES)) as u64,
};

/// All other controllers ever known, except those dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Controllers(Vec<(NodeId, Hostname)>);

fn path(repo_dir: &Path) -> PathBuf {
    repo_dir.join("controllers")
}

impl Controllers {
    /// Reads the known controllers of a repository; none if there is no file.
    pub(super) fn read(repo_dir: &Path) -> Result<Self, StoreError> {
        Ok(Self::read_if_any(repo_dir)?.unwrap_or_default())
    }

    /// Reads the known controllers; `None` if there never was one, so that no other
    /// controller has the map. A dropped controller may have it.
    pub(super) fn read_if_any(repo_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(repo_dir);
        let Some(body) = FILE.read(&path)? else { return Ok(None) };
        decode(&body).map(Self).map(Some).ok_or(StoreError::Damaged { path })
    }

    /// Writes the file, durably.
    pub(super) fn write(&self, repo_dir: &Path) -> Result<(), StoreError> {
        let path = path(repo_dir);
        FILE.write(&path, &encode(&self.0))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(NodeId, Hostname)> {
        self.0.iter()
    }

    pub(super) fn name(&self, node: NodeId) -> Option<&Hostname> {
        self.0.iter().find(|(other, _)| *other == node).map(|(_, name)| name)
    }

    /// Adds a controller or updates its name. Returns false if there is no space.
    pub(super) fn insert(&mut self, node: NodeId, name: &Hostname) -> bool {
        if let Some((_, known)) = self.0.iter_mut().find(|(other, _)| *other == node) {
            known.clone_from(name);
            return true;
        }
        let has_space = self.0.len() < MOST;
        if has_space {
            self.0.push((node, name.clone()));
        }
        has_space
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.0.retain(|(other, _)| *other != node);
    }
}

fn encode(controllers: &[(NodeId, Hostname)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (node, name) in controllers {
        body.extend_from_slice(&node.0.to_le_bytes());
        body.push(u8::try_from(name.as_str().len()).expect("a name has at most limits::HOSTNAME_BYTES"));
        body.extend_from_slice(name.as_str().as_bytes());
    }
    body
}

fn decode(mut body: &[u8]) -> Option<Vec<(NodeId, Hostname)>> {
    let mut controllers = Vec::new();
    while let Some((node, rest)) = body.split_first_chunk() {
        let (len, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let name = if name.is_empty() {
            Hostname::default()
        } else {
            Hostname::new(str::from_utf8(name).ok()?).ok()?
        };
        controllers.push((NodeId(u64::from_le_bytes(*node)), name));
        body = rest;
    }
    (body.is_empty() && controllers.len() <= MOST).then_some(controllers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Hostname {
        Hostname::new(text).unwrap()
    }

    /// If this fails, the code is wrong, not the test: such files are on disks.
    #[test]
    fn version_1_is_read_and_written_as_it_was() {
        let known = vec![(NodeId(0x0102), name("c-1")), (NodeId(3), Hostname::default())];
        let golden = b"\x02\x01\0\0\0\0\0\0\x03c-1\x03\0\0\0\0\0\0\0\0";
        assert_eq!(encode(&known), golden);
        assert_eq!(decode(golden).unwrap(), known);
        for len in 1..golden.len() {
            assert!(decode(&golden[..len]).is_none_or(|known| known.len() == 1 && len == 12), "cut at {len}");
        }
    }

    #[test]
    fn all_other_controllers_of_a_cluster_fit_with_the_longest_names() {
        let mut known = Controllers::default();
        for node in 0..limits::CONTROLLERS as u64 - 1 {
            assert!(known.insert(NodeId(node), &name(&"x".repeat(limits::HOSTNAME_BYTES))));
        }
        let body = encode(&known.0);
        assert!(FILE.format.seal(&body).len() as u64 <= FILE.most_bytes);
        assert_eq!(decode(&body).unwrap(), known.0);
        assert!(!known.insert(NodeId(99), &name("late")));
        assert!(known.insert(NodeId(0), &name("renamed")), "a known controller may change its name");
        known.remove(NodeId(1));
        assert!(known.insert(NodeId(99), &name("late")));
        assert_eq!(known.name(NodeId(99)), Some(&name("late")));
    }
}
