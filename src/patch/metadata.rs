//! `metadata.toml`: what a patch says of itself.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::limits;
use crate::repo::entry::{EntryMeta, Status};
use crate::types::{Name, NodeType, PatchId, SwVersion, Text};

/// A patch's description, every field within its bounds. Only `id` and
/// `sw_version` must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `id`: what the patch is called. Required.
    pub id: PatchId,
    /// `sw_version`: the release of the base system that it is for. Required.
    pub sw_version: SwVersion,
    /// `summary`: one line. At most [`limits::SUMMARY_BYTES`].
    pub summary: Text<{ limits::SUMMARY_BYTES }>,
    /// `description`: what it changes. At most [`limits::DESCRIPTION_BYTES`].
    pub description: String,
    /// `install_instructions`: what to do about it. Bounded as `description`.
    pub install_instructions: String,
    /// `warnings`: what to look out for. Bounded as `description`.
    pub warnings: String,
    /// `status`: `"REL"` (the default), `"DEV"` or `"OBS"`.
    pub status: Status,
    /// `unremovable`: once applied it stays. Default false.
    pub unremovable: bool,
    /// `reboot_required`: a host that gains or loses it must restart. Default
    /// true, as in StarlingX: what does not say that it is in-service is not.
    pub reboot_required: bool,
    /// `apply_active_release_only`: it can be applied only where its release is
    /// the one that runs. Default false.
    pub apply_active_release_only: bool,
    /// `requires`: ids of patches that must be applied before it, sorted. At most
    /// [`limits::REQUIRES`].
    pub requires: Vec<PatchId>,
    /// `nodetypes`: the kinds of hosts that it concerns, sorted; none means all.
    /// At most [`limits::PATCH_NODETYPES`].
    pub nodetypes: Vec<NodeType>,
    /// `packages`: `"name version"` lines, for `show`. At most
    /// [`limits::PATCH_PACKAGES`] of [`limits::PACKAGE_BYTES`].
    pub packages: Vec<String>,
    /// `config`: files of the patch that a host may have changed by hand and
    /// keeps: relative to the root here, with or without a leading `/` in the
    /// file. At most [`limits::PATCH_CONFIG_FILES`].
    pub config: Vec<PathBuf>,
}

/// Why a metadata.toml is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataError {
    /// The line, where it is known.
    line: Option<usize>,
    /// The key, where one is at fault.
    key: Option<&'static str>,
    /// What is wrong, and what would be right.
    problem: String,
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata.toml")?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(key) = self.key {
            write!(f, ", `{key}`")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for MetadataError {}

/// The file as TOML has it; bounds are looked at after.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: String,
    sw_version: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    install_instructions: String,
    #[serde(default)]
    warnings: String,
    #[serde(default = "released")]
    status: String,
    #[serde(default)]
    unremovable: bool,
    #[serde(default = "yes")]
    reboot_required: bool,
    #[serde(default)]
    apply_active_release_only: bool,
    #[serde(default)]
    requires: Vec<String>,
    #[serde(default)]
    nodetypes: Vec<String>,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    config: Vec<String>,
}

fn released() -> String {
    Status::Released.as_str().into()
}

fn yes() -> bool {
    true
}

