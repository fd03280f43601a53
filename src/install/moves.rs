//! The changes of the tree that an install makes: all that undoing it needs to know.
//! They are in the journal, in the order of the paths.

use serde::{Deserialize, Serialize};

use super::record::Access;
use crate::patch::archive::Attribute;

/// One change. The order of the variants and fields here and below is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Move {
    /// A directory to make. Each comes before those in it.
    Directory(NewDirectory),
    /// A local change to save.
    Save(Save),
    /// A path whose object changes.
    Switch(Switch),
    /// A directory to remove after the commit if it is empty. Each comes after those in it.
    OldDirectory(String),
    /// A path whose object leaves before all others, and nothing enters: the directory that it
    /// is in goes, or one is made in its place.
    MakeWay(Switch),
    /// A directory to remove once what is in it has made way: a file or link takes its place,
    /// or that of one above it. Each comes before those in it.
    Clear(Clear),
    /// A directory whose owner and mode change.
    Access(AccessChange),
}

/// A directory that goes before anything is switched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clear {
    pub path: String,
    /// The mount point of its filesystem.
    pub mount: String,
    /// The number of an empty directory with its attributes, which is kept until the commit
    /// and takes its place if the install is undone.
    pub number: u64,
}

/// A directory to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewDirectory {
    pub path: String,
    /// The mount point of its filesystem.
    pub mount: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub attributes: Vec<Attribute>,
}

/// A directory whose owner and mode change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccessChange {
    pub path: String,
    /// The mount point of its filesystem.
    pub mount: String,
    pub from: Access,
    pub to: Access,
}

/// A file that gets a second name beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Save {
    pub path: String,
    pub beside: String,
}

/// A path whose object changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Switch {
    pub path: String,
    /// The mount point of its filesystem.
    pub mount: String,
    /// The number of the object that leaves; it is kept under this number.
    pub from: Option<u64>,
    /// The object that enters.
    pub to: Option<Entering>,
    /// The path is beside one that was changed by hand, and not in the order.
    pub is_beside: bool,
}

/// An object that enters a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entering {
    pub number: u64,
    /// This install staged it, so undoing does not keep it.
    pub is_fresh: bool,
    /// The permission bits that it gets, with set-user-id or set-group-id: it lost them while
    /// it was kept. `None` if it has its own.
    pub mode: Option<u16>,
}

impl Entering {
    /// Whether it was kept before this install, and may have lost rights meanwhile.
    pub fn was_kept(&self) -> bool {
        !self.is_fresh || self.mode.is_some()
    }
}
