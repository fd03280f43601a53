//! `scp` between the nodes: the nodes have no ssh, so this test copies the files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// Where scp runs.
pub struct From<'a> {
    /// The node.
    pub node: &'a str,
    /// The working directory there.
    pub dir: &'a str,
}

/// `scp SOURCE.. DESTINATION`, each a path of this node or `[USER@]NODE:[PATH]`. Without
/// a user it is root.
///
/// # Errors
/// In scp's words.
pub fn copy(roots: &BTreeMap<String, PathBuf>, from: &From<'_>, words: &[&str]) -> Result<(), String> {
    let [sources @ .., destination] = words else { return Err("usage: scp SOURCE.. DESTINATION".to_owned()) };
    let place = |word: &str| match word.split_once(':') {
        None => inside(roots, from.node, from.dir, word),
        Some((login, path)) => {
            let (user, node) = login.split_once('@').unwrap_or(("root", login));
            let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
            inside(roots, node, &home, path)
        }
    };
    let to = place(destination)?;
    for source in sources {
        let source = place(source)?;
        let name = source.file_name().ok_or("a source has no name")?;
        let to = if to.is_dir() { to.join(name) } else { to.clone() };
        let failed = |error| format!("scp: {} to {}: {error}", source.display(), to.display());
        fs::copy(&source, &to).map_err(failed)?;
        // A file in a home belongs to the home's user, any other to root.
        let owner =
            if to.components().any(|part| part.as_os_str() == "home") { super::node::MAKER } else { 0 };
        chown(&to, Some(owner), Some(owner))
            .or_else(|error| if owner == 0 { Err(failed(error)) } else { Ok(()) })?;
    }
    Ok(())
}

fn inside(roots: &BTreeMap<String, PathBuf>, node: &str, dir: &str, path: &str) -> Result<PathBuf, String> {
    let root = roots.get(node).ok_or_else(|| format!("ssh: Could not resolve hostname {node}"))?;
    let path = Path::new(dir).join(path);
    Ok(root.join(path.strip_prefix("/").map_err(|error| error.to_string())?))
}
