//! The programs that pack archives, and the options with which they pack what a patch can
//! have.

use super::fault::MemberFault;

/// A program that packs archives, as far as its archives tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packer {
    /// GNU tar, or one that packs as it does.
    Tar,
    /// bsdtar, and what else uses libarchive.
    Bsdtar,
}

impl Packer {
    /// The packer of a pax header with this name: libarchive puts it into a directory
    /// `PaxHeader`, GNU tar into `PaxHeaders` or `PaxHeaders.PID`.
    pub(super) fn of_pax_header(name: &[u8]) -> Self {
        let is_bsdtar = name.split(|byte| *byte == b'/').any(|part| part == b"PaxHeader");
        if is_bsdtar { Self::Bsdtar } else { Self::Tar }
    }

    /// The fault of a member with an extended attribute that a patch does not keep.
    pub(super) fn attribute(self, name: String) -> MemberFault {
        MemberFault::AttributeNotKept {
            pack: match self {
                Self::Tar => format!("with --xattrs-exclude={name}"),
                Self::Bsdtar => "with --no-xattrs".to_owned(),
            },
            name,
        }
    }

    /// The fault of a member with an access list.
    pub(super) fn access_list(self) -> MemberFault {
        let what = "it has an access list, which would be lost";
        MemberFault::NotKept { what, pack: self.choose("without --acls", "with --no-acls") }
    }

    /// The fault of a member that is packed without its holes, in an unknown form.
    pub(super) fn sparse(self) -> MemberFault {
        let what = "it is packed as a sparse file, in a form that only its packer reads";
        MemberFault::NotKept { what, pack: self.choose("without --sparse", "with --no-read-sparse") }
    }

    /// The fault of a member that star has packed without its holes.
    pub(super) fn sparse_of_star() -> MemberFault {
        let what = "it is packed as a sparse file, in a form that only its packer reads";
        MemberFault::NotKept { what, pack: "without -sparse" }
    }

    /// The fault of a member of a kind that no patch has. Some kinds are GNU tar's own.
    pub(super) fn unknown(kind: u8) -> MemberFault {
        match kind {
            b'V' => MemberFault::NotKept { what: "it is a volume label", pack: "without --label" },
            b'M' => MemberFault::NotKept {
                what: "it is continued from another volume",
                pack: "without --multi-volume",
            },
            b'D' => {
                MemberFault::NotKept { what: "it is the list of a directory", pack: "without --incremental" }
            }
            _ => MemberFault::NotAFile("member of an unknown kind"),
        }
    }

    fn choose(self, tar: &'static str, bsdtar: &'static str) -> &'static str {
        match self {
            Self::Tar => tar,
            Self::Bsdtar => bsdtar,
        }
    }
}
