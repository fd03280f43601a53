//! Files that only their owner may read: key files, and the id of a node without one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::document::ConfigError;
use super::sys;
use crate::types::NodeId;

/// A key file of four slots takes less than a quarter of this.
const FILE_BYTES: u64 = 8 * 1024;

/// Who a key file may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Root, or this process's own user: for the daemon.
    RootOrOwn,
    /// Where root asks, any user: for commands about the key file of a daemon that runs as a
    /// user of its own.
    RootMayReadAll,
}

/// Reads a key file, and refuses it if others than its owner can read or change it, or if
/// its owner is none of `owners`.
pub(super) fn read(path: &Path, owners: Owners) -> Result<String, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no such key file; make the first controller's with `thimble keygen --cluster -o {shown}`, \
             any other node's with `thimble keygen --node NAME --from CONTROLLER.KEY -o {shown}`"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "the key file cannot be read: {error}; it must belong to the user that thimble runs as: run \
             `chown {} {shown}`",
            sys::effective_uid()
        ),
        _ => format!("the key file cannot be read: {error}"),
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "its mode is {mode:04o}: others than its owner can read or change it; run `chmod 600 {shown}`"
        ));
    }
    let owner = metadata.uid();
    let own = sys::effective_uid();
    if owner != 0 && owner != own && (owners == Owners::RootOrOwn || own != 0) {
        return Err(format!(
            "it belongs to user {owner}, who is neither root nor the user that thimble runs as; \
             run `chown {own} {shown}`"
        ));
    }
    let mut text = String::new();
    file.take(FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// The node id of a node without a key file (`auth = "none"`): made at the first
/// start and kept in `state_dir/node-id`.
///
/// # Errors
/// The file cannot be read, is not a node id, or cannot be made.
pub fn node_id_without_keys(state_dir: &Path) -> Result<NodeId, ConfigError> {
    let path = state_dir.join("node-id");
    let shown = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(text) => NodeId::from_hex(text.trim_end()).ok_or_else(|| {
            let sentence = "this is not a node id of 16 hex digits; remove the file to get a new id";
            ConfigError::file(&shown, sentence.to_owned())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = random_node().and_then(|node| {
                // Written to a temporary file and renamed, so that a crash leaves the whole
                // file or none.
                let beside = state_dir.join("node-id.new");
                let _ = fs::remove_file(&beside);
                write_new(&beside, format!("{node}\n").as_bytes())?;
                fs::rename(&beside, &path)?;
                File::open(state_dir)?.sync_all()?;
                Ok(node)
            });
            made.map_err(|error| ConfigError::file(&shown, format!("a node id cannot be stored: {error}")))
        }
        Err(error) => Err(ConfigError::file(&shown, format!("the node id cannot be read: {error}"))),
    }
}

/// Writes a new file that only its owner can read, and syncs it. Never overwrites.
///
/// # Errors
/// `AlreadyExists`, or the error of the write, after which no file is left.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A random node id; never zero, which stands for a group.
pub(super) fn random_node() -> io::Result<NodeId> {
    loop {
        let node = NodeId(u64::from_le_bytes(random()?));
        if node != NodeId::default() {
            return Ok(node);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A temporary file of one test, removed afterwards.
    pub struct Scratch(pub PathBuf);
    impl Scratch {
        pub fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("thimble-keys-{test}-{}", std::process::id()));
            let _ = fs::remove_file(&path);
            Self(path)
        }
    }
    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_key_file_is_never_written_over() {
        let scratch = Scratch::new("over");
        write_new(&scratch.0, b"first").unwrap();
        let error = write_new(&scratch.0, b"second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&scratch.0).unwrap(), b"first");
        assert_eq!(fs::metadata(&scratch.0).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_node_without_keys_keeps_the_id_of_its_first_start() {
        let dir = std::env::temp_dir().join(format!("thimble-node-id-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        assert!(node_id_without_keys(&dir).is_err());
        fs::create_dir(&dir).unwrap();
        let first = node_id_without_keys(&dir).unwrap();
        assert_eq!(node_id_without_keys(&dir).unwrap(), first);
        fs::write(dir.join("node-id"), "rubbish").unwrap();
        let error = node_id_without_keys(&dir).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(error.contains("is not a node id"), "{error}");
    }
}
