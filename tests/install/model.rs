//! A model of the tree: the expected one, computed from base and patches without the
//! installer's code, and the actual one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::pieces::{Patch, What};

/// The paths of a tree, with all that is compared.
pub type Tree = BTreeMap<String, Node>;

/// What is at a path. A directory's time is not compared: it changes with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub content: Content,
    pub mode: u32,
    pub owner: u32,
    pub mtime_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    File(Vec<u8>),
    Link(String),
    Directory,
}

/// The tree below `root`, without thimble's own files.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == ".thimble" {
                continue;
            }
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = if stat.is_dir() {
                folders.push(path.clone());
                Content::Directory
            } else if stat.is_symlink() {
                Content::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                Content::File(fs::read(&path).unwrap())
            };
            let is_directory = content == Content::Directory;
            let node = Node {
                content,
                mode: stat.permissions().mode() & 0o7777,
                owner: stat.uid(),
                mtime_s: if is_directory { 0 } else { stat.mtime() as u64 },
            };
            tree.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), node);
        }
    }
    tree
}

/// The expected tree: the base with these patches over it, bottom first.
pub fn expected<'p>(base: &Tree, patches: impl IntoIterator<Item = &'p Patch>) -> Tree {
    let mut tree = base.clone();
    let mut members = BTreeSet::new();
    for patch in patches {
        let directories = patch.pieces.iter().filter(|piece| matches!(piece.what, What::Directory));
        members.extend(directories.map(|piece| resolve(base, &piece.path)));
        for piece in &patch.pieces {
            let path = resolve(base, &piece.path);
            for (at, _) in path.match_indices('/') {
                let plain = Node { content: Content::Directory, mode: 0o755, owner: 0, mtime_s: 0 };
                let said = patch.pieces.iter().find(|piece| {
                    matches!(piece.what, What::Directory) && resolve(base, &piece.path) == path[..at]
                });
                let mode = said.map_or(0o755, |said| said.mode);
                tree.entry(path[..at].to_owned()).or_insert(Node { mode, ..plain });
            }
            let content = match &piece.what {
                What::File(content) => Content::File(content.clone()),
                What::Link(target) => Content::Link(target.clone()),
                What::Same(of) => tree[&resolve(base, of)].content.clone(),
                What::Directory => Content::Directory,
            };
            let is_directory = content == Content::Directory;
            let mtime_s = if is_directory { 0 } else { piece.mtime_s };
            let node = Node { content, mode: piece.mode, owner: piece.owner, mtime_s };
            if is_directory {
                tree.entry(path).or_insert(node);
            } else {
                tree.insert(path, node);
            }
        }
        for path in &patch.removes {
            tree.remove(&resolve(base, path));
        }
    }
    // A directory that only a removed file needed is not there either.
    for path in tree.keys().rev().cloned().collect::<Vec<_>>() {
        let is_made = tree[&path].content == Content::Directory && !base.contains_key(&path);
        let is_empty = !tree.keys().any(|other| other.starts_with(&format!("{path}/")));
        if is_made && is_empty && !members.contains(&path) {
            tree.remove(&path);
        }
    }
    tree
}

/// Follows the base's links to directories. These tests have one level of them.
fn resolve(base: &Tree, path: &str) -> String {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match base.get(first) {
        Some(Node { content: Content::Link(target), .. }) if !rest.is_empty() => {
            format!("{}/{rest}", target.trim_start_matches('/'))
        }
        _ => path.to_owned(),
    }
}

/// Fails with the paths that differ, instead of two whole trees.
#[track_caller]
pub fn assert_same(is: &Tree, should: &Tree, when: &str) {
    let differ = difference(is, should);
    assert!(differ.is_empty(), "{when}:\n{differ}");
}

/// The paths that differ, one a line.
pub fn difference(is: &Tree, should: &Tree) -> String {
    let paths: std::collections::BTreeSet<_> = is.keys().chain(should.keys()).collect();
    let differ = paths.into_iter().filter(|path| is.get(*path) != should.get(*path));
    differ
        .map(|path| format!("  {path}: is {:?}, should be {:?}\n", is.get(path), should.get(path)))
        .collect()
}
