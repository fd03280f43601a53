//! Scripts: their order and environment, and what happens if one fails, hangs or leaves a
//! process running.

use std::fs;
use std::time::{Duration, Instant};

use crate::child::Orders;
use crate::model;
use crate::pieces::{Patch, file, patch};
use crate::rig::Rig;

const ALL: [&str; 8] = [
    "pre-apply",
    "pre-remove-check",
    "pre-install",
    "post-install",
    "pre-remove",
    "post-remove",
    "restart",
    "health",
];

/// Writes to a log beside the root that it ran.
const NOTE: &str = "echo $THIMBLE_PATCH $THIMBLE_PHASE $THIMBLE_ACTION >>../log";

/// A patch with one file and all scripts, each of which logs that it ran.
fn with_logging_scripts(id: &str) -> Patch {
    let patch = patch(id, [file(&format!("srv/{id}"), id), file("etc/app.conf", id)]);
    ALL.into_iter().fold(patch, |patch, name| patch.script(name, NOTE))
}

/// Takes the scripts' log since the last call.
fn log(rig: &Rig) -> Vec<String> {
    let path = rig.root.with_file_name("log");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

/// The number of processes that run with this argument.
fn running(argument: &str) -> usize {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let text = fs::read(entry.unwrap().path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&text).split('\0').any(|word| word == argument))
    });
    commands.filter(|is_it| *is_it).count()
}

/// Waits, with a limit, until a condition holds.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn only_the_scripts_of_changed_patches_run_and_in_order() {
    need_root!();
    let mut rig = Rig::new("order");
    rig.add(with_logging_scripts("P1"));
    rig.add(with_logging_scripts("P2").requires("P1"));
    rig.add(with_logging_scripts("P3").requires("P1"));
    rig.installed(&["P1", "P2"]);
    let expected = [
        "P1 pre-apply install",
        "P2 pre-apply install",
        "P1 pre-install install",
        "P2 pre-install install",
        "P1 post-install install",
        "P2 post-install install",
        "P1 restart install",
        "P2 restart install",
        "P1 health install",
        "P2 health install",
    ];
    assert_eq!(log(&rig), expected);
    rig.installed(&["P1", "P3"]);
    let expected = [
        "P3 pre-apply install",
        "P2 pre-remove-check remove",
        "P2 pre-remove remove",
        "P3 pre-install install",
        "P2 post-remove remove",
        "P3 post-install install",
        "P2 restart remove",
        "P3 restart install",
        "P1 health install",
        "P3 health install",
    ];
    assert_eq!(log(&rig), expected);
    rig.installed(&["P1", "P3"]);
    assert_eq!(log(&rig), [""; 0], "nothing changes, nothing runs");
}

#[test]
fn a_script_has_a_clean_environment_and_no_descriptors_of_the_installer() {
    need_root!();
    let mut rig = Rig::new("clean");
    let look = "tr '\\0' '\\n' </proc/$$/environ >../environ; pwd >../pwd; readlink /proc/$$/fd/0 >../stdin
        ls -l /proc/$$/fd >../fds; umask >../umask; exec grep SigBlk /proc/self/status >../signals";
    rig.add(patch("P1", [file("srv/x", "x")]).script("post-install", look));
    rig.installed(&["P1"]);
    let read = |name: &str| fs::read_to_string(rig.root.with_file_name(name)).unwrap();
    let mut names: Vec<_> =
        read("environ").lines().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    names.sort();
    let expected =
        ["HOME", "LC_ALL", "PATH", "THIMBLE_ACTION", "THIMBLE_PATCH", "THIMBLE_PHASE", "THIMBLE_ROOT"];
    assert_eq!(names, expected);
    for said in ["THIMBLE_PATCH=P1", "THIMBLE_ACTION=install", "THIMBLE_PHASE=post-install"] {
        assert!(read("environ").lines().any(|line| line == said), "{said}");
    }
    assert_eq!(read("pwd").trim(), rig.root.to_str().unwrap());
    assert_eq!(read("stdin").trim(), "/dev/null");
    assert!(!read("fds").contains(".thimble/lock"), "{}", read("fds"));
    assert!(read("signals").contains("0000000000000000"), "{}", read("signals"));
    assert_eq!(read("umask").trim(), "0022");
}

