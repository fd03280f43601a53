//! `apply` refuses patches that no host can have together, by their paths.

use std::fs;

use thimble::limits::{PATCH_ID_BYTES, PATH_BYTES};
use thimble::repo::entry::EntryState::{self, Applied, Available};

use crate::jobs::Bench;
use crate::support::archive::{Tar, metadata};
use crate::support::controller::{Controller, signed};

const TO_DO: &str = "apply only one of them, and if the other is applied, remove it and install first";

impl Bench {
    /// Uploads a patch with these members and more lines of metadata.
    fn has(&self, id: &str, members: Tar, more: &str) {
        let text = metadata(id) + more;
        let tar = members.file("metadata.toml", text.as_bytes());
        let patch = signed(&self.scratch, &format!("{id}.patch"), &tar.gzip(), &self.signer);
        self.controller.upload(&[&patch]).done();
    }

    /// An apply of these is refused, and changes nothing. Returns the reason.
    fn refuses(&self, ids: &[&str]) -> String {
        let before = self.controller.load().entries();
        let said = self.controller.change(Applied, ids).refusal();
        assert_eq!(self.controller.load().entries(), before);
        said
    }

    fn states(&self) -> Vec<EntryState> {
        self.controller.states().into_iter().map(|(_, state)| state).collect()
    }
}

fn file(path: &str) -> Tar {
    Tar::default().file(&format!("files/{path}"), b"x")
}

/// Two patches, `F` with the file and `D` with the directory, are refused with this reason:
/// at once and one after the other, whichever is first and whichever requires the other.
fn never_together(
    name: &str,
    (f, f_more): (fn() -> Tar, &str),
    (d, d_more): (fn() -> Tar, &str),
    reason: &str,
) {
    for (f_requires, d_requires) in [("", ""), ("", "requires = [\"F\"]\n"), ("requires = [\"D\"]\n", "")] {
        let bench = Bench::new("conflict");
        bench.has("F", f(), &format!("{f_more}{f_requires}"));
        bench.has("D", d(), &format!("{d_more}{d_requires}"));
        let refused =
            |ids: &[&str]| assert_eq!(bench.refuses(ids), reason, "{name} {f_requires} {d_requires}");
        refused(&["F", "D"]);
        refused(&[]);
        for (first, second, requires) in [("F", "D", f_requires), ("D", "F", d_requires)] {
            if requires.is_empty() {
                bench.controller.change(Applied, &[first]).done();
                refused(&[second]);
                refused(&[]);
                bench.controller.change(Available, &[first]).done();
            }
        }
    }
}

#[test]
fn a_file_where_another_patch_needs_a_directory_is_refused_whatever_they_require() {
    let reason = format!("F has a file where D needs a directory: {TO_DO}. The path is /etc/x");
    let f: (fn() -> Tar, _) = (|| file("etc/x"), "");
    never_together("a file", f, (|| file("etc/x/a/b"), ""), &reason);
    never_together("a directory", f, (|| Tar::default().directory("files/etc/x"), ""), &reason);
    never_together("a removal", f, (|| file("etc/y"), "remove = [\"etc/x/a\"]\n"), &reason);
}

#[test]
fn a_removal_where_another_patch_needs_a_directory_is_refused() {
    let reason = format!("F removes a file where D needs a directory: {TO_DO}. The path is /etc/x");
    let f: (fn() -> Tar, _) = (|| file("etc/y"), "remove = [\"etc/x\"]\n");
    never_together("a file", f, (|| file("etc/x/a"), ""), &reason);
    never_together("a removal", f, (|| file("etc/z"), "remove = [\"etc/x/a\"]\n"), &reason);
}

