//! The old files that a patch is made as a difference to: of patches that it requires, and of a
//! base tree.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::{self, ArchiveSection, Attribute, Member, MemberKind, Owner, Sink};
use super::difference::{Difference, OldHash, old_hash};
use super::make_error::MakeError;
use super::metadata::{Metadata, Requirement};
use crate::repo::layers::layer_order;
use crate::types::PatchId;

/// An old file.
#[derive(Clone)]
pub(super) struct Old {
    /// The patch that has it; `None` for the base.
    pub(super) of: Option<PatchId>,
    /// Its path, if it is not that of the new file.
    pub(super) path: Option<PathBuf>,
    /// Where its content is.
    pub(super) file: PathBuf,
    /// Its size, in bytes.
    pub(super) size_bytes: u64,
    pub(super) hash: blake3::Hash,
}

/// A file or link as a patch packs it.
pub(super) struct Packed<'a> {
    /// Its path below the root.
    pub(super) path: &'a Path,
    pub(super) owner: &'a Owner,
    pub(super) attributes: &'a [Attribute],
    /// The target of a link.
    pub(super) target: Option<&'a Path>,
    /// The name of the same file that comes first, and how many it has.
    pub(super) first: &'a Path,
    pub(super) names: u64,
}

/// The old files.
#[derive(Default)]
pub(super) struct OldTree {
    /// Bottom first.
    patches: Vec<OldPatch>,
    base: Option<PathBuf>,
    scratch: Scratch,
}

/// A directory that is removed in the end.
#[derive(Default)]
struct Scratch(Option<PathBuf>);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            // It is beside the patch, where its maker sees it.
            let _ = fs::remove_dir_all(dir);
        }
    }
}

struct OldPatch {
    file: PathBuf,
    id: PatchId,
    requires: Vec<PatchId>,
    metadata: Metadata,
    members: HashMap<PathBuf, OldMember>,
    /// Paths by what is left of them without numbers; `None` if there are several.
    alike: HashMap<String, Option<PathBuf>>,
}

struct OldMember {
    owner: Owner,
    attributes: Vec<Attribute>,
    target: Option<PathBuf>,
    /// The first name of the same file, which knows how many it has.
    first: PathBuf,
    names: u64,
    /// `None` for a link, and for a file that is a difference to what is not here.
    old: Option<Old>,
}

