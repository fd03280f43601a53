//! One host on each kind of filesystem: install, overlay, rollback, removal and notices,
//! with a verdict for each in a table. `make filesystems` prints it.

use std::any::Any;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{Disk, beside, mount};
use crate::model::{self, Tree};
use crate::pieces::{Patch, directory, file, link, patch, program, same};
use crate::rig::{Mount, Rig, populate};
use crate::support::Scratch;

/// A kind of filesystem, and how it is made.
struct Kind {
    name: &'static str,
    size_mib: u64,
    /// The program that makes it in an image, with its arguments; none if it needs no image.
    mkfs: &'static [&'static str],
    options: &'static str,
}

const fn kind(name: &'static str, size_mib: u64, mkfs: &'static [&'static str]) -> Kind {
    Kind { name, size_mib, mkfs, options: "" }
}

const KINDS: [Kind; 14] = [
    kind("ext4", 16, &["mkfs.ext4", "-q"]),
    kind("ext2", 16, &["mkfs.ext2", "-q"]),
    kind("xfs", 320, &["mkfs.xfs", "-q"]),
    kind("btrfs", 160, &["mkfs.btrfs", "-q"]),
    kind("f2fs", 96, &["mkfs.f2fs", "-q"]),
    kind("nilfs2", 160, &["mkfs.nilfs2", "-q"]),
    kind("vfat", 16, &["mkfs.vfat"]),
    kind("tmpfs", 0, &[]),
    kind("ramfs", 0, &[]),
    kind("overlay", 0, &[]),
    kind("exfat", 16, &["mkfs.exfat"]),
    kind("ntfs3", 16, &["mkfs.ntfs", "-F", "-q"]),
    kind("jffs2", 0, &[]),
    kind("ubifs", 0, &[]),
];

const STEPS: [&str; 5] = ["install", "overlay", "rollback", "removal", "notices"];

/// What holds a mounted filesystem until the table has its row.
type Held = Box<dyn Any>;

impl Kind {
    /// All files have one mode and one owner, and there are no links.
    fn is_bare(&self) -> bool {
        matches!(self.name, "vfat" | "exfat" | "ntfs3")
    }

    fn mount(&self, at: &Path) -> Result<Held, String> {
        let nothing = Path::new("none");
        match self.name {
            "tmpfs" => Ok(Box::new(Mount::tmpfs(at, "size=16m"))),
            "ramfs" => Ok(Box::new(mount("ramfs", "mode=755", nothing, at)?)),
            // Its lower layer has the base system: files are copied up when they change.
            "overlay" => {
                let scratch = Scratch::new("overlay");
                let layers = Mount::tmpfs(&beside(&scratch, "layers"), "size=16m");
                let [lower, upper, work] =
                    ["layers/lower", "layers/upper", "layers/work"].map(|name| beside(&scratch, name));
                populate(&lower);
                let options = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    lower.display(),
                    upper.display(),
                    work.display()
                );
                Ok(Box::new((mount("overlay", &options, nothing, at)?, layers, scratch)))
            }
            "jffs2" | "ubifs" => {
                let simulated = Path::new("/dev/mtdblock0");
                if !simulated.exists() {
                    return Err("this kernel has no flash, and no module that simulates one".to_owned());
                }
                Ok(Box::new(mount(self.name, "rw", simulated, at)?))
            }
            _ => Ok(Box::new(Disk::new(self.name, self.size_mib << 10, self.mkfs, at, self.options)?)),
        }
    }
}

/// The host of a row.
struct Host {
    // Unmounted before the rest.
    _held: Held,
    rig: Rig,
    /// Where the filesystem is, as the start of a path in a patch.
    at: &'static str,
    is_bare: bool,
}

impl Host {
    /// A host whose root is such a filesystem; or its /srv, if it cannot hold a root.
    fn new(kind: &Kind) -> Result<Self, String> {
        let mut rig = Rig::new(&format!("table-{}", kind.name));
        let is_bare = kind.is_bare();
        let held = if is_bare {
            let held = kind.mount(&rig.root.join("srv"))?;
            for (path, content) in [("tool", "base tool"), ("app.conf", "base conf")] {
                rig.edit(&format!("srv/{path}"), content);
            }
            held
        } else {
            let root = rig.root.with_file_name("disk");
            let held = kind.mount(&root)?;
            // Some kinds begin with a directory of their own.
            if !root.join("usr").exists() {
                populate(&root);
            }
            rig.root.clone_from(&root);
            rig.orders.root = root;
            held
        };
        rig.base = rig.tree();
        for patch in patches(is_bare) {
            rig.add(patch);
        }
        Ok(Self { rig, at: if is_bare { "srv/" } else { "usr/bin/" }, is_bare, _held: held })
    }

