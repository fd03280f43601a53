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
use super::pack::{Owners, pack};
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
    make_floor(dir, out, keep_owners, &[])
}

/// Makes a patch as [`make`] does. Each patch file of `required` gets a section
/// `[require.ID]` in its metadata, which must be those of a floor.
///
/// # Errors
/// As [`make`].
pub fn make_floor(
    dir: &Path,
    out: Option<&Path>,
    keep_owners: bool,
    required: &[&Path],
) -> Result<Made, MakeError> {
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
    let owners = Owners { listed: &metadata.owners, are_kept: keep_owners };
    let made = pack(dir, &names, &text, owners, &unfinished)
        .and_then(|labelled| look(&unfinished, labelled))
        .and_then(|cautions| fs::rename(&unfinished, &out).map_err(at(&out)).map(|()| cautions));
    if made.is_err() {
        // Fails if the file could not be created.
        let _ = fs::remove_file(&unfinished);
    }
    made.map(|cautions| Made { file: out, cautions, metadata })
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