#[test]
fn a_link_with_files_of_another_patch_below_it_is_refused() {
    let reason = "D needs a directory where F has a link, which is not followed: \
                  apply only one of them, or name the directory that it leads to. The path is /lib";
    let f: (fn() -> Tar, _) = (|| Tar::default().symlink("files/lib", "usr/lib"), "");
    never_together("a file", f, (|| file("lib/a"), ""), reason);
    never_together("a directory", f, (|| Tar::default().directory("files/lib"), ""), reason);
}

#[test]
fn patches_that_meet_on_no_host_are_applied_together() {
    let bench = Bench::new("conflict-kinds");
    bench.has("F", file("x"), "nodetypes = [\"worker\", \"storage\"]\n");
    bench.has("D", file("x/y"), "nodetypes = [\"controller\"]\n");
    bench.controller.change(Applied, &["F", "D"]).done();
    bench.has("E", file("x/z"), "nodetypes = [\"controller\", \"storage\"]\n");
    assert!(bench.refuses(&["E"]).starts_with("F has a file where E needs"));
    bench.has("A", file("x/z"), "requires = [\"E controller storage\"]\n");
    assert!(bench.refuses(&["A", "E"]).contains("F has a file where "));
    bench.controller.change(Available, &["F"]).done();
    bench.controller.change(Applied, &["A", "E"]).done();
}

#[test]
fn directories_and_files_over_files_are_applied_together() {
    let bench = Bench::new("conflict-none");
    bench.has("A", file("d/x").directory("files/d/e").symlink("files/d/l", "x"), "remove = [\"d/r\"]\n");
    let over = file("d/x").symlink("files/d/r", "x").file("files/d/l", b"").file("files/d/e/y", b"");
    bench.has("B", over, "requires = [\"A\"]\n");
    bench.has("C", file("d/z").directory("files/d/e"), "");
    bench.controller.change(Applied, &[]).done();
    assert_eq!(bench.states(), [Applied; 3]);
}

/// Two patches are in order by a third only where hosts have that one.
#[test]
fn a_patch_that_not_all_of_their_hosts_have_orders_no_others() {
    let words = "A and C share a path and neither requires the other, so none can lie on top: apply only one \
                 of them. The path is /x";
    for (of_a, of_b, of_c, is_refused) in [
        ("", "", "", false),
        ("", "controller", "", true),
        ("worker", "controller", "", true),
        ("controller", "controller", "", false),
        ("worker,controller", "controller", "controller", false),
        ("worker,controller", "controller", "controller,worker", true),
    ] {
        let bench = Bench::new("conflict-third");
        let kinds = |kinds: &str| match kinds {
            "" => String::new(),
            kinds => format!("nodetypes = {:?}\n", kinds.split(',').collect::<Vec<_>>()),
        };
        bench.has("C", file("x"), &kinds(of_c));
        bench.has("B", file("y"), &format!("{}requires = [\"C\"]\n", kinds(of_b)));
        let line = format!("{}requires = [\"B controller\"]\n", kinds(of_a));
        let of_b_alone = of_b.is_empty();
        bench.has("A", file("x"), if of_b_alone { "requires = [\"B\"]\n" } else { &line });
        let case = format!("{of_a:?} {of_b:?} {of_c:?}");
        if is_refused {
            assert_eq!(bench.refuses(&[]), words, "{case}");
        } else {
            bench.controller.change(Applied, &[]).done();
        }
    }
}

/// A host cannot know of a patch that it does not get whether it should.
#[test]
fn a_required_patch_that_not_all_hosts_get_must_be_called_so() {
    let cases = [
        ("", "\"B\"", true),
        ("", "\"B controller storage\"", false),
        ("", "\"B controller\"", false),
        ("", "\"B worker\"", true),
        ("nodetypes = [\"controller\"]\n", "\"B\"", false),
        ("nodetypes = [\"controller\", \"worker\"]\n", "\"B\"", true),
        ("nodetypes = [\"controller\", \"worker\"]\n", "\"B controller\"", false),
        // Hosts that do not get A need nothing for it.
        ("nodetypes = [\"controller\", \"compute\"]\n", "\"B controller worker\"", false),
    ];
    for (kinds, requires, is_refused) in cases {
        let bench = Bench::new("requires-kinds");
        bench.has("B", file("b"), "nodetypes = [\"controller\", \"storage\"]\n");
        bench.has("A", file("a"), &format!("{kinds}requires = [{requires}]\n"));
        bench.controller.change(Applied, &["B"]).done();
        if is_refused {
            let words = "A requires B, which not all of its hosts get: name the kinds that do, behind that id in \
                         `requires`";
            assert_eq!(bench.refuses(&["A"]), words, "{kinds}{requires}");
        } else {
            bench.controller.change(Applied, &["A"]).done();
        }
    }
}

