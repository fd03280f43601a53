//! Extended attributes: those that travel in a patch, and the records that packers write
//! for them.
//!
//! What a program stores with a file (`user.*`) and its capabilities belong to the file.
//! An SELinux label belongs to the host: its policy says which label a path has. All else
//! is refused, so that nothing is dropped in silence.

use super::fault::{MemberFault, shown};
use super::member::{Attribute, MemberKind};
use super::packer::Packer;
use crate::config::minisign_key::base64;
use crate::limits;

/// The attribute that holds a program's capabilities.
pub(super) const CAPABILITY: &str = "security.capability";
/// The attribute that holds a label of SELinux.
pub(super) const SELINUX: &str = "security.selinux";
/// Lengths of the value of [`CAPABILITY`] in its three revisions.
const CAPABILITY_BYTES: [usize; 3] = [12, 20, 24];

/// The fault of an attribute that makes no sense, or that no system would take.
const BAD: MemberFault = MemberFault::BadHeader("extended attribute");

/// The extended attributes that an archive has for one member.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Those that are kept, sorted by their names.
    pub(super) kept: Vec<Attribute>,
    /// It has a label of SELinux.
    pub(super) is_labelled: bool,
}

impl Attributes {
    /// Takes a record of a pax header if it is about an extended attribute.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8], packer: Packer) -> Result<(), MemberFault> {
        if key == b"RHT.security.selinux" {
            self.is_labelled = true;
        } else if is_attribute(key) {
            let (name, value) = decoded(key, value, packer).ok_or(BAD)?;
            if name == SELINUX {
                self.is_labelled = true;
            } else if !is_kept(&name) {
                return Err(packer.attribute(shown(name.as_bytes())));
            } else if !self.keep(name, value) {
                return Err(BAD);
            }
        }
        Ok(())
    }

    /// Keeps an attribute, unless no system would take it or it is there with another value.
    fn keep(&mut self, name: String, value: Vec<u8>) -> bool {
        let is_possible = name.len() <= limits::NAME_BYTES
            && (name != CAPABILITY || CAPABILITY_BYTES.contains(&value.len()));
        let at = self.kept.iter().take_while(|other| other.name < name).count();
        match self.kept.get(at) {
            // bsdtar has each in both forms.
            Some(other) if other.name == name => other.value == value,
            _ => {
                self.kept.insert(at, Attribute { name, value });
                is_possible
            }
        }
    }

    /// Checks that the system lets a member of this kind have them.
    pub(super) fn check(&self, kind: &MemberKind) -> Result<(), MemberFault> {
        let is_possible = |attribute: &Attribute| match kind {
            MemberKind::File { .. } => true,
            MemberKind::Directory => attribute.name != CAPABILITY,
            MemberKind::Symlink { .. } => false,
        };
        match self.kept.iter().all(is_possible) {
            true => Ok(()),
            false => Err(BAD),
        }
    }
}

/// Whether the record with this key is about an extended attribute, in whatever form.
pub(super) fn is_attribute(key: &[u8]) -> bool {
    key.windows(5).any(|part| part == b"xattr")
}

/// The name and the value that a record has in its packer's form.
fn decoded(key: &[u8], value: &[u8], packer: Packer) -> Option<(String, Vec<u8>)> {
    let (name, value) = match key.strip_prefix(b"SCHILY.xattr.") {
        // GNU tar encodes `=`, with which the key would end, and `%`; bsdtar does not.
        Some(name) if packer == Packer::Bsdtar => (name.to_vec(), value.to_vec()),
        Some(name) => (from_url(name)?, value.to_vec()),
        None => (from_url(key.strip_prefix(b"LIBARCHIVE.xattr.")?)?, unpadded(value)?),
    };
    String::from_utf8(name).ok().filter(|name| !name.chars().any(char::is_control)).map(|name| (name, value))
}

/// Whether a patch keeps an attribute of this name.
pub(super) fn is_kept(name: &str) -> bool {
    name == CAPABILITY || name.strip_prefix("user.").is_some_and(|rest| !rest.is_empty())
}

/// Decodes base64 without its padding, as libarchive writes it, or with it.
fn unpadded(text: &[u8]) -> Option<Vec<u8>> {
    let mut text = text.to_vec();
    while !text.len().is_multiple_of(4) {
        text.push(b'=');
    }
    base64(&text)
}

