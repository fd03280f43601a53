//! What an operator should look at before a patch is installed: members that root does not
//! own, and modes that give away rights. All of it is allowed.

use std::fmt::{self, Write};
use std::path::Path;

use super::archive::{ArchiveSection, Member, MemberKind};
use super::attributes::CAPABILITY;
use crate::types::ShownPath;

/// The greatest number of members that a caution names.
const NAMES: usize = 8;

/// Something that is true of members of a patch and may not be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caution {
    what: &'static str,
    count: usize,
    /// The first members, in the archive's order.
    names: Vec<String>,
}

/// Whether a caution is true of a member.
type Test = fn(&Member) -> bool;

/// The gravest first.
const TESTS: [(&str, Test); 6] = [
    ("with capabilities", |member| member.attributes.iter().any(|attribute| attribute.name == CAPABILITY)),
    ("set-user-id", |member| is_file(member) && member.owner.mode & 0o4000 != 0),
    ("set-group-id", |member| is_file(member) && member.owner.mode & 0o2000 != 0),
    ("world-writable", is_world_writable),
    ("not owned by root:root", is_of_others),
    (LABELLED, |member| member.is_labelled),
];

/// Each file on a host with SELinux has a label, and each packer can add it.
const LABELLED: &str = "with an SELinux label, which the host's policy sets instead";

/// Collects the cautions about a patch while its members are read. Its memory has a bound.
#[derive(Debug)]
pub struct Cautions(Vec<Caution>);

impl Cautions {
    /// No cautions yet.
    #[must_use]
    pub fn new() -> Self {
        Self(TESTS.iter().map(|(what, _)| Caution::new(what)).collect())
    }

    /// The caution about labels that were not packed, and no other.
    #[cfg(feature = "tools")]
    pub(super) fn with_labels(labelled: Caution) -> Self {
        let mut cautions = Self::new();
        for caution in cautions.0.iter_mut().filter(|caution| caution.what == labelled.what) {
            *caution = labelled.clone();
        }
        cautions
    }

    /// Adds what there is to say about a member. Only files, links and directories that are
    /// installed count.
    pub fn add(&mut self, member: &Member) {
        if member.section != ArchiveSection::Files {
            return;
        }
        for (caution, (_, is_so)) in self.0.iter_mut().zip(TESTS) {
            if is_so(member) {
                caution.add(member);
            }
        }
    }

    /// Those that are true of any member.
    #[must_use]
    pub fn found(mut self) -> Vec<Caution> {
        self.0.retain(|caution| caution.count > 0);
        self.0
    }
}

impl Default for Cautions {
    fn default() -> Self {
        Self::new()
    }
}

impl Caution {
    fn new(what: &'static str) -> Self {
        Self { what, count: 0, names: Vec::new() }
    }

    /// The caution about files that have a label, of which there are none yet.
    #[cfg(feature = "tools")]
    pub(super) fn labels() -> Self {
        Self::new(LABELLED)
    }

    fn add(&mut self, member: &Member) {
        let owner = is_of_others(member).then_some((member.owner.uid, member.owner.gid));
        self.add_path(&member.path, owner);
    }

    /// Adds a path, with its owner if that is to be shown.
    pub(super) fn add_path(&mut self, path: &Path, owner: Option<(u32, u32)>) {
        self.count += 1;
        if self.names.len() < NAMES {
            let mut name = format!("/{}", ShownPath(&path.to_string_lossy()));
            if let Some((uid, gid)) = owner {
                let _ = write!(name, " ({uid}:{gid})");
            }
            self.names.push(name);
        }
    }

    /// The caution with at most this many names.
    #[must_use]
    pub fn with_names(&self, most: usize) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let members = if self.count == 1 { "member" } else { "members" };
            write!(f, "{} {members} {}", self.count, self.what)?;
            for (at, name) in self.names.iter().take(most).enumerate() {
                write!(f, "{} {name}", if at == 0 { ":" } else { "," })?;
            }
            match self.count - self.names.len().min(most) {
                more if more == self.count || more == 0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        })
    }
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_names(NAMES).fmt(f)
    }
}