/// What two controllers have applied apart is refused by hosts, and by the next apply of
/// one of the two.
#[test]
fn a_merge_can_bring_about_what_an_apply_refuses() {
    let bench = Bench::new("conflict-merge");
    let other = Controller::new(&bench.scratch.join("other"), &bench.signer.public);
    bench.has("F", file("x"), "");
    bench.has("D", file("x/y"), "");
    bench.has("E", file("e"), "");
    other.load().done();
    other.pull(1, &mut bench.controller.map("c")).done();
    other.fetch(1, &mut bench.controller.blobs()).done();
    bench.controller.change(Applied, &["F"]).done();
    other.change(Applied, &["D"]).done();
    bench.controller.pull(2, &mut other.map("other")).done();
    // By id: D, E, F.
    assert_eq!(bench.states(), [Applied, Available, Applied]);
    bench.controller.change(Applied, &["E"]).done();
    bench.controller.change(Available, &["F"]).done();
    assert!(bench.refuses(&["F"]).starts_with("F has a file where D needs"));
}

#[test]
fn the_path_is_named_while_one_of_the_two_files_is_there() {
    let bench = Bench::new("conflict-file");
    bench.has("F", Tar::default().symlink("files/x", "y"), "");
    bench.has("D", file("x/y"), "");
    let remove = |id: &str| {
        let entries = bench.controller.load().entries();
        let hash = entries.iter().find(|entry| entry.id.as_str() == id).unwrap().hash;
        fs::remove_file(bench.scratch.join(format!("state/repo/blobs/{hash}.patch"))).unwrap();
    };
    // That it is a link is in its own file alone.
    remove("F");
    let without_path = format!("F has a file where D needs a directory: {TO_DO}");
    assert_eq!(bench.refuses(&[]), format!("{without_path}. The path is /x"));
    remove("D");
    assert_eq!(bench.refuses(&[]), without_path);
}

/// The reason that reaches the operator is cut at its end.
#[test]
fn a_long_path_does_not_push_out_what_to_do() {
    let bench = Bench::new("conflict-long");
    let [file_of, removal_of, link_of, directory_of] =
        ["F", "R", "L", "D"].map(|letter| letter.repeat(PATCH_ID_BYTES));
    let path = "d/".repeat(PATH_BYTES / 2 - 100) + "x";
    let member = |name: String, tar: Tar| tar.pax(&[("path", &name)]);
    let below = member(format!("files/{path}/y"), Tar::default()).file("y", b"");
    bench.has(&directory_of, below, "");
    bench.has(&file_of, member(format!("files/{path}"), Tar::default()).file("x", b""), "");
    bench.has(&link_of, member(format!("files/{path}"), Tar::default()).symlink("x", "y"), "");
    bench.has(&removal_of, Tar::default(), &format!("remove = [\"{path}\"]\n"));
    bench.controller.change(Applied, &[&directory_of]).done();
    for (id, to_do) in
        [(file_of, TO_DO), (removal_of, TO_DO), (link_of, "name the directory that it leads to")]
    {
        let said = bench.refuses(&[&id]);
        assert!(said.contains(&id) && said.contains(&directory_of) && said.contains(to_do), "{said}");
    }
}
