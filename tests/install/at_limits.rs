//! What an upload lets pass can also be covered, rolled back, saved and removed: names,
//! depths, sizes, counts and texts up to each limit.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use thimble::limits;

use crate::model;
use crate::pieces::{Patch, Piece, file, link, patch};
use crate::rig::{Mount, Rig};
use crate::sequences::Seeded;

/// Installs these files as P1, covers them by P2, changes them by hand, fails to cover
/// them by P3, and removes both patches: if it can, the lower one first.
fn through_its_life(name: &str, pieces: &[Piece]) {
    let mut rig = Rig::new(name);
    let of = |id: &str| -> Vec<Piece> {
        let piece = |piece: &Piece| match &piece.what {
            crate::pieces::What::File(content) => file(&piece.path, [id.as_bytes(), content].concat()),
            _ => piece.clone(),
        };
        pieces.iter().map(piece).collect()
    };
    rig.add(patch("P1", pieces));
    rig.add(patch("P2", of("2")).requires("P1"));
    rig.add(patch("P3", of("3")).requires("P2").script("health", "exit 1"));
    rig.becomes(&["P1"]);
    rig.becomes(&["P1", "P2"]);

    let changed: Vec<_> = pieces.iter().take(40).map(|piece| rig.root.join(&piece.path)).collect();
    for path in &changed {
        let is_link = path.is_symlink();
        fs::remove_file(path).unwrap();
        if is_link { symlink("by hand", path).unwrap() } else { fs::write(path, "by hand").unwrap() }
    }
    let before = rig.tree();
    rig.install(&["P1", "P2", "P3"]).assert_ended("RolledBack", &["health of P3 ended with status 1"]);
    model::assert_same(&rig.tree(), &before, "after going back");

    let run = rig.installed(&["P1"]);
    let mut tree = rig.tree();
    let saved: BTreeSet<_> = tree.keys().filter(|path| path.contains(".thimble-saved")).cloned().collect();
    assert_eq!(saved.len(), changed.len(), "each file that was changed has a saved one: {run:?}");
    for path in &saved {
        let hand = tree.remove(path).unwrap().content;
        assert!(
            [model::Content::File("by hand".into()), model::Content::Link("by hand".into())].contains(&hand)
        );
        fs::remove_file(rig.root.join(path)).unwrap();
    }
    model::assert_same(&tree, &rig.expected(&["P1"]), "with P1");
    rig.installed(&["P1", "P2"]);
    if cfg!(feature = "proof") {
        // On a host that has had both since before it checked `requires`.
        rig.takes_any_set = true;
        rig.becomes(&["P2"]);
    }
    rig.becomes(&[]);
    assert_eq!(rig.own("kept"), [""; 0]);
}

/// A name of this many bytes, of letters of one to four bytes.
fn name(seeded: &mut Seeded, bytes: usize) -> String {
    let letters = ["n", "o", "ß", "漢", "😀"];
    let mut name = String::new();
    while name.len() < bytes {
        let letter = letters[seeded.next() as usize % letters.len()];
        name.push_str(if name.len() + letter.len() > bytes { "x" } else { letter });
    }
    name
}

#[test]
fn names_of_any_length() {
    need_root!();
    let mut seeded = Seeded::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for bytes in (1..10).chain(225..=limits::NAME_BYTES) {
        pieces.push(file(&format!("srv/{}", name(&mut seeded, bytes)), format!("{bytes}")));
    }
    // Those that are cut alike stay apart.
    let longest = name(&mut seeded, limits::NAME_BYTES - 2);
    pieces.splice(0..0, ["-a", "-b", "-c"].map(|end| file(&format!("srv/{longest}{end}"), end)));
    let deep = name(&mut seeded, limits::NAME_BYTES);
    pieces.insert(0, link(&format!("srv/{deep}/link"), &name(&mut seeded, limits::NAME_BYTES)));
    pieces.dedup_by(|a, b| a.path == b.path);
    through_its_life("any-name", &pieces);
}

#[test]
fn paths_of_any_depth() {
    need_root!();
    let most = limits::PATH_BYTES - "files/".len();
    let mut pieces = vec![];
    // The deepest has more directories than a process may have open files.
    for bytes in [3, 256, most] {
        let name = if bytes % 2 == 1 { "f" } else { "ff" };
        pieces.push(file(&format!("{}{name}", "d/".repeat((bytes - 1) / 2)), "deep"));
    }
    let mut seeded = Seeded::new();
    let mut path = "srv".to_owned();
    while path.len() + 1 < most {
        path.push('/');
        let bytes = limits::NAME_BYTES.min(most - path.len());
        path += &name(&mut seeded, bytes);
    }
    pieces.push(file(&path, "long"));
    through_its_life("any-depth", &pieces);
}

