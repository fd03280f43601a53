//! `metadata.toml`: the description of a patch.

use std::fmt;
use std::path::PathBuf;

use super::fields::{file_path, is_line, names, one_line, prose, required};
use super::floor::{Floor, Says};
use super::floor_keys::floor;
use crate::config::{ConfigError, Document, Problem, name_of};
use crate::limits;
use crate::repo::entry::{EntryMeta, Status};
use crate::types::{Name, NodeType, PatchId, SwVersion, Text};

/// A patch's metadata, with every field within its bounds. Only `id` and `sw_version`
/// are required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `id`: the name of the patch. Required.
    pub id: PatchId,
    /// `sw_version`: the release of the base system that it is for. Required.
    pub sw_version: SwVersion,
    /// `summary`: one line. At most [`limits::SUMMARY_BYTES`].
    pub summary: Text<{ limits::SUMMARY_BYTES }>,
    /// `description`: what it changes. At most [`limits::DESCRIPTION_BYTES`].
    pub description: String,
    /// `install_instructions`: what to do when installing it. Bounded as `description`.
    pub install_instructions: String,
    /// `warnings`: what to look out for. Bounded as `description`.
    pub warnings: String,
    /// `status`: `"REL"` (the default), `"DEV"` or `"OBS"`.
    pub status: Status,
    /// `unremovable`: it cannot be removed once it is installed. Default false.
    pub unremovable: bool,
    /// `reboot_required`: a host that adds or removes it must restart. Default true, as in
    /// StarlingX: a patch is in-service only if it says so.
    pub reboot_required: bool,
    /// `apply_active_release_only`: it is only for hosts that run its release. Default
    /// false.
    pub apply_active_release_only: bool,
    /// `requires`: patches that must be applied before it, sorted. At most
    /// [`limits::REQUIRES`].
    pub requires: Vec<Requirement>,
    /// `nodetypes`: the node types that it is for, sorted; none means all.
    /// At most [`limits::PATCH_NODETYPES`].
    pub nodetypes: Vec<NodeType>,
    /// `packages`: `"name version"` lines, for `show`. At most
    /// [`limits::PATCH_PACKAGES`] of [`limits::PACKAGE_BYTES`].
    pub packages: Vec<String>,
    /// `config`: files of the patch that stay on a host if they were changed by hand.
    /// Relative to the root here, with or without a leading `/` in the file. At most
    /// [`limits::PATCH_CONFIG_FILES`].
    pub config: Vec<PathBuf>,
    /// `remove`: files and links of the host that are not there while the patch is on it.
    /// The paths are relative to the root.
    pub remove: Vec<PathBuf>,
    /// `directories`: directories of the patch that get its owner and mode also if they are
    /// there already. Paths as in `config`. At most [`limits::PATCH_DIRECTORIES`].
    pub directories: Vec<PathBuf>,
    /// `owners`: what `thimble make` gives another owner than root. At most
    /// [`limits::PATCH_OWNERS`]. Has no effect on a patch that is made.
    pub owners: Vec<PathOwner>,
    /// `supersedes`: patches that may not be installed without it, or another that supersedes
    /// them, where it was installed; sorted. At most [`limits::SUPERSEDES`].
    pub supersedes: Vec<PatchId>,
    /// `[floor]` and `[require.ID]`: the patch is a floor, and has neither files nor scripts.
    pub floor: Option<Floor>,
}

/// A patch that another one requires: `ID`, or `ID KIND KIND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its id.
    pub id: PatchId,
    /// The kinds of hosts that need it, sorted; none means all. Only the word of the maker
    /// tells a host that it need not have the patch. At most [`limits::PATCH_NODETYPES`].
    pub nodetypes: Vec<NodeType>,
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let id = Name::new(words.next()?).ok()?;
        let mut nodetypes = Vec::new();
        for kind in words {
            nodetypes.push(Name::new(kind).ok()?);
        }
        nodetypes.sort_unstable();
        (nodetypes.len() <= limits::PATCH_NODETYPES).then_some(Self { id, nodetypes })
    }

    /// Whether hosts of this kind need it.
    #[must_use]
    pub fn concerns(&self, nodetype: &NodeType) -> bool {
        self.nodetypes.is_empty() || self.nodetypes.contains(nodetype)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        self.nodetypes.iter().try_for_each(|kind| write!(f, " {kind}"))
    }
}