impl Metadata {
    /// Reads a metadata.toml.
    ///
    /// # Errors
    /// [`MetadataError`]: not TOML, a key that is unknown or missing, a value out
    /// of its bounds. Names the key, the problem and what is accepted.
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| before.matches('\n').count() + 1);
            MetadataError { line, key: None, problem: error.message().replace('\n', ", ") }
        })?;
        Self::checked(raw)
    }

    /// As [`Metadata::parse`], of bytes that may not be UTF-8.
    pub(super) fn parse_bytes(bytes: &[u8]) -> Result<Self, MetadataError> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            MetadataError { line: Some(line), key: None, problem: "it is not UTF-8".into() }
        })?;
        Self::parse(text)
    }

    fn checked(raw: Raw) -> Result<Self, MetadataError> {
        let id = name("id", &raw.id)?;
        let requires = names("requires", &raw.requires, limits::REQUIRES)?;
        if requires.contains(&id) {
            return Err(refuse("requires", "a patch cannot require itself"));
        }
        let status = [Status::Released, Status::Development, Status::Obsolete]
            .into_iter()
            .find(|status| status.as_str() == raw.status)
            .ok_or_else(|| refuse("status", "it must be \"REL\", \"DEV\" or \"OBS\""))?;
        line("summary", &raw.summary, limits::SUMMARY_BYTES)?;
        at_most("packages", raw.packages.len(), limits::PATCH_PACKAGES)?;
        for package in &raw.packages {
            line("packages", package, limits::PACKAGE_BYTES)?;
        }
        at_most("config", raw.config.len(), limits::PATCH_CONFIG_FILES)?;
        Ok(Self {
            id,
            sw_version: name("sw_version", &raw.sw_version)?,
            summary: Text::new(&raw.summary),
            description: prose("description", raw.description)?,
            install_instructions: prose("install_instructions", raw.install_instructions)?,
            warnings: prose("warnings", raw.warnings)?,
            status,
            unremovable: raw.unremovable,
            reboot_required: raw.reboot_required,
            apply_active_release_only: raw.apply_active_release_only,
            requires,
            nodetypes: names("nodetypes", &raw.nodetypes, limits::PATCH_NODETYPES)?,
            packages: raw.packages,
            config: raw.config.iter().map(|path| config_path(path)).collect::<Result<_, _>>()?,
        })
    }

    /// What of it goes into the repository's entry.
    #[must_use]
    pub fn entry_meta(&self) -> EntryMeta {
        EntryMeta {
            sw_version: self.sw_version.clone(),
            summary: self.summary.clone(),
            status: self.status,
            reboot_required: self.reboot_required,
            unremovable: self.unremovable,
            apply_active_release_only: self.apply_active_release_only,
            requires: self.requires.iter().take(limits::REQUIRES).cloned().collect(),
            nodetypes: self.nodetypes.iter().take(limits::PATCH_NODETYPES).cloned().collect(),
        }
    }
}

fn refuse(key: &'static str, problem: impl Into<String>) -> MetadataError {
    MetadataError { line: None, key: Some(key), problem: problem.into() }
}

fn name<const N: usize>(key: &'static str, text: &str) -> Result<Name<N>, MetadataError> {
    Name::new(text).map_err(|bad| {
        let shown: String = text.escape_debug().take(80).collect();
        refuse(
            key,
            format!(
                "\"{shown}\" cannot be used, {bad}; \
                 it must be 1 to {N} of letters, digits and ._-+~: and start with neither . nor -"
            ),
        )
    })
}

/// Names, sorted, none twice.
fn names<const N: usize>(
    key: &'static str,
    texts: &[String],
    most: usize,
) -> Result<Vec<Name<N>>, MetadataError> {
    at_most(key, texts.len(), most)?;
    let mut names = texts.iter().map(|text| name(key, text)).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refuse(key, format!("\"{}\" is in it twice", pair[0]))),
        None => Ok(names),
    }
}

fn at_most(key: &'static str, count: usize, most: usize) -> Result<(), MetadataError> {
    if count > most {
        return Err(refuse(key, format!("it has {count} items; the most is {most}")));
    }
    Ok(())
}

