//! The names of files beside a path: a saved local change, a new file that must not
//! replace one, a copy that is being written.
//!
//! A name may be as long as the system allows, which leaves no room for an ending. The
//! name beside it is then cut, and a hash of the whole name follows in its place, so that
//! two names that begin alike stay two.

use super::error::InstallError;
use super::tree::RootTree;
use crate::limits;

/// The beginning of the name of a copy that is being written. No patch may have such a
/// name.
const PART: &str = ".thimble~";

/// The hexadecimal digits of a hash that follow a name that was cut.
const HASH_DIGITS: usize = 16;

/// The path of a file beside `path`: its name, a dot, and `ending`.
pub(super) fn beside(path: &str, ending: &str) -> String {
    with_name(path, |name| fitted("", name, &format!(".{ending}")))
}

/// Such a path that is not taken.
pub(super) fn free_beside(tree: &RootTree, path: &str, ending: &str) -> Result<String, InstallError> {
    let mut name = beside(path, ending);
    let mut tries = 1;
    while tree.exists(&name)? {
        tries += 1;
        name = beside(path, &format!("{ending}-{tries}"));
    }
    Ok(name)
}

/// The path of the copy that becomes `path`, while it is being written.
pub(super) fn part(path: &str) -> String {
    with_name(path, |name| fitted(PART, name, ""))
}

/// A path with another last name.
fn with_name(path: &str, rename: impl Fn(&str) -> String) -> String {
    match path.rsplit_once('/') {
        Some((above, name)) => format!("{above}/{}", rename(name)),
        None => rename(path),
    }
}

/// A name between two others, cut so that the whole fits.
fn fitted(before: &str, name: &str, after: &str) -> String {
    let room = limits::NAME_BYTES.saturating_sub(before.len() + after.len());
    if name.len() <= room {
        return format!("{before}{name}{after}");
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let kept = name.floor_char_boundary(room.saturating_sub(1 + HASH_DIGITS));
    let kept = name.get(..kept).unwrap_or_default();
    format!("{before}{kept}~{hash:.HASH_DIGITS$}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_room_for_its_ending_keeps_it_whole() {
        assert_eq!(beside("etc/app.conf", "thimble-saved"), "etc/app.conf.thimble-saved");
        assert_eq!(beside("app.conf", "thimble-new-2"), "app.conf.thimble-new-2");
        assert_eq!(part("etc/app.conf.thimble-saved"), "etc/.thimble~app.conf.thimble-saved");
        assert_eq!(part("guard"), ".thimble~guard");
        let longest = "n".repeat(limits::NAME_BYTES - ".thimble-new".len());
        assert_eq!(beside(&longest, "thimble-new"), format!("{longest}.thimble-new"));
    }

    #[test]
    fn names_without_room_are_cut_and_stay_different() {
        for letter in ["n", "ä", "漢", "😀"] {
            for len in 230..=limits::NAME_BYTES {
                let mut name = letter.repeat(len / letter.len());
                name.push_str(&"x".repeat(len - name.len()));
                let other = format!("{}y", &name[..name.floor_char_boundary(len - 1)]);
                for ending in ["thimble-saved", "thimble-new", "thimble-saved-1234567"] {
                    let path = beside(&format!("srv/{name}"), ending);
                    let beside_it = path.strip_prefix("srv/").unwrap();
                    assert!(beside_it.len() <= limits::NAME_BYTES && beside_it.ends_with(ending), "{path}");
                    assert_ne!(path, beside(&format!("srv/{other}"), ending));
                    let copy = part(&path);
                    let copy = copy.strip_prefix("srv/.thimble~").unwrap();
                    assert!(copy.len() + PART.len() <= limits::NAME_BYTES, "{copy}");
                    assert_ne!(part(&path), part(&beside(&format!("srv/{other}"), ending)));
                }
            }
        }
    }
}
