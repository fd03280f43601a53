//! vfat, as every /boot/efi is: one mode and one owner for all files, no links, names that
//! ignore case, times in steps of two seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::Disk;
use crate::model::{self, Content};
use crate::pieces::{Patch, directory, file, link, patch, program};
use crate::rig::{Rig, skip};

/// A host whose /boot/efi is vfat.
struct Host {
    // Unmounted before the rest.
    disk: Disk,
    rig: Rig,
}

impl Host {
    fn new(name: &str, size_kib: u64, options: &str) -> Option<Self> {
        let rig = Rig::new(name);
        match Disk::new("vfat", size_kib, &["mkfs.vfat"], &rig.root.join("boot/efi"), options) {
            Ok(disk) => Some(Self { disk, rig }),
            Err(reason) => {
                skip(module_path!(), &format!("vfat: {reason}: make filesystems"));
                None
            }
        }
    }

    fn efi(&self, path: &str) -> PathBuf {
        self.rig.root.join("boot/efi").join(path)
    }

    /// Adds a file to the base system.
    fn base(&self, path: &str, content: &[u8]) {
        fs::create_dir_all(self.efi(path).parent().unwrap()).unwrap();
        fs::write(self.efi(path), content).unwrap();
    }

    /// What is on it, without thimble's own files.
    fn contents(&self) -> BTreeMap<String, Content> {
        let tree = model::read(&self.efi(""));
        tree.into_iter().map(|(path, node)| (path, node.content)).collect()
    }

    #[track_caller]
    fn has(&self, files: &[(&str, &[u8])]) {
        let is: Vec<_> = self.contents().into_iter().filter(|(_, c)| *c != Content::Directory).collect();
        let should: Vec<_> =
            files.iter().map(|(p, c)| ((*p).to_owned(), Content::File(c.to_vec()))).collect();
        let names = |files: &[(String, Content)]| files.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
        assert_eq!(names(&is), names(&should));
        assert!(is == should, "a content differs");
    }

    /// Installs a set, which must succeed and have nothing to report.
    #[track_caller]
    fn quietly(&self, set: &[&str]) {
        let run = self.rig.installed(set);
        assert_eq!((run.notices(), run.says("reason")), (vec![], ""), "{set:?}");
    }
}

fn config(patch: Patch) -> Patch {
    patch.says("config = [\"/boot/efi/loader.conf\"]")
}

#[test]
fn files_that_nobody_changed_are_not_changed_by_hand() {
    need_root!();
    for options in ["", "uid=1000,gid=1000,umask=000", "quiet,umask=0077"] {
        let Some(mut host) = Host::new("vfat-same", 4096, options) else { return };
        host.base("loader.conf", b"base");
        let pieces = |of: &str| {
            [
                file("boot/efi/EFI/app/app.efi", format!("app of {of}")).mtime(1_700_000_001),
                program("boot/efi/EFI/app/tool", format!("tool of {of}"), 0o755),
                program("boot/efi/EFI/app/fixed", format!("fixed of {of}"), 0o444),
                file("boot/efi/loader.conf", format!("conf of {of}")),
            ]
        };
        host.rig.add(config(patch("P1", pieces("P1"))));
        host.rig.add(config(patch("P2", pieces("P2")).requires("P1")));
        let has = |host: &Host, of: &str| {
            let text = |name: &str| format!("{name} of {of}").into_bytes();
            host.has(&[
                ("EFI/app/app.efi", &text("app")),
                ("EFI/app/fixed", &text("fixed")),
                ("EFI/app/tool", &text("tool")),
                ("loader.conf", &text("conf")),
            ]);
        };
        host.quietly(&["P1"]);
        has(&host, "P1");
        host.quietly(&["P1", "P2"]);
        has(&host, "P2");
        host.quietly(&["P1"]);
        has(&host, "P1");
        // Other mount options change the mode and owner of all files at once.
        host.disk.mount("umask=0027,uid=7").unwrap();
        host.quietly(&["P1", "P2"]);
        host.quietly(&[]);
        host.has(&[("loader.conf", b"base")]);
        assert!(!host.efi("EFI").exists());
    }
}