#[test]
fn files_of_any_size_and_links_of_any_length() {
    need_root!();
    let mut pieces = vec![];
    for bytes in [0, 1, 511, 512, 513, 4_095, 4_096, 65_535, 65_536, 65_537, (1 << 20) + 1] {
        pieces.push(file(&format!("srv/of-{bytes}"), vec![7; bytes]));
    }
    for bytes in [1, 59, 60, 99, 100, 101, 255, 1_023, limits::PATH_BYTES] {
        pieces.push(link(&format!("srv/to-{bytes}"), &"t/".repeat(bytes.div_ceil(2))[..bytes]));
    }
    through_its_life("any-size", &pieces);
}

#[test]
fn many_files() {
    need_root!();
    let mut rig = Rig::new("most-files");
    let root = rig.root.with_file_name("large");
    let _mount = Mount::tmpfs(&root, "size=512m,nr_inodes=0");
    rig.root.clone_from(&root);
    rig.orders.root = root;
    // A sixteenth of what a patch may have: all of them take minutes in a test build.
    let count = limits::PATCH_MEMBERS / 16;
    let files: Vec<_> = (0..count).map(|at| file(&format!("srv/{at}"), "")).collect();
    rig.add(patch("P1", files).script("health", "test ! -e $THIMBLE_ROOT/sick"));
    rig.edit("sick", "");
    rig.base = rig.tree();
    rig.install(&["P1"]).assert_ended("RolledBack", &["health of P1"]);
    rig.assert_tree(&[]);
    fs::remove_file(rig.root.join("sick")).unwrap();
    rig.base = rig.tree();
    rig.installed(&["P1"]);
    assert_eq!(fs::read_dir(rig.root.join("srv")).unwrap().count(), count);
    rig.becomes(&[]);
}

/// A patch whose texts, lists and scripts are as long and as many as they may be.
fn longest(id: &str) -> Patch {
    let line = |bytes: usize| "l".repeat(bytes);
    let nodetypes: Vec<_> = (0..limits::PATCH_NODETYPES - 1)
        .map(|at| format!("{at}{}", line(limits::NODETYPE_BYTES - 1)))
        .chain(["worker".to_owned()])
        .collect();
    let config: Vec<_> = (0..limits::PATCH_CONFIG_FILES).map(|at| format!("srv/{at}")).collect();
    let files: Vec<_> = config.iter().map(|path| file(path, id)).collect();
    let prose = line(limits::DESCRIPTION_BYTES);
    let lines = [
        format!("sw_version = {:?}", "1".repeat(limits::SW_VERSION_BYTES)),
        format!("summary = {:?}", line(limits::SUMMARY_BYTES)),
        format!("description = {prose:?}"),
        format!("install_instructions = {prose:?}"),
        format!("warnings = {prose:?}"),
        format!("nodetypes = {nodetypes:?}"),
        format!("config = {config:?}"),
    ];
    let scripts = thimble::patch::archive::SCRIPTS;
    scripts
        .into_iter()
        .fold(patch(id, files).says(&lines.join("\n")), |patch, name| patch.script(name, "true"))
}

#[test]
fn texts_and_lists_as_long_as_they_may_be() {
    need_root!();
    let mut rig = Rig::new("most-text");
    let id = |at: usize| format!("{at:02}{}", "-".repeat(limits::PATCH_ID_BYTES - 2));
    let below: Vec<_> = (0..limits::REQUIRES).map(id).collect();
    for id in &below {
        rig.add(patch(id, [file(&format!("opt/{}", &id[..2]), id)]));
    }
    let top = id(limits::REQUIRES);
    rig.add(below.iter().fold(longest(&top), |patch, id| patch.requires(id)));
    let all: Vec<_> = below.iter().chain([&top]).map(String::as_str).collect();
    rig.installed(&all);
    rig.assert_tree(&all);
    rig.edit("srv/0", "by hand");
    rig.installed(&all[..1]);
    assert_eq!(rig.text("srv/0"), "by hand");
    fs::remove_dir_all(rig.root.join("srv")).unwrap();
    rig.becomes(&[]);
}

#[test]
fn as_many_patches_as_a_host_may_have() {
    need_root!();
    let mut rig = Rig::new("most-patches");
    let ids: Vec<_> = (0..limits::EFFECTIVE).map(|at| format!("P{at:03}")).collect();
    for (at, id) in ids.iter().enumerate() {
        let made = patch(id, [file("etc/app.conf", id), file(&format!("srv/{at}"), id)]);
        rig.add(if at == 0 { made } else { made.requires(&ids[at - 1]) });
    }
    let all: Vec<_> = ids.iter().map(String::as_str).collect();
    rig.installed(&all);
    rig.assert_tree(&all);
    rig.installed(&all[..limits::EFFECTIVE / 2]);
    rig.assert_tree(&all[..limits::EFFECTIVE / 2]);
    rig.becomes(&[]);
}