impl OldTree {
    /// Reads the patches that the one with this metadata requires, and unpacks them into
    /// `scratch`.
    pub(super) fn read(
        metadata: &Metadata,
        from: &[&Path],
        base: Option<&Path>,
        scratch: PathBuf,
    ) -> Result<Self, MakeError> {
        let mut tree = Self { base: base.map(Path::to_path_buf), ..Self::default() };
        if from.is_empty() {
            return Ok(tree);
        }
        for file in from {
            let metadata = open(file)
                .and_then(|opened| archive::metadata(opened).map_err(|error| unread(file, error)))?;
            let requires = metadata.requires.iter().map(|it| it.id.clone()).collect();
            let (members, alike) = (HashMap::new(), HashMap::new());
            let (file, id) = (file.to_path_buf(), metadata.id.clone());
            if tree.patches.iter().all(|other| other.id != id) {
                tree.patches.push(OldPatch { file, id, requires, metadata, members, alike });
            }
        }
        tree.check_required(metadata)?;
        let mut order: Vec<usize> = (0..tree.patches.len()).collect();
        layer_order(&mut order, |at| (&tree.patches[at].id, &tree.patches[at].requires));
        let mut patches: Vec<_> = tree.patches.drain(..).map(Some).collect();
        let sorted: Vec<_> = order.iter().filter_map(|at| patches.get_mut(*at)?.take()).collect();

        let at_scratch = |error| MakeError::Io { path: scratch.clone(), error };
        // What an earlier run that was ended has left.
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at_scratch(error)),
            _ => {}
        }
        fs::create_dir(&scratch).map_err(at_scratch)?;
        tree.scratch = Scratch(Some(scratch));
        for patch in sorted {
            let file = open(&patch.file)?;
            let path = patch.file.clone();
            let mut sink = Keep { tree: &tree, patch, failed: None };
            let read = archive::read(file, &mut sink);
            let Keep { mut patch, failed, .. } = sink;
            if let Some(error) = failed {
                return Err(error);
            }
            read.map_err(|error| unread(&path, error))?;
            patch.count_names();
            tree.patches.push(patch);
        }
        Ok(tree)
    }

    /// Checks that each patch is required on all hosts that the new one is for.
    fn check_required(&self, metadata: &Metadata) -> Result<(), MakeError> {
        let is_everywhere = |it: &&Requirement| {
            it.nodetypes.is_empty()
                || !metadata.nodetypes.is_empty()
                    && metadata.nodetypes.iter().all(|kind| it.nodetypes.contains(kind))
        };
        let of = |metadata: &Metadata| -> Vec<PatchId> {
            metadata.requires.iter().filter(is_everywhere).map(|it| it.id.clone()).collect()
        };
        let mut reached = of(metadata);
        let mut at = 0;
        while let Some(id) = reached.get(at) {
            let patch = self.patches.iter().find(|patch| patch.id == *id);
            let more = patch.map(|patch| of(&patch.metadata)).unwrap_or_default();
            let more: Vec<_> = more.into_iter().filter(|id| !reached.contains(id)).collect();
            reached.extend(more);
            at += 1;
        }
        match self.patches.iter().find(|patch| !reached.contains(&patch.id)) {
            Some(patch) => Err(MakeError::FromNotRequired(patch.file.clone(), patch.id.clone())),
            None => Ok(()),
        }
    }

    /// The topmost patch that says what is at a path; its member, if that is a file or link.
    fn member(&self, path: &Path) -> Option<(&OldPatch, Option<&OldMember>)> {
        self.patches.iter().rev().find_map(|patch| match patch.members.get(path) {
            Some(member) => Some((patch, Some(member))),
            None if patch.metadata.remove.iter().any(|removed| removed == path) => Some((patch, None)),
            None => None,
        })
    }

    /// The old file of a new one: at the same path, else in a patch at one that differs in numbers only.
    pub(super) fn old(&self, path: &Path) -> io::Result<Option<Old>> {
        match self.member(path) {
            Some((_, member)) => return Ok(member.and_then(|member| member.old.clone())),
            None => {
                if let Some(old) = self.base_file(path)? {
                    return Ok(Some(old));
                }
            }
        }
        let alike = without_numbers(path);
        let found = self.patches.iter().rev().find_map(|patch| patch.alike.get(&alike)?.as_deref());
        let Some((found, (_, Some(member)))) = found.and_then(|path| Some((path, self.member(path)?))) else {
            return Ok(None);
        };
        Ok(member.old.clone().map(|old| Old { path: Some(found.to_path_buf()), ..old }))
    }

    /// Whether a required patch has this very file or link, times aside.
    pub(super) fn has(&self, packed: &Packed<'_>, file: Option<&mut File>) -> io::Result<bool> {
        let Some((_, Some(old))) = self.member(packed.path) else { return Ok(false) };
        let access = |owner: &Owner| (owner.mode, owner.uid, owner.gid);
        let is_link = packed.target.is_some();
        let is_same = old.target.as_deref() == packed.target
            && (is_link || access(&old.owner) == access(packed.owner))
            && (old.owner.uid, old.owner.gid) == (packed.owner.uid, packed.owner.gid)
            && old.attributes == packed.attributes
            && old.first == packed.first
            && old.names == packed.names;
        match (is_same, file, &old.old) {
            (false, ..) | (true, Some(_), None) => Ok(false),
            (true, None, _) => Ok(is_link),
            (true, Some(file), Some(old)) => {
                Ok(file.metadata()?.len() == old.size_bytes && hash(file)? == old.hash)
            }
        }
    }

    /// A file of the base. What is behind links of the base that lead out of it is not there.
    fn base_file(&self, path: &Path) -> io::Result<Option<Old>> {
        let Some(base) = &self.base else { return Ok(None) };
        let file = base.join(path);
        let is_inside = || Some(file.parent()?.canonicalize().ok()?.starts_with(base.canonicalize().ok()?));
        let is_file = file.symlink_metadata().is_ok_and(|inode| inode.is_file());
        if !is_file || is_inside() != Some(true) {
            return Ok(None);
        }
        let mut opened = File::open(&file)?;
        let size_bytes = opened.metadata()?.len();
        Ok(Some(Old { of: None, path: None, hash: hash(&mut opened)?, size_bytes, file }))
    }

    /// The old content that a difference in one of these patches is to.
    fn of_difference(&self, path: &Path, difference: &Difference) -> Option<PathBuf> {
        let path = difference.old_path.as_deref().unwrap_or(path);
        let old = match &difference.of {
            None => self.base_file(path).ok()??,
            Some(id) => {
                let patch = self.patches.iter().find(|patch| patch.id == *id)?;
                patch.members.get(path)?.old.clone()?
            }
        };
        let is_it = old.size_bytes == difference.old_bytes && is_hash(&old.hash, &difference.old_hash);
        is_it.then_some(old.file)
    }
}