/// Installs P2 over P1 with one script of P2 that fails. The host must have its previous
/// set, and the scripts that belong to going back must have run.
fn rolls_back(name: &str, script: &str, body: &str, words: &[&str], back: &[&str]) {
    goes_back(name, None, script, body, words, back);
}

/// The same, of a script that does not end by itself.
fn times_out(name: &str, script: &str, body: &str, back: &[&str]) {
    goes_back(name, Some(3_000), script, body, &["took longer than 3000 ms"], back);
}

fn goes_back(name: &str, timeout_ms: Option<u64>, script: &str, body: &str, words: &[&str], back: &[&str]) {
    let mut rig = Rig::new(name);
    if let Some(timeout_ms) = timeout_ms {
        rig.orders.script_timeout_ms = timeout_ms;
    }
    rig.add(with_logging_scripts("P1"));
    let second = with_logging_scripts("P2").requires("P1");
    rig.add(second.script_instead(script, &format!("{NOTE}\n{body}")));
    rig.installed(&["P1"]);
    let before = rig.tree();
    log(&rig);
    let run = rig.install(&["P1", "P2"]);
    run.assert_ended("RolledBack", &[&format!("{script} of P2 ")]);
    run.assert_ended("RolledBack", words);
    assert_eq!(run.installed(), ["P1"]);
    model::assert_same(&rig.tree(), &before, "after going back");
    let log = log(&rig);
    let at = log.iter().position(|line| *line == format!("P2 {script} install")).expect("it ran");
    assert_eq!(log[at + 1..], *back, "{log:?}");
    assert!(run.reports.contains("rolling back"), "{}", run.reports);
    // A later install works.
    rig.add(with_logging_scripts("P3").requires("P1"));
    rig.installed(&["P1", "P3"]);
}

#[test]
fn a_failing_pre_script_goes_back() {
    need_root!();
    let back = ["P2 post-remove rollback", "P1 restart rollback"];
    rolls_back(
        "pre",
        "pre-install",
        "echo one; echo two >&2; exit 3",
        &["ended with status 3: one; two"],
        &back,
    );
}

#[test]
fn a_failing_post_script_goes_back() {
    need_root!();
    let back = ["P2 post-remove rollback", "P1 restart rollback"];
    rolls_back("post", "post-install", "kill -9 $$", &["was ended by signal 9"], &back);
}

#[test]
fn a_failing_restart_script_goes_back() {
    need_root!();
    // It is not run again: what is restarted is the previous set.
    let back = ["P2 post-remove rollback", "P1 restart rollback"];
    rolls_back("restart", "restart", "false", &["ended with status 1"], &back);
}

#[test]
fn a_failing_health_script_goes_back() {
    need_root!();
    // Its restart has passed and may have done what that of the previous set does not undo.
    let back = ["P2 post-remove rollback", "P1 restart rollback", "P2 restart rollback"];
    rolls_back(
        "health",
        "health",
        "echo 'no answer on port 80'; exit 1",
        &["status 1: no answer on port 80"],
        &back,
    );
}

#[test]
fn a_hanging_script_is_killed_with_all_processes_that_it_started() {
    need_root!();
    let body = "(setsid sleep 71001 &) ; sleep 71002 & exec sleep 71003";
    let back = ["P2 post-remove rollback", "P1 restart rollback"];
    times_out("hangs", "post-install", body, &back);
    assert_eq!([running("71001"), running("71002"), running("71003")], [0; 3]);
}

#[test]
fn a_script_that_never_stops_writing_is_killed() {
    need_root!();
    let back = ["P2 post-remove rollback", "P1 restart rollback"];
    times_out("writes", "post-install", "exec yes", &back);
}

#[test]
fn a_script_that_leaves_a_daemon_running_fails_and_the_daemon_is_killed() {
    need_root!();
    let body = "sleep 72001 & (setsid sh -c 'sleep 72002 & exec sleep 72003' &) ; exit 0";
    let back = ["P2 post-remove rollback", "P1 restart rollback"];
    rolls_back("daemon", "restart", body, &["left ", "sleep", "running: start services through"], &back);
    assert_eq!([running("72001"), running("72002"), running("72003")], [0; 3]);
}