/// The owner of a path below the root and of all that is below it, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOwner {
    /// The path, relative to the root.
    pub path: PathBuf,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The file's name in errors.
const FILE: &str = "metadata.toml";

const KEYS: &[&str] = &[
    "id",
    "sw_version",
    "summary",
    "description",
    "install_instructions",
    "warnings",
    "status",
    "unremovable",
    "reboot_required",
    "apply_active_release_only",
    "requires",
    "nodetypes",
    "packages",
    "config",
    "owners",
    "remove",
    "directories",
    "supersedes",
    "floor",
    "require",
];

impl Metadata {
    /// Parses a metadata.toml.
    ///
    /// # Errors
    /// [`ConfigError`]: not TOML, a key that is unknown or missing, a value out
    /// of its bounds. Names the line, the key, the problem and what is accepted.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(text, FILE, KEYS)?;
        let keys = document.top(KEYS);
        let id = required(&keys, "id")?;
        let accepts = format!(
            "{}, with the kinds of hosts that need it behind, if not all do",
            name_of(limits::PATCH_ID_BYTES)
        );
        let mut requires: Vec<Requirement> = Vec::new();
        for required in keys.list("requires", limits::REQUIRES, &accepts, Requirement::parse)? {
            if required.id == id {
                return Err(keys.conflict("requires", "a patch cannot require itself".into()));
            }
            match requires.binary_search_by(|other| other.id.cmp(&required.id)) {
                Ok(_) => return Err(keys.conflict("requires", format!("\"{}\" is in it twice", required.id))),
                Err(at) => requires.insert(at, required),
            }
        }
        let supersedes = names(&keys, "supersedes", limits::SUPERSEDES)?;
        if supersedes.contains(&id) {
            return Err(keys.conflict("supersedes", "a patch cannot supersede itself".into()));
        }
        let floor = floor(&document, &keys)?;
        let summary =
            keys.parsed("summary", &one_line(limits::SUMMARY_BYTES), |text| Text::exact(text).ok())?;
        let status = keys.parsed("status", "\"REL\", \"DEV\" or \"OBS\"", |text| {
            [Status::Released, Status::Development, Status::Obsolete]
                .into_iter()
                .find(|status| status.as_str() == text)
        })?;
        Ok(Self {
            id,
            sw_version: required(&keys, "sw_version")?,
            summary: summary.unwrap_or_default(),
            description: prose(&keys, "description")?,
            install_instructions: prose(&keys, "install_instructions")?,
            warnings: prose(&keys, "warnings")?,
            status: status.unwrap_or(Status::Released),
            unremovable: keys.boolean("unremovable")?.unwrap_or(false),
            reboot_required: keys.boolean("reboot_required")?.unwrap_or(floor.is_none()),
            apply_active_release_only: keys.boolean("apply_active_release_only")?.unwrap_or(false),
            requires,
            nodetypes: names(&keys, "nodetypes", limits::PATCH_NODETYPES)?,
            packages: keys.list(
                "packages",
                limits::PATCH_PACKAGES,
                &one_line(limits::PACKAGE_BYTES),
                |text| is_line(text, limits::PACKAGE_BYTES).then(|| text.to_owned()),
            )?,
            config: keys.list(
                "config",
                limits::PATCH_CONFIG_FILES,
                "the path of a file below the root, without ..",
                file_path,
            )?,
            remove: keys.list(
                "remove",
                limits::PATCH_REMOVED_FILES,
                "the path of a file below the root, without ..",
                file_path,
            )?,
            directories: keys.list(
                "directories",
                limits::PATCH_DIRECTORIES,
                "the path of a directory below the root, without ..",
                file_path,
            )?,
            owners: keys.list(
                "owners",
                limits::PATCH_OWNERS,
                "a path below the root and two numbers, as \"/srv/app 33:33\"",
                path_owner,
            )?,
            supersedes,
            floor,
        })
    }

    /// Parses bytes that may not be UTF-8; see [`Metadata::parse`].
    pub(super) fn parse_bytes(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = str::from_utf8(bytes).map_err(|error| ConfigError {
            file: FILE.to_owned(),
            line: Some(bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count()),
            key: String::new(),
            problem: Problem::File("it is not UTF-8".into()),
        })?;
        Self::parse(text)
    }

    /// What it says about other patches; `None` if it says nothing.
    #[must_use]
    pub fn says(&self) -> Option<Says> {
        let Self { id, supersedes, floor, .. } = self.clone();
        (!supersedes.is_empty() || floor.is_some()).then_some(Says { id, supersedes, floor })
    }

    /// The metadata for the repository's entry.
    #[must_use]
    pub fn entry_meta(&self) -> EntryMeta {
        EntryMeta {
            sw_version: self.sw_version.clone(),
            summary: self.summary.clone(),
            status: self.status,
            reboot_required: self.reboot_required,
            unremovable: self.unremovable,
            apply_active_release_only: self.apply_active_release_only,
            requires: self.requires.iter().take(limits::REQUIRES).map(|it| it.id.clone()).collect(),
            nodetypes: self.nodetypes.iter().take(limits::PATCH_NODETYPES).cloned().collect(),
        }
    }
}

