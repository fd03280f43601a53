//! Labels of SELinux: a command of the host is told what an install has put in place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::pieces::{directory, file, link, patch};
use crate::rig::{Rig, skip};

/// SELinux, as far as a program can see it, and nothing of the host's own in the first
/// directory of the path.
const SELINUX: &str = "mount -t tmpfs none /sys/fs && mkdir /sys/fs/selinux && touch /sys/fs/selinux/enforce \
                       && mount -t tmpfs none /usr/local/sbin";

/// A command that writes its arguments and what it is told into the log of the scripts, each
/// path in a line of its own.
const FAKE: &str = "#!/bin/sh\necho \"labels $*\" >>../log\ntr '\\0' '\\n' >>../log\n";

fn program(rig: &Rig, text: &str) -> String {
    let path = rig.root.with_file_name("relabel");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Takes the log since the last call, with paths from the root on.
fn log(rig: &Rig) -> Vec<String> {
    let path = rig.root.with_file_name("log");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(|line| line.replace(rig.root.to_str().unwrap(), "ROOT")).collect()
}

fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    rig.orders.relabel = Some(vec![program(&rig, FAKE), "-x".to_owned()]);
    let pieces = [file("etc/app.conf", "1"), directory("srv/dir", 0o755), link("lib/link", "there")];
    let note = "echo $THIMBLE_PATCH $THIMBLE_PHASE >>../log";
    let one = ["pre-install", "post-install", "post-remove"]
        .into_iter()
        .fold(patch("P1", pieces).removes("usr/bin/other"), |patch, name| patch.script(name, note));
    rig.add(one);
    rig.add(patch("P2", [file("etc/app.conf", "2")]).requires("P1"));
    let sick = patch("P3", [file("etc/app.conf", "3"), file("etc/p3", "3")]).script("health", "exit 1");
    let sick = sick.script("post-remove", note);
    rig.add(sick.clone().named("P5").requires("P1"));
    rig.add(sick);
    rig
}

#[test]
fn what_an_install_has_put_in_place_is_told_before_the_post_scripts() {
    need_root!();
    let rig = rig("labels");
    rig.installed(&["P1"]);
    let expected = [
        "P1 pre-install",
        "labels -x",
        "ROOT/etc/app.conf",
        "ROOT/srv",
        "ROOT/srv/dir",
        "ROOT/usr/lib/link",
        "P1 post-install",
    ];
    assert_eq!(log(&rig), expected);
    rig.installed(&["P1", "P2"]);
    assert_eq!(log(&rig), ["labels -x", "ROOT/etc/app.conf"]);
    rig.install(&["P3"]).assert_ended("RolledBack", &["health of P3"]);
    let forth = ["labels -x", "ROOT/etc/app.conf", "ROOT/etc/p3", "ROOT/usr/bin/other", "P1 post-remove"];
    let back = ["labels -x", "ROOT/etc/app.conf", "ROOT/usr/lib/link", "P1 post-install"];
    assert_eq!(log(&rig), [&forth[..], &back[..]].concat());
    rig.installed(&[]);
    assert_eq!(log(&rig)[..3], ["labels -x", "ROOT/etc/app.conf", "ROOT/usr/bin/other"]);
    rig.assert_tree(&[]);
}

#[test]
fn a_command_that_fails_is_told_and_fails_nothing() {
    need_root!();
    let mut rig = rig("unlabelled");
    program(&rig, "#!/bin/sh\necho much ado\necho 'no policy'; exit 3\n");
    let name = rig.root.with_file_name("relabel");
    let told = format!("files may have wrong labels, as `{}` ended with status 3: no policy", name.display());
    let run = rig.installed(&["P1"]);
    // It is told once, with the outcome.
    assert_eq!((run.says("reason"), run.notices()), (told.as_str(), vec![]));
    let run = rig.install(&["P1", "P5"]);
    run.assert_ended("RolledBack", &["health of P5", "; files may have wrong labels"]);
    // Something was changed by hand as well.
    rig.edit("etc/app.conf", "by hand");
    let run = rig.installed(&["P1", "P2"]);
    let both = format!("/etc/app.conf was changed by hand: that is saved as app.conf.thimble-saved; {told}");
    assert_eq!(run.says("reason"), both);

    rig.orders.relabel = Some(vec!["no-such-program".to_owned()]);
    let run = rig.installed(&[]);
    let told = "files may have wrong labels, as `no-such-program` (agent.relabel) is not on this host";
    assert_eq!(run.says("reason"), told);

    program(&rig, "#!/bin/sh\nsleep 60\n");
    rig.orders.relabel = Some(vec![name.display().to_string()]);
    rig.orders.script_timeout_ms = 300;
    let run = rig.installed(&["P2", "P1"]);
    assert!(run.says("reason").contains("took longer than 300 ms"), "{run:?}");
}

#[test]
fn many_paths_are_passed_whether_or_not_they_are_read() {
    need_root!();
    let mut rig = rig("many");
    let path = |at: usize| format!("srv/{}/{at:04}", "directory".repeat(20));
    rig.add(patch("P4", (0..1_500).map(|at| file(&path(at), "")).collect::<Vec<_>>()));
    rig.installed(&["P4"]);
    let expected = (0..1_500).map(|at| format!("ROOT/{}", path(at)));
    let above = format!("ROOT/srv/{}", "directory".repeat(20));
    let first = ["labels -x".to_owned(), "ROOT/srv".to_owned(), above];
    assert!(log(&rig).into_iter().eq(first.into_iter().chain(expected)));
    program(&rig, "#!/bin/sh\nexec <&-\nhead -c 300000 /dev/zero\nsleep 0.2\n");
    rig.installed(&[]);
    rig.becomes(&["P4"]);
}

#[test]
fn restorecon_is_run_where_selinux_is_in_use() {
    need_root!();
    let mut rig = rig("default");
    rig.orders.relabel = None;
    assert_eq!(rig.installed(&["P2", "P1"]).says("reason"), "");
    rig.installed(&[]);
    let is_quiet = |line: &String| !line.starts_with("labels") && !line.starts_with("ROOT");
    assert!(log(&rig).iter().all(is_quiet), "without SELinux");

    let fake: PathBuf = program(&rig, FAKE).into();
    let with = format!("{SELINUX} && cp {} /usr/local/sbin/restorecon", fake.display());
    let run = rig.run_in(&with, &rig.orders_for(&["P1", "P2"]));
    assert_eq!((run.last(), run.says("reason")), ("done", ""), "{run:?}");
    assert!(log(&rig).iter().any(|line| line == "labels -0 -f -"));
    rig.orders.relabel = Some(vec![]);
    let run = rig.run_in(&with, &rig.orders_for(&["P1"]));
    assert_eq!((run.last(), run.says("reason")), ("done", ""), "{run:?}");
    assert!(log(&rig).iter().all(is_quiet), "it is turned off");

    rig.orders.relabel = None;
    if ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| fs::exists(format!("{dir}/restorecon")).unwrap())
    {
        return skip("a host without restorecon", "this one has it");
    }
    let run = rig.run_in(SELINUX, &rig.orders_for(&[]));
    let told = "files may have wrong labels, as `restorecon` (agent.relabel) is not on this host";
    assert_eq!((run.last(), run.says("outcome"), run.says("reason")), ("done", "Installed", told), "{run:?}");
}