#[test]
fn a_child_that_ends_within_the_grace_period_is_not_a_failure() {
    need_root!();
    let mut rig = Rig::new("moment");
    rig.add(patch("P1", [file("srv/x", "x")]).script("restart", "sleep 0.05 &"));
    rig.installed(&["P1"]);
}

#[test]
fn a_script_that_cannot_be_started_goes_back() {
    need_root!();
    let mut rig = Rig::new("start");
    rig.add(patch("P1", [file("srv/x", "x")]).raw_script("restart", "#!/no/such/shell\n"));
    rig.install(&["P1"]).assert_ended("RolledBack", &["restart of P1 could not run: No such file"]);
    rig.assert_tree(&[]);
}

#[test]
fn a_failing_check_script_rejects_the_install() {
    need_root!();
    let mut rig = Rig::new("checks");
    rig.add(with_logging_scripts("P1").script_instead("pre-remove-check", "echo not while it snows; exit 9"));
    rig.add(with_logging_scripts("P2").requires("P1").script_instead("pre-apply", "exit 7"));
    rig.installed(&["P1"]);
    log(&rig);
    rig.install(&[]).assert_ended("Rejected", &["pre-remove-check of P1", "status 9: not while it snows"]);
    rig.install(&["P1", "P2"]).assert_ended("Rejected", &["pre-apply of P2 ended with status 7"]);
    assert_eq!(log(&rig), [""; 0]);
    rig.assert_tree(&["P1"]);
    assert_eq!(rig.own("patches"), ["P1"]);
}

#[test]
fn a_failing_removal_rolls_back_and_the_previous_set_is_started_again() {
    need_root!();
    let mut rig = Rig::new("removal");
    rig.add(with_logging_scripts("P1").script_instead("post-remove", &format!("{NOTE}; exit 4")));
    rig.installed(&["P1"]);
    log(&rig);
    rig.install(&[]).assert_ended("RolledBack", &["post-remove of P1 ended with status 4"]);
    rig.assert_tree(&["P1"]);
    let expected = [
        "P1 pre-remove-check remove",
        "P1 pre-remove remove",
        "P1 post-remove remove",
        "P1 post-install rollback",
        "P1 restart rollback",
    ];
    assert_eq!(log(&rig), expected);
}

#[test]
fn a_previous_set_that_does_not_start_again_is_broken() {
    need_root!();
    let mut rig = Rig::new("broken");
    let restart = "test $THIMBLE_ACTION != rollback";
    rig.add(
        with_logging_scripts("P1").script_instead("post-remove", "exit 4").script_instead("restart", restart),
    );
    rig.installed(&["P1"]);
    let words = ["post-remove of P1 ended with status 4", "going back: restart of P1 ended with status 1"];
    rig.install(&[]).assert_ended("Broken", &words);
    rig.assert_tree(&["P1"]);
}

#[test]
fn going_back_restarts_the_patches_whose_files_come_back() {
    need_root!();
    let mut rig = Rig::new("restarts");
    rig.add(with_logging_scripts("P1"));
    // It shares no file with those that follow, so it is not restarted.
    rig.add(patch("P2", [file("srv/other", "of P2")]).script("restart", NOTE));
    rig.add(with_logging_scripts("P3").requires("P1").script_instead("health", "exit 1"));
    rig.installed(&["P1", "P2"]);
    log(&rig);
    rig.install(&["P1", "P2", "P3"]).assert_ended("RolledBack", &["health of P3"]);
    let back = ["P3 post-remove rollback", "P1 restart rollback", "P3 restart rollback"];
    assert_eq!(log(&rig)[4..], [&["P1 health install"][..], &back].concat());
    // The previous set's own restart decides whether going back succeeded.
    let fails = format!("{NOTE}; test $THIMBLE_ACTION != rollback");
    rig.add(with_logging_scripts("P1").script_instead("restart", &fails));
    rig.installed(&[]);
    rig.installed(&["P1"]);
    let words = ["health of P3", "going back: restart of P1 ended with status 1"];
    rig.install(&["P1", "P3"]).assert_ended("Broken", &words);
    rig.assert_tree(&["P1"]);
}