#[test]
fn what_was_changed_by_hand_is_saved_once() {
    need_root!();
    let Some(mut host) = Host::new("vfat-saved", 4096, "") else { return };
    host.rig.add(config(patch("P1", [file("boot/efi/app", "of P1"), file("boot/efi/loader.conf", "of P1")])));
    let second = [file("boot/efi/app", "of P2"), file("boot/efi/loader.conf", "of P2")];
    host.rig.add(config(patch("P2", second).requires("P1")));
    host.quietly(&["P1"]);
    host.rig.edit("boot/efi/app", "by hand");
    host.rig.edit("boot/efi/loader.conf", "by hand");
    let run = host.rig.installed(&["P1", "P2"]);
    assert_eq!(run.notices().len(), 2, "{run:?}");
    let saved: [(&str, &[u8]); 4] = [
        ("app", b"of P2"),
        ("app.thimble-saved", b"by hand"),
        ("loader.conf", b"by hand"),
        ("loader.conf.thimble-new", b"of P2"),
    ];
    host.has(&saved);
    fs::rename(host.efi("loader.conf.thimble-new"), host.efi("loader.conf")).unwrap();
    host.quietly(&["P1"]);
    host.quietly(&["P1", "P2"]);
    host.quietly(&[]);
    host.has(&[("app.thimble-saved", b"by hand")]);
}

#[test]
fn what_vfat_cannot_hold_is_refused_by_name() {
    need_root!();
    let Some(mut host) = Host::new("vfat-refused", 4096, "") else { return };
    host.base("EFI/BOOT/BOOTX64.EFI", b"base");
    let before = host.contents();
    let longest = format!("boot/efi/{}", "n".repeat(80));
    let cases = [
        (patch("L", [link("boot/efi/vmlinuz", "vmlinuz-6.1")]), "/boot/efi/vmlinuz", "holds none"),
        (patch("O", [file("boot/efi/app", "x").owner(42)]), "/boot/efi/app", "42:42"),
        (patch("S", [program("boot/efi/su", "x", 0o4755)]), "/boot/efi/su", "mode 4755"),
        (patch("C", [file("boot/efi/a:b", "x")]), "/boot/efi/a:b", "cannot hold that name"),
        (patch("Q", [file("boot/efi/what?/b", "x")]), "/boot/efi/what?/b", "cannot hold that name"),
        (patch("D", [file("boot/efi/dot.", "x")]), "/boot/efi/dot.", "cannot hold that name"),
        (
            patch("N", [file("boot/efi/new/a", "x"), file("boot/efi/new/A", "y")]),
            "/boot/efi/new/",
            "same name",
        ),
        (patch("E", [file("boot/efi/efi/boot/x", "x")]), "/boot/efi/efi", "as EFI"),
        (
            patch("F", [file("boot/efi/EFI/BOOT/bootx64.efi", "x")]),
            "/boot/efi/EFI/BOOT/bootx64.efi",
            "as BOOTX64.EFI",
        ),
        (patch("R", [directory("boot/efi/his", 0o755).owner(42)]), "/boot/efi/his", "42:42"),
    ];
    for (patch, path, reason) in cases {
        let id = patch.id.clone();
        host.rig.add(patch);
        let run = host.rig.install(&[&id]);
        run.assert_ended("Rejected", &[&format!("{id} "), path, "/boot/efi", reason]);
        assert_eq!(host.contents(), before, "{id}");
    }
    // All of it may lie beside it, and long names on it.
    host.rig
        .add(patch("G", [file(&longest, "x"), link("boot/link", "efi"), file("boot/a:b", "x").owner(42)]));
    host.quietly(&["G"]);
    host.quietly(&[]);
    assert_eq!(host.contents(), before);
}

#[test]
fn a_directory_turns_into_a_file_and_back() {
    need_root!();
    for options in ["", "uid=1000,umask=0027"] {
        let Some(mut host) = Host::new("vfat-turned", 4096, options) else { return };
        let sick = |patch: Patch| patch.script("health", "exit 1");
        let first =
            |id: &str| patch(id, [file("boot/efi/app/a", "of P1"), file("boot/efi/app/b/c", "of P1")]);
        let second = |id: &str| patch(id, [file("boot/efi/app", "of P2")]);
        let patches = [first("P1"), second("P2"), sick(first("P3")), sick(second("P4"))];
        patches.into_iter().for_each(|patch| host.rig.add(patch));
        for _ in 0..2 {
            host.quietly(&["P1"]);
            host.rig.install(&["P4"]).assert_ended("RolledBack", &["health of P4"]);
            host.has(&[("app/a", b"of P1"), ("app/b/c", b"of P1")]);
            host.quietly(&["P2"]);
            host.rig.install(&["P3"]).assert_ended("RolledBack", &["health of P3"]);
            host.has(&[("app", b"of P2")]);
        }
        host.quietly(&[]);
        assert_eq!(host.contents().len(), 0);
    }
}

