//! The labels of SELinux: the host's policy says which one a path has, and a program of the
//! host gives it to what an install has put in place.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use super::installer::Installer;
use super::journal::{Journal, Moves};
use super::moves::{Clear, Move, NewDirectory, Switch};
use super::scripts::{ScriptError, Trial};
use super::told::Told;
use super::tree::RootTree;
use crate::config::RELABEL;
use crate::failpoint;

/// A file that is there while the kernel has SELinux in use.
const SELINUX: &str = "/sys/fs/selinux/enforce";

impl Installer<'_> {
    /// Gives the paths of a journal's moves their labels, those that are there now. A failure
    /// stops nothing: it is returned, to be told with the outcome.
    pub fn relabel(&self, journal: &Journal) -> Option<String> {
        let words: Vec<&str> = match &self.config.agent.relabel {
            Some(words) => words.iter().map(String::as_str).collect(),
            None if Path::new(SELINUX).exists() => RELABEL.to_vec(),
            None => return None,
        };
        let (program, arguments) = words.split_first()?;
        let (root, moves) = (self.scripts.root(), journal.moves());
        let is_back = journal.state.undoing.is_some();
        let mut paths = Paths { tree: &self.tree, root, moves, is_back };
        let mut first = Vec::new();
        if !paths.next_into(&mut first) {
            return None;
        }
        failpoint::hit("setting labels");
        let mut command = Command::new(program);
        command.args(arguments);
        let mut more = |buffer: &mut Vec<u8>| {
            if first.is_empty() {
                return paths.next_into(buffer);
            }
            buffer.append(&mut first);
            true
        };
        let Trial { error, output } = self.scripts.feed(command, &mut more);
        self.tree.forget();
        let mut told = Told::default();
        told.add(&match error? {
            ScriptError::System(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("files may have wrong labels, as `{program}` (agent.relabel) is not on this host")
            }
            error => {
                let last = output.rsplit("; ").next().unwrap_or_default();
                format!("files may have wrong labels, as `{program}` {error}: {last}")
            }
        });
        told.line()
    }
}

/// The paths that an install changes, one after another.
struct Paths<'j> {
    tree: &'j RootTree,
    root: &'j Path,
    moves: Moves<'j>,
    /// The install was undone.
    is_back: bool,
}

impl Paths<'_> {
    /// Appends the next path that is there, from the host's root, with a zero byte behind it;
    /// false at the end. A journal that cannot be read is at its end: whoever needs it sees why.
    fn next_into(&mut self, buffer: &mut Vec<u8>) -> bool {
        while let Ok(Some(planned)) = self.moves.next() {
            let path = match planned {
                Move::Directory(NewDirectory { path, .. }) if !self.is_back => path,
                Move::MakeWay(Switch { path, .. }) | Move::Clear(Clear { path, .. }) if self.is_back => path,
                Move::Switch(Switch { path, .. }) => path,
                _ => continue,
            };
            if self.tree.exists(&path).unwrap_or_default() {
                buffer.extend_from_slice(self.root.join(path).as_os_str().as_bytes());
                buffer.push(0);
                return true;
            }
        }
        false
    }
}