/// Decodes `%` and two hexadecimal digits in a name.
fn from_url(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(if *first == b'%' {
            let (digits, behind) = rest.split_first_chunk::<2>()?;
            rest = behind;
            u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?
        } else {
            *first
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(records: &[(&str, &[u8])]) -> Result<Attributes, MemberFault> {
        let mut attributes = Attributes::default();
        for (key, value) in records {
            attributes.take(key.as_bytes(), value, Packer::Bsdtar)?;
        }
        Ok(attributes)
    }

    #[test]
    fn both_forms_of_an_attribute_are_one() {
        let attributes = taken(&[
            ("SCHILY.xattr.user.b", b"\0\n="),
            ("LIBARCHIVE.xattr.user.b", b"AAo9"),
            ("LIBARCHIVE.xattr.user.a%3Db%20", b"MQ"),
            ("SCHILY.xattr.user.empty", b""),
            ("mtime", b"1"),
        ])
        .unwrap();
        let kept: Vec<_> = attributes.kept.iter().map(|kept| (&*kept.name, &*kept.value)).collect();
        assert_eq!(kept, [("user.a=b ", &b"1"[..]), ("user.b", b"\0\n="), ("user.empty", b"")]);
        assert!(!attributes.is_labelled);
        let mut of_tar = Attributes::default();
        of_tar.take(b"SCHILY.xattr.user.a%3Db%253D", b"", Packer::Tar).unwrap();
        assert_eq!(of_tar.kept[0].name, "user.a=b%3D");
        let of_bsdtar = taken(&[("SCHILY.xattr.user.a%3Db", b"")]).unwrap();
        assert_eq!(of_bsdtar.kept[0].name, "user.a%3Db");
        assert!(taken(&[("SCHILY.xattr.user.b", b"x"), ("LIBARCHIVE.xattr.user.b", b"AAo9")]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (key, value) in [
            ("LIBARCHIVE.xattr.user.a", &b"M"[..]),
            ("LIBARCHIVE.xattr.user.a", b"MR"),
            ("LIBARCHIVE.xattr.user.a", b"M?=="),
            ("LIBARCHIVE.xattr.user.a%4", b"MQ"),
            ("LIBARCHIVE.xattr.user.a%zz", b"MQ"),
            ("LIBARCHIVE.xattr.user.a%00", b"MQ"),
            ("LIBARCHIVE.xattr.user.%ff", b"MQ"),
            ("SCHILY.xattr.security.capability", b"x"),
            ("SCHILY.xattr.user.", b"x"),
            ("SCHILY.xattr.security.ima", b"x"),
            ("SCHILY.xattr.trusted.x", b"x"),
            ("SCHILY.xattr.", b"x"),
            ("OTHER.xattr.user.x", b"x"),
        ] {
            assert!(taken(&[(key, value)]).is_err(), "{key}");
        }
        let long = format!("SCHILY.xattr.user.{}", "x".repeat(limits::NAME_BYTES));
        assert!(taken(&[(&long, b"x")]).is_err());
    }

    #[test]
    fn a_label_is_noted_and_not_kept() {
        for key in
            ["RHT.security.selinux", "SCHILY.xattr.security.selinux", "LIBARCHIVE.xattr.security.selinux"]
        {
            let attributes = taken(&[(key, b"MQ")]).unwrap();
            assert!(attributes.is_labelled && attributes.kept.is_empty(), "{key}");
        }
    }

    #[test]
    fn links_have_none_and_only_files_have_capabilities() {
        let user = taken(&[("SCHILY.xattr.user.a", b"1")]).unwrap();
        let capability = taken(&[("SCHILY.xattr.security.capability", &[0; 20])]).unwrap();
        let link = MemberKind::Symlink { target: "x".into() };
        let file = MemberKind::File { size: 1 };
        assert!(user.check(&file).is_ok() && user.check(&MemberKind::Directory).is_ok());
        assert!(user.check(&link).is_err() && Attributes::default().check(&link).is_ok());
        assert!(capability.check(&file).is_ok() && capability.check(&MemberKind::Directory).is_err());
    }
}