#[test]
fn a_private_file_that_others_may_read_there_is_reported() {
    need_root!();
    let Some(mut host) = Host::new("vfat-private", 4096, "umask=0022") else { return };
    host.rig.add(patch("P1", [program("boot/efi/key", "secret", 0o600), file("boot/efi/app", "x")]));
    let notice = "/boot/efi/key has mode 0755 in place of 0600, as all files of its filesystem";
    let run = host.rig.installed(&["P1"]);
    assert_eq!((run.notices(), run.says("reason")), (vec![notice], notice));
    host.quietly(&[]);
    host.disk.mount("umask=0077").unwrap();
    host.quietly(&["P1"]);
}

/// The size of each kernel, in KiB; the partition holds two and a half.
const KERNEL_KIB: usize = 1024;
const PARTITION_KIB: u64 = 2_720;

fn kernel(version: usize) -> Vec<u8> {
    vec![version as u8; KERNEL_KIB << 10]
}

fn id(version: usize) -> String {
    format!("V{version}")
}

/// A host with a kernel on its /boot/efi, and patches with later ones. With `is_stacked`,
/// each requires the one before.
fn kernels(name: &str, is_stacked: bool) -> Option<Host> {
    let mut host = Host::new(name, PARTITION_KIB, "")?;
    host.base("vmlinuz", &kernel(0));
    for version in 1..=6 {
        let next = patch(&id(version), [file("boot/efi/vmlinuz", kernel(version))]);
        let is_above = is_stacked && version > 1;
        host.rig.add(if is_above { next.requires(&id(version - 1)) } else { next });
    }
    let sick = patch("sick", [file("boot/efi/vmlinuz", kernel(7))]).script("health", "exit 1");
    host.rig.add(if is_stacked { sick.requires("V6") } else { sick });
    Some(host)
}

#[test]
fn kernels_that_replace_each_other_fit_where_two_and_a_half_do() {
    need_root!();
    let Some(host) = kernels("vfat-replace", false) else { return };
    for version in 1..=6 {
        host.quietly(&[&id(version)]);
        host.has(&[("vmlinuz", &kernel(version))]);
    }
    host.rig.install(&["sick"]).assert_ended("RolledBack", &["health of sick"]);
    host.has(&[("vmlinuz", &kernel(6))]);
    host.quietly(&[]);
    host.has(&[("vmlinuz", &kernel(0))]);
    assert_eq!(host.rig.own("kept"), [""; 0]);
    assert!(!host.efi(".thimble").exists(), "nothing of thimble's is left where no patch has files");
}

#[test]
fn kernels_over_each_other_fit_where_two_and_a_half_do() {
    need_root!();
    let Some(host) = kernels("vfat-stack", true) else { return };
    let ids: Vec<_> = (1..=6).map(id).collect();
    let set = |top: usize| ids[..top].iter().map(String::as_str).collect::<Vec<_>>();
    for version in 1..=6 {
        host.quietly(&set(version));
        host.has(&[("vmlinuz", &kernel(version))]);
    }
    let mut with_sick = set(6);
    with_sick.push("sick");
    host.rig.install(&with_sick).assert_ended("RolledBack", &["health of sick"]);
    host.has(&[("vmlinuz", &kernel(6))]);
    // Down again: each kernel comes from its patch, as there was no room to keep it.
    for version in [5, 3, 0] {
        host.quietly(&set(version));
        host.has(&[("vmlinuz", &kernel(version))]);
    }
    assert_eq!(host.rig.own("kept"), [""; 0]);
}

/// Without links and without room for a copy, a path has no file between two renames.
#[cfg(feature = "proof")]
#[test]
fn a_kill_at_any_step_leaves_one_whole_kernel() {
    need_root!();
    let Some(host) = kernels("vfat-killed", false) else { return };
    host.quietly(&["V1"]);
    let (mut last, mut next) = (1, 2);
    for kill_at in 1.. {
        let run = host.rig.run(&host.rig.orders_for(&[&id(next)]), Some(kill_at));
        if run.status.success() {
            break;
        }
        host.rig.recover();
        let is_new = host.rig.recover().installed() == [id(next)];
        let version = if is_new { next } else { last };
        host.has(&[("vmlinuz", &kernel(version))]);
        if is_new {
            (last, next) = (next, last);
        }
    }
    host.quietly(&[]);
    host.has(&[("vmlinuz", &kernel(0))]);
}