fn is_hash(hash: &blake3::Hash, old: &OldHash) -> bool {
    old_hash(hash) == *old
}

fn hash(file: &mut File) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize()),
            len => hasher.update(piece.get(..len).unwrap_or_default()),
        };
    }
}

fn open(file: &Path) -> Result<File, MakeError> {
    File::open(file).map_err(|error| MakeError::Io { path: file.to_path_buf(), error })
}

fn unread(file: &Path, error: super::PatchError) -> MakeError {
    MakeError::From(file.to_path_buf(), error)
}

/// A path with each number in it as one `0`: two versions of a file have the same, as
/// `lib/modules/6.1.0-50` and `lib/modules/6.1.0-57`.
fn without_numbers(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        if letter != '0' || !text.ends_with('0') {
            text.push(letter);
        }
    }
    text
}

impl OldPatch {
    fn add(&mut self, member: &Member, first: &Path, old: Option<Old>) {
        let target = match &member.kind {
            MemberKind::Symlink { target } => Some(target.clone()),
            _ => None,
        };
        let Member { path, owner, attributes, .. } = member;
        if old.is_some() {
            let alike = self.alike.entry(without_numbers(path));
            alike.and_modify(|path| *path = None).or_insert(Some(path.clone()));
        }
        let (owner, attributes, first) = (*owner, attributes.clone(), first.to_path_buf());
        self.members.insert(path.clone(), OldMember { owner, attributes, target, first, names: 0, old });
    }

    fn count_names(&mut self) {
        let mut names = HashMap::new();
        for member in self.members.values() {
            *names.entry(member.first.clone()).or_insert(0) += 1;
        }
        for member in self.members.values_mut() {
            member.names = names.get(&member.first).copied().unwrap_or(1);
        }
    }
}

/// Keeps what a patch has.
struct Keep<'t> {
    /// With the patches below it.
    tree: &'t OldTree,
    patch: OldPatch,
    failed: Option<MakeError>,
}

impl Keep<'_> {
    /// Unpacks a file; `None` if it is a difference to what is not here.
    fn unpack(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<Option<Old>> {
        let old = match &member.difference {
            None => None,
            Some(difference) => match self.tree.of_difference(&member.path, difference) {
                Some(old) => Some(File::open(old)?),
                None => return Ok(None),
            },
        };
        let scratch = self.tree.scratch.0.as_deref().unwrap_or(Path::new("."));
        let file = scratch.join(format!("{}-{}", self.tree.patches.len(), self.patch.members.len()));
        let mut out = File::create(&file)?;
        let size_bytes = match (&member.difference, &old) {
            (Some(difference), Some(old)) => io::copy(&mut difference.apply(content, old), &mut out)?,
            _ => io::copy(content, &mut out)?,
        };
        let hash = hash(&mut File::open(&file)?)?;
        Ok(Some(Old { of: Some(self.patch.id.clone()), path: None, file, size_bytes, hash }))
    }
}

impl Sink for Keep<'_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        if member.section != ArchiveSection::Files || member.kind == MemberKind::Directory {
            return Ok(());
        }
        let old = match member.kind {
            MemberKind::File { .. } => self.unpack(member, content).inspect_err(|error| {
                let path = self.tree.scratch.0.clone().unwrap_or_default();
                let error =
                    io::Error::new(error.kind(), format!("unpacking {}: {error}", member.path.display()));
                self.failed = Some(MakeError::Io { path, error });
            })?,
            _ => None,
        };
        self.patch.add(member, &member.path, old);
        Ok(())
    }

    fn copy(&mut self, member: &Member, of: &Path) -> io::Result<()> {
        if member.section == ArchiveSection::Files
            && let Some(OldMember { first, old, .. }) = self.patch.members.get(of)
        {
            let (first, old) = (first.clone(), old.clone());
            // What the first name says of owner and mode holds for all.
            let (owner, attributes) = match self.patch.members.get(&first) {
                Some(named) => (named.owner, named.attributes.clone()),
                None => (member.owner, member.attributes.clone()),
            };
            self.patch.add(&Member { owner, attributes, ..member.clone() }, &first, old);
        }
        Ok(())
    }
}
