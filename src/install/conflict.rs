//! Why a patch does not fit the tree of a host, as the operator reads it.

use std::fmt;

use crate::repo::layers::Unordered;
use crate::types::{PatchId, ShownPath};

/// Why a path of a patch does not fit the tree.
#[derive(Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A directory is where the patch has a file or a symbolic link.
    IsDirectory(PatchId, String),
    /// Something is mounted on a file that changes. No rename replaces such a file.
    MountPoint(PatchId, String),
    /// A directory is where the patch removes a file.
    RemovesDirectory(PatchId, String),
    /// A file is where the patch needs a directory.
    NotDirectory(PatchId, String),
    /// The path leads through a symbolic link that a patch brought.
    ThroughPatchedLink(PatchId, String),
    /// The path leads through a symbolic link that is not root's alone: another user owns
    /// it, or a directory that it is in, or may write there.
    ThroughOthersLink(PatchId, String),
    /// The path leads to a filesystem that a user has mounted.
    UsersMount(PatchId, String),
    /// The top directory of the filesystem that is mounted here is not root's alone, but has
    /// this mode and owner.
    OthersTop(String, String),
    /// The symbolic links on the path form a loop, are not UTF-8, or lead into
    /// `.thimble`.
    BadWay(PatchId, String),
    /// Two members of a patch resolve to the same path on this host.
    SameFile(PatchId, String),
    /// Both patches have something at the path, and neither requires the other. In a box, or
    /// all errors of an install are told apart in another way, which takes some kilobytes.
    Unordered(Box<[PatchId; 2]>, String),
    /// One patch has a file where another needs a directory.
    FileAndDirectory {
        /// The patch with the file.
        file_of: PatchId,
        /// The patch that needs the directory; `None` if a file that comes back needs it.
        directory_of: Option<PatchId>,
        /// The path of both.
        path: String,
    },
    /// A directory would make way for a file of the patch, and this below it cannot go.
    InTheWay(PatchId, String, InTheWay),
    /// An object of a patch is neither in place nor kept.
    Lost(PatchId, String),
    /// The filesystem cannot hold a file of the patch as it is.
    Unfit {
        /// The patch.
        patch: PatchId,
        /// The file's path below the root.
        path: String,
        /// What it cannot hold.
        unfit: Unfit,
    },
}

/// Why something in a directory that would go cannot go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InTheWay {
    /// No install made it.
    Foreign,
    /// A file of a patch was changed by hand.
    Changed,
    /// It was there before the patch that covers it.
    Before,
    /// Something is mounted on it.
    MountPoint,
}

