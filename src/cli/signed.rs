//! A patch file and its signature file, opened to be uploaded or verified.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::exit::{Exit, Failure};

/// A path in messages.
pub(super) fn shown(path: &OsStr) -> String {
    path.to_string_lossy().into_owned()
}

/// A file's name in messages: as typed, if that fits.
fn name(path: &OsStr) -> String {
    let typed = shown(path);
    match Path::new(path).file_name() {
        Some(name) if typed.len() > 64 => shown(name),
        _ => typed,
    }
}

/// A patch and its signature, open.
pub(super) struct Signed {
    /// Its name in messages.
    pub name: String,
    /// The patch.
    pub patch: File,
    /// Its signature file.
    pub signature: File,
}

impl Signed {
    /// Opens a patch and its signature file.
    ///
    /// # Errors
    /// Either is missing or cannot be read; without a signature, it is not verified.
    pub fn open(path: &OsString) -> Result<Self, Failure> {
        let mut beside = path.clone();
        beside.push(".minisig");
        let patch = open(Path::new(path)).map_err(|failure| match failure {
            Unopened::Missing(shown) => Failure::new(Exit::Refused, format!("there is no file {shown}")),
            Unopened::Other(message) => Failure::new(Exit::Refused, message),
        })?;
        let signature = open(Path::new(&beside)).map_err(|failure| match failure {
            Unopened::Missing(shown) => Failure::new(
                Exit::Verification,
                format!(
                    "{} is not signed: there is no {shown}; sign it with `minisign -S -H -m {}`",
                    path.display(),
                    path.display()
                ),
            ),
            Unopened::Other(message) => Failure::new(Exit::Refused, message),
        })?;
        Ok(Self { name: name(path), patch, signature })
    }

    /// The descriptors of both.
    pub fn descriptors(&self) -> [RawFd; 2] {
        [self.patch.as_raw_fd(), self.signature.as_raw_fd()]
    }
}

enum Unopened {
    Missing(String),
    Other(String),
}

fn open(path: &Path) -> Result<File, Unopened> {
    let shown = path.display();
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unopened::Missing(shown.to_string()),
        _ => Unopened::Other(format!("{shown} cannot be read: {error}")),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(metadata) if metadata.is_dir() => {
            Err(Unopened::Other(format!("{shown} is a directory, not a file")))
        }
        Ok(_) => Err(Unopened::Other(format!("{shown} is not a file"))),
        Err(error) => Err(Unopened::Other(format!("{shown} cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsigned_patch_is_not_sent_and_the_error_says_how_to_sign() {
        let path = std::env::temp_dir().join(format!("thimble-unsigned-{}.patch", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let failure = Signed::open(&path.clone().into()).err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(failure.exit, Exit::Verification);
        assert!(failure.message.contains("minisign -S -H -m"), "{}", failure.message);
        let failure = Signed::open(&path.into()).err().unwrap();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.starts_with("there is no file"), "{}", failure.message);
    }
}