/// A path with its owner and group: `PATH UID:GID`.
fn path_owner(text: &str) -> Option<PathOwner> {
    let (path, owner) = text.rsplit_once(' ')?;
    let (uid, gid) = owner.split_once(':')?;
    // Not the parser's own: that takes a sign.
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    Some(PathOwner { path: file_path(path.trim_end())?, uid: number(uid)?, gid: number(gid)? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::types::Hash;

    const WHOLE: &str = r#"
id = "THIMBLE-0002"
sw_version = "12.4"
summary = "Fixes the clock"
description = """
Two
lines"""
install_instructions = "None"
warnings = "None"
status = "DEV"
unremovable = true
reboot_required = false
apply_active_release_only = true
requires = ["THIMBLE-0001", "BASE worker controller"]
nodetypes = ["worker", "controller"]
packages = ["tzdata 2025b-0+deb12u1"]
config = ["/etc/timezone", "etc//default/x"]
owners = ["/var/lib/app 33:33", "/srv/a b 0:4294967295"]
remove = ["/usr/bin/vulnerable"]
directories = ["/var/lib/app/"]
supersedes = ["THIMBLE-0000"]
"#;

    #[test]
    fn every_key_is_taken() {
        let metadata = Metadata::parse(WHOLE).unwrap();
        assert_eq!(metadata.id.as_str(), "THIMBLE-0002");
        assert_eq!(metadata.description, "Two\nlines");
        assert_eq!(metadata.config, [Path::new("etc/timezone"), Path::new("etc/default/x")]);
        let owner = |path: &str, uid, gid| PathOwner { path: path.into(), uid, gid };
        assert_eq!(metadata.owners, [owner("var/lib/app", 33, 33), owner("srv/a b", 0, u32::MAX)]);
        assert_eq!(metadata.remove, [Path::new("usr/bin/vulnerable")]);
        assert_eq!(metadata.directories, [Path::new("var/lib/app")]);
        assert_eq!(metadata.says().unwrap().supersedes[0].as_str(), "THIMBLE-0000");
        let shown: Vec<_> = metadata.requires.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["BASE controller worker", "THIMBLE-0001"]);
        let kind = |kind: &str| NodeType::new(kind).unwrap();
        let needs = |kind| metadata.requires.iter().map(|it| it.concerns(&kind)).collect::<Vec<_>>();
        assert_eq!([needs(kind("worker")), needs(kind("storage"))], [[true, true], [false, true]]);
        let meta = metadata.entry_meta();
        assert_eq!(meta.status, Status::Development);
        assert!(meta.unremovable && !meta.reboot_required && meta.apply_active_release_only);
        assert_eq!(meta.requires.iter().map(Name::as_str).collect::<Vec<_>>(), ["BASE", "THIMBLE-0001"]);
        assert_eq!(meta.nodetypes.iter().map(Name::as_str).collect::<Vec<_>>(), ["controller", "worker"]);
    }

    #[test]
    fn a_floor_is_read_with_what_it_requires() {
        let hash = "0a".repeat(32);
        let text = format!(
            r#"
id = "F"
sw_version = "1"
[floor]
serial = 7
expires = "2027-06-30"
allows = ["B", "A"]
[require.P1]
hash = "{hash}"
[require."1:2"]
hash = "{hash}"
nodetypes = ["worker"]
release = "24.09"
"#
        );
        let metadata = Metadata::parse(&text).unwrap();
        assert!(!metadata.reboot_required, "there is nothing to restart for");
        let floor = metadata.floor.clone().unwrap();
        assert_eq!((floor.serial, floor.expires.to_string()), (7, "2027-06-30".into()));
        assert_eq!(floor.allows.iter().map(Name::as_str).collect::<Vec<_>>(), ["A", "B"]);
        let [with, without] = &floor.require[..] else { panic!() };
        assert_eq!((with.id.as_str(), with.hash, with.nodetypes.len()), ("1:2", Hash([10; 32]), 1));
        assert_eq!(with.release.as_ref().map(Name::as_str), Some("24.09"));
        assert_eq!((without.id.as_str(), without.nodetypes.len(), &without.release), ("P1", 0, &None));
        assert_eq!(metadata.says().unwrap().floor, Some(floor));
        let patch = Metadata::parse("id = \"P\"\nsw_version = \"1\"\n").unwrap();
        assert_eq!((patch.floor.clone(), patch.says()), (None, None));
    }

    #[test]
    fn a_floor_that_is_none_is_refused_with_the_key() {
        let floor = |top: &str, more: &str| {
            let text = format!("id = \"F\"\nsw_version = \"1\"\n{top}\n{more}\n");
            Metadata::parse(&text).unwrap_err().to_string()
        };
        let whole = "[floor]\nserial = 1\nexpires = \"2027-06-30\"";
        let many: String = (0..65).map(|at| format!("\n[require.P{at}]")).collect();
        let cases = [
            (floor("", "[floor]\nserial = 1"), "floor.expires is missing; it takes a date"),
            (floor("", "[floor]\nexpires = \"2027-06-30\""), "floor.serial is missing; it takes a number"),
            (floor("", "[floor]\nserial = 0"), "floor.serial cannot be 0; it takes a whole number from 1 to"),
            (floor("", "[floor]\nexpires = \"2027-02-30\""), "floor.expires cannot be \"2027-02-30\""),
            (floor("", "[floor]\nexpire = 1"), "floor.expire is not known; did you mean expires?"),
            (floor("", "[require.P]\nhash = \"\""), "require: only a floor can have it: add [floor]"),
            (
                floor("", &format!("{whole}\n[require.P]")),
                "require.P.hash is missing; it takes the 64 digits",
            ),
            (floor("", &format!("{whole}\n[require.P]\nhash = \"ab\"")), "require.P.hash cannot be \"ab\""),
            (floor("", &format!("{whole}\n[require.\"a b\"]\nhash = \"\"")), "\"a b\" is no patch id"),
            (floor("", &format!("{whole}{many}")), "require: a floor can require at most 64 patches"),
            (floor("nodetypes = [\"w\"]", whole), "nodetypes: a floor cannot have it"),
            (floor("requires = [\"A\"]", whole), "requires: a floor cannot have it"),
            (floor("remove = [\"/x\"]", whole), "remove: a floor cannot have it"),
            (floor("supersedes = [\"F\"]", ""), "supersedes: a patch cannot supersede itself"),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said:?} should say {expected:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_cautious_default() {
        let metadata = Metadata::parse("id = \"A\"\nsw_version = \"1\"\n").unwrap();
        assert!(metadata.reboot_required);
        assert!(!metadata.unremovable);
        assert_eq!(metadata.status, Status::Released);
        assert!(metadata.requires.is_empty() && metadata.nodetypes.is_empty());
    }

    #[test]
    fn a_refusal_names_the_key_and_what_is_accepted() {
        let with = |more: &str| {
            let text = format!("id = \"A\"\nsw_version = \"1\"\n{more}\n");
            Metadata::parse(&text).unwrap_err().to_string()
        };
        let long = |bytes: usize| "x".repeat(bytes);
        let list = |items: usize| (0..items).map(|i| format!("\"{i}\",")).collect::<String>();
        let cases = [
            (with("colour = 1"), "metadata.toml:3: colour is not known; there are id, sw_version"),
            (with("sumary = \"x\""), "metadata.toml:3: sumary is not known; did you mean summary?"),
            (with("status = \"NEW\""), "status cannot be \"NEW\"; it takes \"REL\", \"DEV\" or \"OBS\""),
            (
                with("reboot_required = \"N\""),
                "toml:3: reboot_required cannot be \"N\"; it takes true or false",
            ),
            (with("requires = [\"A\"]"), "toml:3: requires: a patch cannot require itself"),
            (with("requires = [\"B\", \"B\"]"), "toml:3: requires: \"B\" is in it twice"),
            (with("requires = [\"B worker\", \"B\"]"), "toml:3: requires: \"B\" is in it twice"),
            (with("requires = [\"B  worker\"]"), "requires cannot be \"B  worker\"; it takes a list of"),
            (
                with("requires = [\"B a b c d e f g h i\"]"),
                "the kinds of hosts that need it behind, if not all do",
            ),
            (
                with("requires = [\"B\",\n\"../B\"]"),
                "toml:4: requires cannot be \"../B\"; it takes a list of",
            ),
            (with(&format!("requires = [{}]", list(17))), "it takes a list of at most 16, each a name"),
            (with(&format!("nodetypes = [{}]", list(9))), "it takes a list of at most 8, each a name"),
            (with(&format!("packages = [{}]", list(1025))), "it takes a list of at most 1024, each one line"),
            (with(&format!("config = [{}]", list(1025))), "it takes a list of at most 1024, each the path"),
            (with(&format!("packages = [\"{}\"]", long(257))), "packages cannot be \"xxxx"),
            (with(&format!("summary = \"{}\"", long(129))), "xxx...; it takes one line of at most 128 bytes"),
            (
                with(&format!("description = \"{}\"", long(8193))),
                "xxx...; it takes a text of at most 8192 bytes",
            ),
            (
                with("description = \"\"\"\na\n\\u0007\"\"\""),
                "description cannot be \"\"\"...; it takes a text of",
            ),
            (with("warnings = \"\\u001b[2J\""), "warnings cannot be \"\\u001b[2J\"; it takes a text of"),
            (
                with("summary = \"a\\nb\""),
                "summary cannot be \"a\\nb\"; it takes one line of at most 128 bytes",
            ),
            (with("config = [\"/etc/../x\"]"), "config cannot be \"/etc/../x\"; it takes a list of at most"),
            (with("config = [\"/\"]"), "config cannot be \"/\""),
            (with("directories = [\"/srv/../x\"]"), "each the path of a directory below the root"),
            (
                with(&format!("directories = [{}]", list(1025))),
                "it takes a list of at most 1024, each the path",
            ),
            (
                with("owners = [\"/x www-data:33\"]"),
                "each a path below the root and two numbers, as \"/srv/app 33:33\"",
            ),
            (with("owners = [\"/x +1:33\"]"), "owners cannot be \"/x +1:33\""),
            (with("owners = [\"/x 4294967296:0\"]"), "owners cannot be"),
            (with("owners = [\"/../x 0:0\"]"), "owners cannot be"),
            (with("owners = [\"/x\"]"), "owners cannot be"),
            (
                Metadata::parse("sw_version = \"1\"").unwrap_err().to_string(),
                "id is missing; it takes a name",
            ),
            (
                Metadata::parse("id = \"A\"").unwrap_err().to_string(),
                "sw_version is missing; it takes a name",
            ),
            (Metadata::parse("id = ").unwrap_err().to_string(), "metadata.toml:1: this is not TOML:"),
            (
                Metadata::parse("id = \"\"\nsw_version = \"1\"").unwrap_err().to_string(),
                "toml:1: id cannot be \"\"",
            ),
            (Metadata::parse_bytes(b"\nid = \"\xff\"").unwrap_err().to_string(), "toml:2: it is not UTF-8"),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said:?} should say {expected:?}");
            assert!(!said.contains('\n'), "{said:?}");
        }
    }
}