/// All cautions in one line of at most `most` bytes, with as many names as fit; empty if
/// there are none.
#[must_use]
pub fn in_one_line(cautions: &[Caution], most: usize) -> String {
    let with = |names: usize| {
        let each: Vec<_> = cautions.iter().map(|caution| caution.with_names(names).to_string()).collect();
        each.join("; ")
    };
    (1..=NAMES).rev().map(with).find(|line| line.len() <= most).unwrap_or_else(|| with(0))
}

fn is_file(member: &Member) -> bool {
    matches!(member.kind, MemberKind::File { .. })
}

fn is_of_others(member: &Member) -> bool {
    (member.owner.uid, member.owner.gid) != (0, 0)
}

/// A directory like /tmp, in which only a file's owner may remove it, is not meant.
fn is_world_writable(member: &Member) -> bool {
    let is_shared = member.kind == MemberKind::Directory && member.owner.mode & 0o1000 != 0;
    let is_link = matches!(member.kind, MemberKind::Symlink { .. });
    member.owner.mode & 0o002 != 0 && !is_link && !is_shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::archive::Owner;

    fn member(path: &str, kind: MemberKind, mode: u32, uid: u32, gid: u32) -> Member {
        let owner = Owner { mode, uid, gid, ..Owner::default() };
        let (section, path) = (ArchiveSection::Files, path.into());
        let attributes = Vec::new();
        Member {
            section,
            path,
            kind,
            owner,
            attributes,
            is_labelled: false,
            is_sparse: false,
            difference: None,
        }
    }

    fn found(members: &[Member]) -> Vec<Caution> {
        let mut cautions = Cautions::new();
        members.iter().for_each(|member| cautions.add(member));
        cautions.found()
    }

    fn lines(members: &[Member]) -> Vec<String> {
        found(members).iter().map(ToString::to_string).collect()
    }

    const FILE: MemberKind = MemberKind::File { size: 1 };

    #[test]
    fn owners_and_modes_that_may_not_be_meant_are_named() {
        let link = || MemberKind::Symlink { target: "x".into() };
        let ordinary = vec![
            member("bin/tool", FILE, 0o755, 0, 0),
            member("bin/link", link(), 0o777, 0, 0),
            member("tmp", MemberKind::Directory, 0o1777, 0, 0),
            member("srv/of-group", MemberKind::Directory, 0o2775, 0, 0),
        ];
        assert_eq!(lines(&ordinary), [""; 0]);
        let told = lines(&[
            member("etc/cron.d/fix", FILE, 0o644, 1000, 1000),
            member("bin/su", FILE, 0o4755, 0, 0),
            member("bin/wall", FILE, 0o2755, 0, 5),
            member("bin/link", link(), 0o777, 1000, 0),
            member("srv", MemberKind::Directory, 0o777, 0, 0),
            member("srv/x", FILE, 0o666, 0, 0),
        ]);
        let expected = [
            "1 member set-user-id: /bin/su",
            "1 member set-group-id: /bin/wall (0:5)",
            "2 members world-writable: /srv, /srv/x",
            "3 members not owned by root:root: /etc/cron.d/fix (1000:1000), /bin/wall (0:5), /bin/link (1000:0)",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn many_are_counted_and_a_line_has_as_many_names_as_fit() {
        let members: Vec<_> = (0..20).map(|at| member(&format!("srv/{at}"), FILE, 0o666, 0, 0)).collect();
        let cautions = found(&members);
        assert!(cautions[0].to_string().ends_with("/srv/6, /srv/7 and 12 more"), "{}", cautions[0]);
        assert_eq!(
            in_one_line(&cautions, 62),
            "20 members world-writable: /srv/0, /srv/1, /srv/2 and 17 more"
        );
        assert_eq!(in_one_line(&cautions, 30), "20 members world-writable");
        assert_eq!(in_one_line(&[], 30), "");
    }
}
