//! Makes a patch file from a directory. The same tree always makes the same file.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use super::archive;
use super::caution::{Caution, Cautions};
pub use super::make_error::MakeError;
use super::metadata::{Metadata, PathOwner};
use super::names::Names;
use super::old_tree::OldTree;
pub use super::pack::Travel;
use super::pack::{Owners, Source, pack};
use crate::limits;

/// A patch that was made.
#[derive(Debug)]
pub struct Made {
    /// The patch's file.
    pub file: PathBuf,
    /// What its maker should look at.
    pub cautions: Vec<Caution>,
    /// Its metadata.
    pub metadata: Metadata,
    /// How its files travel, if it was made as a difference.
    pub travel: Option<Travel>,
}

/// Packs `dir/metadata.toml`, `dir/files` and `dir/scripts` into `out`, or into
/// `ID.patch` in the current directory. Members are sorted by name; modes, links, times,
/// extended attributes and holes are kept, and a file with several names is packed once.
/// Members belong to root, or with `keep_owners` to whom they
/// belong in `dir`, by number; `owners` in the metadata prevails. The maker then signs the
/// file with `minisign -S -H -m`.
///
/// # Errors
/// [`MakeError`]. A patch that would be refused on upload is refused here.
pub fn make(dir: &Path, out: Option<&Path>, keep_owners: bool) -> Result<Made, MakeError> {
    make_with(dir, &MakeOptions { out, keep_owners, ..MakeOptions::default() })
}

/// How a patch is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct MakeOptions<'a> {
    /// The patch's file, as of [`make`].
    pub out: Option<&'a Path>,
    /// Members that `owners` does not list keep their owner.
    pub keep_owners: bool,
    /// Each of these patch files gets a section `[require.ID]` in the metadata, which must be
    /// those of a floor.
    pub floor: &'a [&'a Path],
    /// Patch files that the patch requires, directly or through others of them. What they have
    /// as well is left out, and what they have with another content travels as a difference
    /// where that is smaller.
    pub from: &'a [&'a Path],
    /// The tree of the base system. Files that it has with another content, and no patch of
    /// `from` has, travel as a difference to that.
    pub base: Option<&'a Path>,
}

/// Makes a patch as [`make`] does, with options.
///
/// # Errors
/// As [`make`].
pub fn make_with(dir: &Path, options: &MakeOptions<'_>) -> Result<Made, MakeError> {
    let MakeOptions { out, keep_owners, floor: required, from, base } = *options;
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |error| MakeError::Io { path, error }
    };
    let description = dir.join("metadata.toml");
    let mut text = Vec::new();
    let file = File::open(&description).map_err(at(&description))?;
    file.take(limits::METADATA_BYTES + 1).read_to_end(&mut text).map_err(at(&description))?;
    for path in required {
        text.extend(requirement(path)?.into_bytes());
    }
    let metadata = Metadata::parse_bytes(&text).map_err(MakeError::Metadata)?;

    let names = Names::read(dir)?;
    if let Some(stray) =
        names.iter().find(|name| !["metadata.toml", "files", "scripts"].iter().any(|known| name == known))
    {
        return Err(MakeError::Stray(dir.join(stray)));
    }
    if names.iter().count() < 2 && metadata.floor.is_none() {
        return Err(MakeError::Empty(dir.to_path_buf()));
    }

    let is_missing = |owner: &&PathOwner| dir.join("files").join(&owner.path).symlink_metadata().is_err();
    if let Some(owner) = metadata.owners.iter().find(is_missing) {
        return Err(MakeError::NotThere(owner.path.clone()));
    }

    let out = match out {
        Some(out) => out.to_path_buf(),
        None => env::current_dir().map_err(at(Path::new(".")))?.join(format!("{}.patch", metadata.id)),
    };
    // Only a whole patch ever has the final name.
    let mut unfinished = out.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut scratch = unfinished.as_os_str().to_owned();
    scratch.push(".old");
    if let Some(base) = base {
        fs::read_dir(base).map_err(at(base))?;
    }
    let olds = OldTree::read(&metadata, from, base, scratch.into())?;
    let owners = Owners { listed: &metadata.owners, are_kept: keep_owners };
    let source = Source { dir, names: &names, text: &text, metadata: &metadata, owners, olds: &olds };
    let made = pack(source, &unfinished)
        .and_then(|(labelled, travel)| Ok((look(&unfinished, labelled)?, travel)))
        .and_then(|made| fs::rename(&unfinished, &out).map_err(at(&out)).map(|()| made));
    if made.is_err() {
        // Fails if the file could not be created.
        let _ = fs::remove_file(&unfinished);
    }
    let (cautions, travel) = made?;
    let travel = (!from.is_empty() || base.is_some()).then_some(travel);
    Ok(Made { file: out, cautions, metadata, travel })
}

/// The section of a floor's metadata that requires a patch file.
fn requirement(path: &Path) -> Result<String, MakeError> {
    let at_path = |error| MakeError::Io { path: path.to_path_buf(), error };
    let mut file = File::open(path).map_err(at_path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece).map_err(at_path)? {
            0 => break,
            len => hasher.update(piece.get(..len).unwrap_or_default()),
        };
    }
    file.rewind().map_err(at_path)?;
    let metadata = archive::metadata(&file).map_err(MakeError::Refused)?;
    let Metadata { id, sw_version, nodetypes, apply_active_release_only, .. } = metadata;
    let mut section = format!("\n[require.\"{id}\"]\nhash = \"{}\"\n", hasher.finalize());
    if !nodetypes.is_empty() {
        let quoted: Vec<_> = nodetypes.iter().map(|kind| format!("\"{kind}\"")).collect();
        section += &format!("nodetypes = [{}]\n", quoted.join(", "));
    }
    if apply_active_release_only {
        section += &format!("release = \"{sw_version}\"\n");
    }
    Ok(section)
}

/// Reads a patch as an upload would.
fn look(path: &Path, labelled: Caution) -> Result<Vec<Caution>, MakeError> {
    let file = File::open(path).map_err(|error| MakeError::Io { path: path.to_path_buf(), error })?;
    let mut cautions = Cautions::with_labels(labelled);
    archive::members(file, &mut |member| cautions.add(member)).map_err(MakeError::Refused)?;
    Ok(cautions.found())
}