    /// The tree, as far as the filesystem can hold what the patches say.
    fn comparable(&self, mut tree: Tree) -> Tree {
        if self.is_bare {
            for (_, node) in tree.iter_mut().filter(|(path, _)| path.starts_with("srv")) {
                (node.mode, node.owner, node.mtime_s) = (0, 0, 0);
            }
        }
        tree
    }

    fn assert_tree(&self, set: &[&str]) {
        let [is, should] = [self.rig.tree(), self.rig.expected(set)].map(|tree| self.comparable(tree));
        model::assert_same(&is, &should, &format!("with {set:?}"));
    }

    /// Installs a set, which must succeed with these notices.
    fn installed(&self, set: &[&str], notices: &[String]) {
        assert_eq!(self.rig.installed(set).notices(), notices, "{set:?}");
    }

    fn step(&self, step: &str) {
        let tool = format!("{}tool", self.at);
        match step {
            "install" => {
                self.installed(&["P1"], &[]);
                self.assert_tree(&["P1"]);
            }
            "overlay" => {
                self.installed(&["P1", "P2"], &[]);
                self.assert_tree(&["P1", "P2"]);
            }
            "rollback" => {
                let before = self.rig.tree();
                self.rig.install(&["P1", "P2", "P3"]).assert_ended("RolledBack", &["health of P3"]);
                model::assert_same(&self.rig.tree(), &before, "after a rollback");
            }
            "removal" => {
                self.installed(&["P1"], &[]);
                self.assert_tree(&["P1"]);
                self.installed(&[], &[]);
                self.assert_tree(&[]);
                assert_eq!(self.rig.own("kept"), [""; 0]);
            }
            _ => {
                self.installed(&["P1"], &[]);
                self.rig.edit(&tool, "by hand");
                let saved = format!("/{tool} was changed by hand: that is saved as tool.thimble-saved");
                self.installed(&["P1", "P2"], &[saved]);
                fs::remove_file(self.rig.root.join(&tool)).unwrap();
                self.installed(&["P1"], &[format!("/{tool} of P2 had been deleted by hand")]);
                self.assert_saved(&tool);
                self.installed(&[], &[]);
                self.assert_tree(&[]);
            }
        }
    }

    fn assert_saved(&self, tool: &str) {
        let saved = format!("{tool}.thimble-saved");
        assert_eq!(self.rig.text(&saved), "by hand");
        fs::remove_file(self.rig.root.join(saved)).unwrap();
        self.assert_tree(&["P1"]);
    }
}

fn patches(is_bare: bool) -> [Patch; 3] {
    let pieces = |of: &str| {
        if is_bare {
            return vec![
                file("srv/tool", format!("tool of {of}")),
                file("srv/app.conf", format!("conf of {of}")),
                file(&format!("srv/new/{of}/file"), format!("file of {of}")),
            ];
        }
        vec![
            program("usr/bin/tool", format!("tool of {of}"), 0o4755),
            program("etc/app.conf", format!("conf of {of}"), 0o640).owner(42),
            link("usr/lib/libx.so", &format!("libx.so.{of}")),
            directory(&format!("srv/{of}"), 0o750),
            file(&format!("srv/{of}/file"), format!("file of {of}")).mtime(1_234_567_891),
            same(&format!("srv/{of}/again"), &format!("srv/{of}/file")).mtime(1_234_567_891),
        ]
    };
    let of = |id: &str| patch(id, pieces(id));
    [of("P1"), of("P2").requires("P1"), of("P3").requires("P2").script("health", "exit 1")]
}

/// What a panic said, in one line.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn each_kind_of_filesystem() {
    need_root!();
    let mut table = format!("{:12}", "filesystem");
    table.extend(STEPS.map(|step| format!("{step:10}")));
    let mut wrong = String::new();
    for kind in KINDS {
        table += &format!("\n{:12}", kind.name);
        let host = match Host::new(&kind) {
            Ok(host) => host,
            Err(reason) => {
                table += &format!("SKIPPED: {}: {reason}", kind.name);
                continue;
            }
        };
        let mut steps = STEPS.into_iter();
        for step in steps.by_ref() {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| host.step(step))) else {
                table += &format!("{:10}", "good");
                continue;
            };
            table += &format!("{:10}", "WRONG");
            wrong += &format!("{}, {step}: {}\n", kind.name, said(&*panic));
            break;
        }
        // Each begins where the one before ended.
        table.extend(steps.map(|_| format!("{:10}", "-")));
    }
    let lines: Vec<_> = table.lines().map(str::trim_end).collect();
    // Past the test harness, which captures `println`.
    let _ = writeln!(std::io::stdout(), "\n{}", lines.join("\n"));
    assert!(wrong.is_empty(), "\n{wrong}");
}
