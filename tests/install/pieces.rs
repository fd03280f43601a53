//! The patches of these tests and their members.

use crate::support::archive::{Tar, metadata};

/// A file, link or directory of a patch.
#[derive(Clone, Debug)]
pub struct Piece {
    pub path: String,
    pub what: What,
    pub mode: u32,
    pub owner: u32,
    pub mtime_s: u64,
}

/// The type of a piece.
#[derive(Clone, Debug)]
pub enum What {
    File(Vec<u8>),
    Link(String),
    Directory,
    /// A hard link to an earlier file.
    Same(String),
}

impl Piece {
    fn new(path: &str, what: What, mode: u32) -> Self {
        Self { path: path.to_owned(), what, mode, owner: 0, mtime_s: 1_700_000_000 }
    }
    pub fn owner(self, owner: u32) -> Self {
        Self { owner, ..self }
    }
    pub fn mtime(self, mtime_s: u64) -> Self {
        Self { mtime_s, ..self }
    }
}

pub fn file(path: &str, content: impl AsRef<[u8]>) -> Piece {
    Piece::new(path, What::File(content.as_ref().to_vec()), 0o644)
}

pub fn program(path: &str, content: impl AsRef<[u8]>, mode: u32) -> Piece {
    Piece::new(path, What::File(content.as_ref().to_vec()), mode)
}

pub fn link(path: &str, target: &str) -> Piece {
    Piece::new(path, What::Link(target.to_owned()), 0o777)
}

pub fn same(path: &str, as_path: &str) -> Piece {
    Piece::new(path, What::Same(as_path.to_owned()), 0o644)
}

pub fn directory(path: &str, mode: u32) -> Piece {
    Piece::new(path, What::Directory, mode)
}

/// A patch to be made.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    pub id: String,
    pub pieces: Vec<Piece>,
    pub requires: Vec<String>,
    pub removes: Vec<String>,
    scripts: Vec<(String, String)>,
    extra: String,
}

pub fn patch(id: &str, pieces: impl Into<Vec<Piece>>) -> Patch {
    Patch { id: id.to_owned(), pieces: pieces.into(), ..Patch::default() }
}

impl Patch {
    /// The same with another id.
    pub fn named(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    pub fn requires(mut self, id: &str) -> Self {
        self.requires.push(id.to_owned());
        self
    }

    /// With a file of the host that it removes.
    pub fn removes(mut self, path: &str) -> Self {
        self.removes.push(path.to_owned());
        self
    }

    /// With a shell script.
    pub fn script(mut self, name: &str, body: &str) -> Self {
        self.scripts.push((name.to_owned(), format!("#!/bin/sh\n{body}\n")));
        self
    }

    /// With this shell script in place of one of the same name.
    pub fn script_instead(mut self, name: &str, body: &str) -> Self {
        self.scripts.retain(|(other, _)| other != name);
        self.script(name, body)
    }

    /// With a script that has exactly this text.
    pub fn raw_script(mut self, name: &str, text: &str) -> Self {
        self.scripts.push((name.to_owned(), text.to_owned()));
        self
    }

    /// With more lines of metadata.
    pub fn says(mut self, lines: &str) -> Self {
        self.extra += lines;
        self.extra.push('\n');
        self
    }

    /// The patch file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = metadata(&self.id);
        for line in self.extra.lines() {
            let key = line.split('=').next().unwrap().trim();
            text = text.lines().filter(|old| !old.starts_with(key)).map(|old| format!("{old}\n")).collect();
            text += &format!("{line}\n");
        }
        if !self.requires.is_empty() {
            text += &format!("requires = {:?}\n", self.requires);
        }
        if !self.removes.is_empty() {
            text += &format!("remove = {:?}\n", self.removes);
        }
        let mut tar = Tar::default().file("metadata.toml", text.as_bytes());
        for Piece { path, what, mode, owner, mtime_s } in &self.pieces {
            let name = format!("files/{path}");
            let (kind, target, content) = match what {
                What::File(content) => (tar::EntryType::Regular, String::new(), &content[..]),
                What::Link(target) => (tar::EntryType::Symlink, target.clone(), &[][..]),
                What::Directory => (tar::EntryType::Directory, String::new(), &[][..]),
                What::Same(of) => (tar::EntryType::Link, format!("files/{of}"), &[][..]),
            };
            // What a header has no room for goes into one of pax before it.
            let long = [("path", &name), ("linkpath", &target)].map(|(key, text)| (key, text.as_str()));
            let long: Vec<_> = long.into_iter().filter(|(_, text)| text.len() > 100).collect();
            if !long.is_empty() {
                tar = tar.pax(&long);
            }
            tar = tar.with_header(content, |header| {
                let old = header.as_old_mut();
                let fits = |text: &str| text.len().min(100);
                old.name[..fits(&name)].copy_from_slice(&name.as_bytes()[..fits(&name)]);
                old.linkname[..fits(&target)].copy_from_slice(&target.as_bytes()[..fits(&target)]);
                header.set_entry_type(kind);
                header.set_mode(*mode);
                header.set_uid((*owner).into());
                header.set_gid((*owner).into());
                header.set_mtime(*mtime_s);
            });
        }
        for (name, body) in &self.scripts {
            tar = tar.script(&format!("scripts/{name}"), body.as_bytes());
        }
        tar.gzip()
    }
}
