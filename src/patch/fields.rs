//! What the keys of `metadata.toml` take.

use std::path::{Component, Path, PathBuf};

use crate::config::{ConfigError, ConfigSection, name_of};
use crate::limits;
use crate::types::Name;

/// A required name.
pub(super) fn required<const N: usize>(keys: &ConfigSection<'_>, key: &str) -> Result<Name<N>, ConfigError> {
    keys.name(key)?.ok_or_else(|| keys.missing(key, name_of(N)))
}

/// Names, sorted, without duplicates.
pub(super) fn names<const N: usize>(
    keys: &ConfigSection<'_>,
    key: &str,
    most: usize,
) -> Result<Vec<Name<N>>, ConfigError> {
    let mut names = keys.list(key, most, &name_of(N), |text| Name::new(text).ok())?;
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(keys.conflict(key, format!("\"{}\" is in it twice", pair[0]))),
        None => Ok(names),
    }
}

/// What [`is_line`] accepts, for errors.
pub(super) fn one_line(most: usize) -> String {
    format!("one line of at most {most} bytes, without control characters")
}

pub(super) fn is_line(text: &str, most: usize) -> bool {
    text.len() <= most && !text.chars().any(char::is_control)
}

/// A text of several lines.
pub(super) fn prose(keys: &ConfigSection<'_>, key: &str) -> Result<String, ConfigError> {
    let most = limits::DESCRIPTION_BYTES;
    let accepts =
        format!("a text of at most {most} bytes, without control characters other than newline and tab");
    let text = keys.parsed(key, &accepts, |text| {
        let is_plain = text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t');
        (text.len() <= most && is_plain).then(|| text.to_owned())
    })?;
    Ok(text.unwrap_or_default())
}

/// A file below the root, as a relative path.
pub(super) fn file_path(text: &str) -> Option<PathBuf> {
    let inside = Path::new(text).strip_prefix("/").unwrap_or(Path::new(text));
    let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    // Through its components, which drop a doubled or final slash.
    let is_file = is_line(text, limits::PATH_BYTES) && is_plain && !inside.as_os_str().is_empty();
    is_file.then(|| inside.components().collect())
}
