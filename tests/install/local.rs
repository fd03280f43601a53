//! `install-local` and `guard` as an operator and a boot run them: the binary, without a
//! daemon.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use thimble::config::Config;
use thimble::repo::entry::EntryState;

use crate::pieces::{Patch, file, patch};
use crate::rig::Rig;
use crate::support::controller::Controller;
use crate::support::thimble;

/// A node that is controller and agent, with patches in its repository.
pub struct Both {
    pub rig: Rig,
    controller: Controller,
    pub dir: PathBuf,
}

impl Both {
    pub fn new(name: &str) -> Self {
        let rig = Rig::new(name);
        let dir = rig.root.parent().unwrap().to_owned();
        let text = format!(
            "[node]\nroles = [\"controller\", \"agent\"]\nhostname = \"both\"\nsw_version = \"1.0\"\n\
             nodetype = \"worker\"\nstate_dir = \"{state}\"\n[network]\ninterface = \"lo\"\n\
             [security]\nauth = \"none\"\ntrusted_keys = [\"{key}\"]\n[agent]\nroot = \"{root}\"\n\
             lock_file = \"{state}/locked\"\n",
            state = dir.join("state").display(),
            key = rig.signer.public,
            root = rig.root.display(),
        );
        fs::create_dir(dir.join("state")).unwrap();
        fs::write(dir.join("thimble.toml"), &text).unwrap();
        let config = Config::parse(&text, "test").unwrap();
        Self { rig, controller: Controller { config }, dir }
    }

