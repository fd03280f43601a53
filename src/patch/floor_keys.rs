//! The sections of `metadata.toml` that make a patch a floor.

use super::fields::names;
use super::floor::{Floor, Required};
use crate::config::{ConfigError, ConfigSection, Document};
use crate::limits;
use crate::time::Day;
use crate::types::{Hash, PatchId};

const FLOOR_KEYS: &[&str] = &["serial", "expires", "allows"];
const REQUIRE_KEYS: &[&str] = &["hash", "nodetypes", "release"];

/// The sections of a floor; `None` if the patch is none. What has no effect on a floor is
/// refused, so that nobody relies on it.
pub(super) fn floor(document: &Document<'_>, keys: &ConfigSection<'_>) -> Result<Option<Floor>, ConfigError> {
    let section = document.section("floor", FLOOR_KEYS)?;
    let sections = document.subsections("require", REQUIRE_KEYS)?;
    let serial = section.integer("serial", 1..=u64::from(u32::MAX))?;
    let expires = section.parsed("expires", "a date, as \"2027-06-30\"", Day::parse)?;
    let allows = names(&section, "allows", limits::SUPERSEDES)?;
    let (Some(serial), Some(expires)) = (serial, expires) else {
        return match (section.is_there(), sections.is_empty()) {
            (false, true) => Ok(None),
            (false, false) => Err(keys.conflict("require", "only a floor can have it: add [floor]".into())),
            (true, _) if serial.is_none() => Err(section.missing("serial", "a number from 1 on".into())),
            (true, _) => Err(section.missing("expires", "a date, as \"2027-06-30\"".into())),
        };
    };
    let others =
        ["requires", "nodetypes", "apply_active_release_only", "config", "remove", "directories", "owners"];
    if let Some(key) = others.into_iter().find(|key| keys.has(key)) {
        return Err(keys.conflict(key, "a floor cannot have it: it is for all hosts, without files".into()));
    }
    if keys.has("unremovable") {
        let why = "a floor cannot have it: a later floor takes its place, and it is removed then";
        return Err(keys.conflict("unremovable", why.into()));
    }
    if sections.len() > limits::FLOOR_REQUIRES {
        let most = limits::FLOOR_REQUIRES;
        return Err(keys.conflict("require", format!("a floor can require at most {most} patches")));
    }
    let mut require = Vec::new();
    for (id, section) in &sections {
        let Ok(id) = PatchId::new(id) else {
            return Err(section.conflict("hash", format!("{id:?} is no patch id")));
        };
        let accepts = "the 64 digits of a patch file's BLAKE3, as `thimble verify --json` shows them";
        let hash = section.parsed("hash", accepts, Hash::from_hex)?;
        require.push(Required {
            id,
            hash: hash.ok_or_else(|| section.missing("hash", accepts.into()))?,
            nodetypes: names(section, "nodetypes", limits::PATCH_NODETYPES)?,
            release: section.name("release")?,
        });
    }
    let serial = u32::try_from(serial).unwrap_or(u32::MAX);
    Ok(Some(Floor { serial, expires, require, allows }))
}
