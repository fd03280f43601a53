//! Builds tar archives, valid and hostile: every byte of a header can be set.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use thimble::patch::PatchError;
use thimble::patch::archive::{self, Archive, Member};
use thimble::patch::metadata::Metadata;

/// What is in a patch.
#[derive(Debug)]
pub struct Index {
    pub metadata: Metadata,
    pub members: Vec<Member>,
    pub unpacked_bytes: u64,
}

impl Index {
    /// The first member whose path ends so.
    pub fn find(&self, end: &str) -> &Member {
        let mut members = self.members.iter();
        members.find(|member| member.path.to_str().unwrap().ends_with(end)).expect("a member")
    }
}

/// Reads a patch, and all members in the archive's order.
pub fn index_of(file: impl std::io::Read) -> Result<Index, PatchError> {
    let mut list = Vec::new();
    let read = archive::members(file, &mut |member| list.push(member.clone()))?;
    let Archive { metadata, members, unpacked_bytes } = read;
    assert_eq!(members, list.len());
    Ok(Index { metadata, members: list, unpacked_bytes })
}

/// The minimal metadata of a patch.
pub fn metadata(id: &str) -> String {
    format!("id = \"{id}\"\nsw_version = \"1.0\"\nsummary = \"Patch {id}\"\nreboot_required = false\n")
}

/// A tar archive under construction. Names are not checked.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An archive with only a patch's metadata.
    pub fn patch(id: &str) -> Self {
        Self::default().file("metadata.toml", metadata(id).as_bytes())
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.member(name.as_bytes(), EntryType::Regular, 0o644, b"", content)
    }

    pub fn script(self, name: &str, content: &[u8]) -> Self {
        self.member(name.as_bytes(), EntryType::Regular, 0o755, b"", content)
    }

    pub fn directory(self, name: &str) -> Self {
        self.member(name.as_bytes(), EntryType::Directory, 0o755, b"", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.member(name.as_bytes(), EntryType::Symlink, 0o777, target.as_bytes(), b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.member(name.as_bytes(), EntryType::Link, 0o644, target.as_bytes(), b"")
    }

    pub fn member(self, name: &[u8], kind: EntryType, mode: u32, link: &[u8], content: &[u8]) -> Self {
        self.with_header(content, |header| {
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name);
            old.linkname[..link.len()].copy_from_slice(link);
            header.set_entry_type(kind);
            header.set_mode(mode);
        })
    }

    /// A member whose header is edited by `change`. The checksum is computed afterwards;
    /// the size is the content's unless changed.
    pub fn with_header(mut self, content: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A pax header for the member that follows.
    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        self.pax_named("pax", EntryType::XHeader, records)
    }

    /// A pax header with a name of its own; of the global kind it is for all that follow.
    pub fn pax_named(self, name: &str, kind: EntryType, records: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut len = rest.len() + 1;
            while rest.len() + len.to_string().len() != len {
                len += 1;
            }
            text += &format!("{len}{rest}");
        }
        self.member(name.as_bytes(), kind, 0o644, b"", text.as_bytes())
    }

    /// The tar with its end marker.
    pub fn tar(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// The tar without its end marker.
    pub fn unended(self) -> Vec<u8> {
        self.0
    }

    /// A patch file's bytes.
    pub fn gzip(self) -> Vec<u8> {
        gzip(&self.tar())
    }
}

/// Compresses, as fast as it goes.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