/// A text of one line.
fn line(key: &'static str, text: &str, most: usize) -> Result<(), MetadataError> {
    if text.len() > most {
        return Err(refuse(key, format!("it has {} bytes; the most is {most}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(refuse(key, "it must be one line, without control characters"));
    }
    Ok(())
}

/// A text of several lines.
fn prose(key: &'static str, text: String) -> Result<String, MetadataError> {
    let most = limits::DESCRIPTION_BYTES;
    if text.len() > most {
        return Err(refuse(key, format!("it has {} bytes; the most is {most}", text.len())));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(refuse(key, "control characters other than newline and tab are not allowed"));
    }
    Ok(text)
}

/// A file below the root, as a relative path.
fn config_path(text: &str) -> Result<PathBuf, MetadataError> {
    line("config", text, limits::PATH_BYTES)?;
    let inside = Path::new(text).strip_prefix("/").unwrap_or(Path::new(text));
    let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    if inside.as_os_str().is_empty() || !is_plain {
        return Err(refuse(
            "config",
            format!("\"{text}\" is not a path of a file below the root, without .."),
        ));
    }
    // Through its components, which drop a doubled or final slash.
    Ok(inside.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
requires = ["THIMBLE-0001", "BASE"]
nodetypes = ["worker", "controller"]
packages = ["tzdata 2025b-0+deb12u1"]
config = ["/etc/timezone", "etc//default/x"]
"#;

    #[test]
    fn every_key_is_taken() {
        let metadata = Metadata::parse(WHOLE).unwrap();
        assert_eq!(metadata.id.as_str(), "THIMBLE-0002");
        assert_eq!(metadata.description, "Two\nlines");
        assert_eq!(metadata.config, [Path::new("etc/timezone"), Path::new("etc/default/x")]);
        let meta = metadata.entry_meta();
        assert_eq!(meta.status, Status::Development);
        assert!(meta.unremovable && !meta.reboot_required && meta.apply_active_release_only);
        assert_eq!(meta.requires.iter().map(Name::as_str).collect::<Vec<_>>(), ["BASE", "THIMBLE-0001"]);
        assert_eq!(meta.nodetypes.iter().map(Name::as_str).collect::<Vec<_>>(), ["controller", "worker"]);
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
            (with("colour = 1"), "line 3: unknown field `colour`"),
            (with("status = \"NEW\""), "`status`: it must be \"REL\", \"DEV\" or \"OBS\""),
            (with("reboot_required = \"N\""), "line 3: invalid type"),
            (with("requires = [\"A\"]"), "`requires`: a patch cannot require itself"),
            (with("requires = [\"B\", \"B\"]"), "`requires`: \"B\" is in it twice"),
            (with("requires = [\"../B\"]"), "`requires`: \"../B\" cannot be used"),
            (with(&format!("requires = [{}]", list(17))), "`requires`: it has 17 items; the most is 16"),
            (with(&format!("nodetypes = [{}]", list(9))), "`nodetypes`: it has 9 items; the most is 8"),
            (with(&format!("packages = [{}]", list(1025))), "the most is 1024"),
            (with(&format!("config = [{}]", list(1025))), "the most is 1024"),
            (with(&format!("packages = [\"{}\"]", long(257))), "`packages`: it has 257 bytes"),
            (with(&format!("summary = \"{}\"", long(129))), "`summary`: it has 129 bytes; the most is 128"),
            (with(&format!("description = \"{}\"", long(8193))), "`description`: it has 8193 bytes"),
            (with("warnings = \"\\u001b[2J\""), "`warnings`: control characters"),
            (with("summary = \"a\\nb\""), "`summary`: it must be one line"),
            (with("config = [\"/etc/../x\"]"), "`config`: \"/etc/../x\" is not a path"),
            (with("config = [\"/\"]"), "`config`"),
            (Metadata::parse("sw_version = \"1\"").unwrap_err().to_string(), "missing field `id`"),
            (Metadata::parse("id = \"A\"").unwrap_err().to_string(), "missing field `sw_version`"),
            (Metadata::parse("id = ").unwrap_err().to_string(), "metadata.toml, line 1:"),
            (Metadata::parse("id = \"\"\nsw_version = \"1\"").unwrap_err().to_string(), "`id`: \"\" cannot"),
            (Metadata::parse_bytes(b"\nid = \"\xff\"").unwrap_err().to_string(), "line 2: it is not UTF-8"),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said:?} should say {expected:?}");
            assert!(!said.contains('\n'), "{said:?}");
        }
    }
}