/// What a filesystem cannot hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A symbolic link.
    Link,
    /// Set-user-id, set-group-id or sticky bits, in this mode.
    Mode(u32),
    /// This owner; the file would belong to the second one.
    Owner((u32, u32), (u32, u32)),
    /// An extended attribute.
    Attribute,
    /// Capabilities.
    Capability,
    /// The name.
    Name,
    /// The name beside that of another file, at this path, which it takes for the same.
    SameName(String),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsDirectory(id, path) => {
                write!(
                    f,
                    "{id} has the file /{}, which is a directory on this host: \
                     remove the directory, or the file from the patch",
                    ShownPath(path)
                )
            }
            Self::MountPoint(id, path) => {
                write!(
                    f,
                    "{id} has the file /{}, and something is mounted on it on this host: \
                     unmount that, install, and mount it again",
                    ShownPath(path)
                )
            }
            Self::RemovesDirectory(id, path) => {
                write!(
                    f,
                    "{id} removes the file /{}, which is a directory on this host: correct `remove`, or move the \
                     directory away",
                    ShownPath(path)
                )
            }
            Self::NotDirectory(id, path) => {
                write!(
                    f,
                    "{id} needs the directory /{}, which is not a directory on this host: \
                     move away what is there",
                    ShownPath(path)
                )
            }
            Self::ThroughPatchedLink(id, path) => {
                write!(
                    f,
                    "{id} has files below /{}, a link that a patch brought, and such links are not followed: \
                     make the patch with the path that the link leads to",
                    ShownPath(path)
                )
            }
            Self::ThroughOthersLink(id, path) => {
                write!(
                    f,
                    "{id} has files below /{}, a link that not root alone can change, and such links are not followed: \
                     name the directory that it leads to",
                    ShownPath(path)
                )
            }
            Self::UsersMount(id, path) => {
                write!(
                    f,
                    "{id} has files below /{}, where a user has mounted a filesystem of his own: unmount that \
                     (`fusermount -u`) and install again",
                    ShownPath(path)
                )
            }
            Self::OthersTop(mount, access) => {
                write!(
                    f,
                    "files are on the filesystem mounted at /{}, whose top directory is {access}, so others \
                     could take away what is kept there: `chown root` and `chmod go-w` it",
                    ShownPath(mount)
                )
            }
            Self::BadWay(id, path) => {
                write!(
                    f,
                    "{id} has /{}, and links on that path form a loop, are not UTF-8, or lead into .thimble",
                    ShownPath(path)
                )
            }
            Self::SameFile(id, path) => {
                write!(
                    f,
                    "two members of {id} are the same file /{} on this host, through a link: \
                     take one out of the patch",
                    ShownPath(path)
                )
            }
            Self::Unordered(two, path) => {
                let [lower, upper] = &**two;
                write!(f, "{}. The path is /{}", Unordered(lower, upper), ShownPath(path))
            }
            Self::FileAndDirectory { file_of, directory_of: Some(directory_of), path } => {
                write!(
                    f,
                    "{file_of} has a file at /{}, where {directory_of} needs a directory: \
                     remove one of the two and install, then apply the other if it is to take its place",
                    ShownPath(path)
                )
            }
            Self::FileAndDirectory { file_of, directory_of: None, path } => {
                write!(
                    f,
                    "{file_of} has a file at /{}, where a file that comes back needs a directory: \
                     remove {file_of} and install, then do the rest",
                    ShownPath(path)
                )
            }
            Self::InTheWay(id, path, why) => {
                write!(f, "{id} replaces a directory above /{}, which ", ShownPath(path))?;
                f.write_str(match why {
                    InTheWay::Foreign => "no install made: move it away",
                    InTheWay::Changed => "was changed by hand: move it away",
                    InTheWay::Before => "is from before its patch: remove that, install, move it away",
                    InTheWay::MountPoint => "something is mounted on: unmount that",
                })
            }
            Self::Lost(id, path) => {
                write!(
                    f,
                    "/{} of {id} is lost from .thimble/kept: remove that too, then apply it again",
                    ShownPath(path)
                )
            }
            Self::Unfit { patch, path, unfit } => {
                let path = ShownPath(path);
                match unfit {
                    Unfit::Link => {
                        write!(f, "{patch} has the link /{path}, and its filesystem holds none: leave it out")
                    }
                    Unfit::Mode(mode) => write!(
                        f,
                        "{patch} has /{path} with mode {mode:04o}, and its filesystem has no such bits: \
                         at most 0777"
                    ),
                    Unfit::Owner((uid, gid), (is_uid, is_gid)) => write!(
                        f,
                        "{patch} has /{path} of {uid}:{gid}, and its filesystem makes that {is_uid}:{is_gid}: \
                         use 0:0"
                    ),
                    Unfit::Attribute => write!(
                        f,
                        "{patch} has /{path} with extended attributes, and its filesystem holds none: leave them \
                         out"
                    ),
                    Unfit::Capability => write!(
                        f,
                        "{patch} has /{path} with capabilities, and they cannot be set on its filesystem: leave \
                         them out"
                    ),
                    Unfit::Name => {
                        write!(f, "{patch} has /{path}, and its filesystem cannot hold that name: rename it")
                    }
                    Unfit::SameName(other) => {
                        let other = other.rsplit('/').next().unwrap_or(other);
                        write!(
                            f,
                            "{patch} has /{path}, the same name on its filesystem as {}: use one spelling",
                            ShownPath(other)
                        )
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::types::Reason;

    /// The reason that reaches the operator is cut at its end.
    #[test]
    fn a_long_path_does_not_push_out_what_to_do() {
        let long = || "d/".repeat(limits::PATH_BYTES / 2);
        let id = || PatchId::new(&"P".repeat(limits::PATCH_ID_BYTES)).unwrap();
        let unfit = |unfit| Conflict::Unfit { patch: id(), path: long(), unfit };
        let cases = [
            (Conflict::IsDirectory(id(), long()), "remove the directory"),
            (Conflict::MountPoint(id(), long()), "unmount that"),
            (Conflict::RemovesDirectory(id(), long()), "correct `remove`"),
            (Conflict::NotDirectory(id(), long()), "move away"),
            (Conflict::ThroughPatchedLink(id(), long()), "are not followed"),
            (Conflict::ThroughOthersLink(id(), long()), "are not followed"),
            (Conflict::OthersTop(long(), "0755 1000:1000".to_owned()), "`chmod go-w` it"),
            (Conflict::UsersMount(id(), long()), "unmount that"),
            (Conflict::BadWay(id(), long()), "lead into .thimble"),
            (Conflict::SameFile(id(), long()), "take one out"),
            (Conflict::Unordered([id(), id()].into(), long()), "apply only one of them"),
            (Conflict::InTheWay(id(), long(), InTheWay::Foreign), "move it away"),
            (Conflict::InTheWay(id(), long(), InTheWay::Changed), "move it away"),
            (Conflict::InTheWay(id(), long(), InTheWay::Before), "move it away"),
            (Conflict::InTheWay(id(), long(), InTheWay::MountPoint), "unmount that"),
            (Conflict::Lost(id(), long()), "then apply it again"),
            (unfit(Unfit::Link), "leave it out"),
            (unfit(Unfit::Mode(0o4755)), "at most 0777"),
            (unfit(Unfit::Owner((7, 7), (0, 0))), "use 0:0"),
            (unfit(Unfit::Attribute), "leave them out"),
            (unfit(Unfit::Capability), "leave them out"),
            (unfit(Unfit::Name), "rename it"),
            (unfit(Unfit::SameName("x/README".to_owned())), "use one spelling"),
        ];
        let is_cut = |(conflict, words): &(Conflict, &'static str)| {
            let reason = Reason::format(format_args!("{conflict}"));
            (!reason.raw().contains(words)).then_some(*words)
        };
        assert_eq!(cases.iter().filter_map(is_cut).collect::<Vec<_>>(), [""; 0]);
    }
}