#[test]
fn what_no_patch_knew_to_restart_is_restarted_by_the_patch_that_replaced_it() {
    need_root!();
    let mut rig = Rig::new("restarted");
    rig.add(patch("P1", [file("srv/x", "of P1")]).script("restart", NOTE));
    let pieces = [file("etc/app.conf", "of P2")];
    let restart = "cat etc/app.conf >>../log; echo >>../log";
    rig.add(patch("P2", pieces).script("restart", restart).script("health", "exit 1"));
    rig.installed(&["P1"]);
    log(&rig);
    rig.install(&["P1", "P2"]).assert_ended("RolledBack", &["health of P2"]);
    assert_eq!(log(&rig), ["of P2", "base conf"]);
}

#[test]
fn a_script_with_a_carriage_return_in_its_first_line_is_rejected() {
    need_root!();
    let mut rig = Rig::new("crlf");
    rig.add(patch("P1", [file("srv/x", "x")]).raw_script("restart", "#!/bin/sh\r\nexit 0\r\n"));
    let words = ["P1: member scripts/restart: its first line ends in CR LF", "sed -i"];
    rig.install(&["P1"]).assert_ended("Rejected", &words);
    rig.assert_tree(&[]);
    // Elsewhere it is the script's own business, and a file is not a script.
    let text = "#!/bin/sh\nexit 0 #\r\n";
    rig.add(patch("P2", [file("srv/y", "#!/bin/sh\r\n")]).raw_script("restart", text));
    rig.becomes(&["P2"]);
}

#[test]
fn a_patch_that_requires_a_restart_of_the_host_runs_no_in_service_scripts() {
    need_root!();
    let mut rig = Rig::new("reboot");
    rig.add(with_logging_scripts("P1").says("reboot_required = true"));
    let run = rig.installed(&["P1"]);
    assert_eq!(run.says("reboot"), "true");
    let expected = ["P1 pre-apply install", "P1 pre-install install", "P1 post-install install"];
    assert_eq!(log(&rig), expected);
    assert_eq!(rig.installed(&[]).says("reboot"), "true");
}

#[test]
fn scripts_end_with_the_installer_and_recovery_kills_what_they_started() {
    need_root!();
    let mut rig = Rig::new("parent");
    rig.add(
        // Those that begin a program again and again have no environment now and then.
        patch("P1", [file("srv/x", "x")]).script(
            "post-install",
            "cat >../again <<'SH'
[ $1 -gt 0 ] && exec sh ../again $(($1 - 1)) 73001
SH
            for i in 1 2 3 4 5 6 7 8; do setsid sh ../again 20000 73001 & done
            exec sleep 73002",
        ),
    );
    let mut child = rig.start(&rig.orders_for(&["P1"]));
    until("the script runs", || running("73001") > 0 && running("73002") == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    until("the script ends with its parent", || running("73002") == 0);
    let run = rig.recover();
    assert_eq!((run.says("outcome"), run.last()), ("RolledBack", "done"), "{run:?}");
    assert_eq!(running("73001"), 0);
    rig.assert_tree(&[]);
}

#[test]
fn recovery_waits_for_a_running_installer() {
    need_root!();
    let mut rig = Rig::new("waits");
    rig.add(patch("P1", [file("srv/x", "x")]).script("post-install", "touch ../began; sleep 0.5"));
    let mut child = rig.start(&rig.orders_for(&["P1"]));
    until("the script runs", || rig.root.with_file_name("began").exists());
    let reports = rig.root.with_file_name("other-reports");
    let run = rig.run(&Orders { request_id: None, reports, ..rig.orders.clone() }, None);
    assert_eq!((run.says("outcome"), run.last()), ("Installed", "done"), "{run:?}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_restart_is_owed_until_the_host_restarts() {
    need_root!();
    let mut rig = Rig::new("owed");
    rig.add(with_logging_scripts("P1").says("reboot_required = true"));
    rig.add(patch("P2", [file("srv/y", "of P2")]));
    assert_eq!(rig.installed(&["P1"]).says("reboot"), "true");
    assert_eq!(rig.recover().says("reboot"), "true", "the daemon's restart is not the host's");
    assert_eq!(
        rig.installed(&["P1", "P2"]).says("reboot"),
        "true",
        "an install that asks for none pays none"
    );
    assert_eq!(rig.recover_after_restart().says("reboot"), "false");
}
