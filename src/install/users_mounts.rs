//! Filesystems that users have mounted, which the kernel allows for FUSE: a program of the
//! user answers each call there, with what it likes, when it likes, or never.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Their mount points below a root, relative to it. Without /proc, none is known.
pub(super) fn below(root: &Path) -> Vec<String> {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts.split(|byte| *byte == b'\n').filter_map(|line| users_mount(line, root)).collect()
}

/// The mount point that a line of mountinfo tells of, if another user than root has mounted
/// it: the kernel shows `user_id=` for FUSE alone, and a user cannot choose it.
fn users_mount(line: &[u8], root: &Path) -> Option<String> {
    let mut words = line.split(|byte| *byte == b' ');
    let point = words.nth(4)?;
    let options = words.next_back()?;
    let mut ids = options.split(|byte| *byte == b',').filter_map(|option| option.strip_prefix(b"user_id="));
    ids.next().filter(|id| *id != b"0")?;
    let point = PathBuf::from(OsString::from_vec(unescaped(point)));
    point.strip_prefix(root).ok()?.to_str().map(str::to_owned)
}

/// Decodes a backslash and three octal digits, as mountinfo has them in place of a space and
/// the like.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let digits = behind.first_chunk::<3>().filter(|_| *first == b'\\');
        let byte = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        if byte.is_some() {
            rest = behind.get(3..).unwrap_or_default();
        }
        bytes.push(byte.unwrap_or(*first));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_mount_is_told_from_roots() {
        let at = |line: &str, root: &str| users_mount(line.as_bytes(), Path::new(root));
        let line = |point: &str, options: &str| {
            format!("36 35 0:49 / {point} rw,nosuid,nodev shared:12 - fuse.sshfs box:/a rw,{options}")
        };
        let users = "user_id=1000,group_id=1000";
        assert_eq!(at(&line("/srv/a\\040b", users), "/").unwrap(), "srv/a b");
        assert_eq!(at(&line("/host/srv", users), "/host").unwrap(), "srv");
        assert_eq!(at(&line("/elsewhere", users), "/host"), None);
        assert_eq!(at(&line("/srv", "user_id=0,group_id=0,allow_other"), "/"), None);
        assert_eq!(at("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw", "/"), None);
        assert_eq!(at("", "/"), None);
        assert_eq!(unescaped(b"\\134040\\9\\"), b"\\040\\9\\");
    }
}