    /// Replaces a text in the configuration.
    fn reconfigure(&self, from: &str, to: &str) {
        let path = self.dir.join("thimble.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn upload(&self, patch: &Patch) {
        let path = self.dir.join(format!("{}.patch", patch.id));
        fs::write(&path, patch.bytes()).unwrap();
        self.rig.signer.sign(&path);
        self.controller.upload(&[&path]).done();
    }

    pub fn change(&self, to: EntryState, id: &str) {
        self.controller.change(to, &[id]).done();
    }

    pub fn applied(&self, patch: &Patch) {
        self.upload(patch);
        self.change(EntryState::Applied, &patch.id);
    }

    /// A command of this thimble.
    pub fn command(&self, thimble: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(thimble);
        command.arg("--config").arg(self.dir.join("thimble.toml")).args(words);
        command
    }

    /// Runs a command. Returns its exit code and its output.
    pub fn thimble(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(thimble().as_ref(), words).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    }

    #[track_caller]
    pub fn says(&self, words: &[&str], code: i32, parts: &[&str]) {
        let (ended, said) = self.thimble(words);
        assert_eq!(ended, code, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
}

#[test]
fn a_node_installs_what_its_own_repository_has_applied_and_then_is_current() {
    need_root!();
    let both = Both::new("local");
    both.applied(&patch("P1", [file("etc/p1", "of P1")]));
    both.says(&["install-local"], 0, &["checking\n", "staging\n", "installed: 1 patches, set "]);
    assert_eq!(both.rig.text("etc/p1"), "of P1");
    both.says(&["install-local"], 0, &["current: 1 patches, set "]);
    let (code, said) = both.thimble(&["--json", "install-local"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["outcome"], &said["installed"][0]), (0, &"current".into(), &"P1".into()));
    // The stored outcome, which the daemon will report: a request that succeeded.
    let run = both.rig.recover();
    assert_eq!((run.says("outcome"), run.installed()), ("Installed", vec!["P1"]));
    assert_ne!(run.says("request"), "0");

    both.change(EntryState::Available, "P1");
    both.applied(&patch("P2", [file("etc/p2", "of P2")]));
    both.says(&["install-local"], 0, &["installed: 1 patches, set "]);
    assert!(!both.rig.root.join("etc/p1").exists());
    assert_ne!(both.rig.recover().says("request"), run.says("request"));
}

#[test]
fn a_patch_that_was_changed_in_the_store_is_not_installed() {
    need_root!();
    let both = Both::new("local-forged");
    both.applied(&patch("P1", [file("etc/p1", "of P1")]));
    let blobs = fs::read_dir(both.dir.join("state/repo/blobs")).unwrap();
    let is_patch = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "patch");
    let blob = blobs.map(|entry| entry.unwrap().path()).find(is_patch).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[30] ^= 1;
    fs::write(&blob, bytes).unwrap();
    both.says(&["install-local"], 5, &["P1", "nothing was changed"]);
    both.rig.assert_tree(&[]);
}

#[test]
fn an_unhealthy_set_is_rolled_back_and_the_reason_is_printed() {
    need_root!();
    let both = Both::new("local-sick");
    both.applied(&patch("P1", [file("etc/p1", "of P1")]).script("health", "echo it hurts; exit 3"));
    let parts = ["rolling back\n", "health of P1", "it hurts", "the previous set was restored"];
    both.says(&["install-local"], 1, &parts);
    both.rig.assert_tree(&[]);
    assert_eq!(both.rig.recover().says("outcome"), "RolledBack");
}

#[test]
fn an_unlocked_host_needs_force_for_a_patch_that_requires_a_restart() {
    need_root!();
    let both = Both::new("local-locked");
    both.applied(&patch("P1", [file("etc/p1", "of P1")]).says("reboot_required = true"));
    both.says(&["install-local"], 1, &["Node must be locked.", "nothing was changed"]);
    both.says(&["install-local", "--force"], 0, &["installed: 1 patches", "reboot this host"]);
}

#[test]
fn only_root_here_goes_below_the_floor_and_only_when_that_is_said() {
    need_root!();
    let both = Both::new("local-floor");
    let floor = |id: &str, serial| {
        patch(id, []).says(&format!("floor.serial = {serial}\nfloor.expires = \"2027-06-30\""))
    };
    both.applied(&patch("P1", [file("etc/p1", "of P1")]));
    both.applied(&patch("P2", [file("etc/p2", "of P2")]).requires("P1").says("supersedes = [\"P1\"]"));
    both.applied(&floor("F1", 1));
    both.says(&["install-local"], 0, &["installed: 3 patches"]);
    for id in ["F1", "P2"] {
        both.controller.change_below_floor(EntryState::Available, &[id]).done();
    }
    both.says(&["install-local"], 1, &["F1 is the floor in force (serial 1)", "nothing was changed"]);
    both.says(&["install-local", "--force"], 1, &["F1 is the floor in force", "nothing was changed"]);
    both.says(&["install-local", "--below-floor"], 0, &["installed: 1 patches"]);
    assert!(!both.rig.root.join("etc/p2").exists());
    both.applied(&patch("P3", [file("etc/p3", "of P3")]));
    both.says(&["install-local"], 0, &["installed: 2 patches"]);
}

#[test]
fn install_local_refuses_with_advice_where_it_cannot_work() {
    need_root!();
    let both = Both::new("local-refused");
    both.says(&["install-local"], 1, &["no repository", "upload and apply"]);
    assert!(!both.dir.join("state/repo").exists(), "none is made: an empty one would undo everything");
    both.applied(&patch("P1", [file("etc/p1", "of P1")]));
    let lock = File::create(both.dir.join("state/daemon.lock")).unwrap();
    lock.lock().unwrap();
    both.says(&["install-local"], 1, &["the daemon is running", "thimble host-install both"]);
    both.says(&["guard"], 0, &["the daemon is running"]);
    drop(lock);
    both.reconfigure("\"controller\", \"agent\"", "\"agent\"");
    both.says(&["install-local"], 1, &["no repository", "\"controller\"", "host-install"]);
    both.reconfigure("\"agent\"", "\"controller\"");
    both.says(&["install-local"], 1, &["\"agent\""]);
    both.says(&["guard"], 0, &["not an agent"]);
    both.rig.assert_tree(&[]);
}

#[test]
fn a_guard_reports_what_it_restored_and_what_it_cannot_restore() {
    need_root!();
    let both = Both::new("guard-says");
    both.says(&["guard"], 0, &["no install was interrupted"]);
    // Kill an installer while a script runs.
    both.applied(&patch("P1", [file("etc/p1", "of P1")]).script("post-install", "kill -9 $PPID"));
    let killed = both.command(thimble().as_ref(), &["install-local"]).output().unwrap();
    assert_eq!(killed.status.code(), None, "killed");
    assert!(both.rig.root.join("etc/p1").exists());
    both.says(&["guard"], 0, &["the files of set ", "are back", "when the daemon starts"]);
    both.rig.assert_tree(&[]);
    both.says(&["guard"], 0, &["are back"]);
    assert_eq!(both.rig.recover().says("outcome"), "RolledBack");
    both.says(&["guard"], 0, &["no install was interrupted"]);

    fs::write(both.rig.root.join(".thimble/journal"), "no journal").unwrap();
    both.says(&["guard"], 1, &["/.thimble/journal is damaged", "inconsistent"]);
}
