//! One node: its namespace, its directory, its daemon while it runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::netns::Namespace;
use crate::over::{self, Address, INSTALL_RETRY_MS};
pub use crate::support::thimble;
use crate::{sys, wait};

/// The software version of every node.
pub const SW_VERSION: &str = "1.0";

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The output of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The output of a command that must have ended with `code`.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr + &self.stdout
    }
}

/// One node: its namespace, its directory, its daemon while it runs.
pub struct Node {
    pub name: String,
    pub address: Address,
    pub namespace: Namespace,
    pub dir: PathBuf,
    /// Timers by name, in milliseconds; read when the daemon starts.
    pub timers: BTreeMap<&'static str, u64>,
    /// Trusted minisign keys; read when the daemon starts.
    pub trusted_keys: Vec<String>,
    pub is_controller: bool,
    /// A controller that is an agent too.
    pub has_both_roles: bool,
    /// The interface of the cluster's network; several with commas between.
    pub interface: String,
    /// The thimble binary that it runs.
    pub binary: String,
    /// Additional environment variables of the daemon.
    pub environment: Vec<(&'static str, String)>,
    /// Standard error of the next start, instead of the log file.
    pub stderr: Option<OwnedFd>,
    /// Additional lines of the configuration: section and `key = value`.
    pub settings: Vec<(&'static str, String)>,
    /// Its daemon is not root: an installer, which is, starts with it.
    pub is_split: bool,
    daemon: Option<Child>,
    installer: Option<Child>,
}

impl Node {
    /// A node without keys. The caller joins it to a network and makes its key file.
    pub fn new(
        name: &str,
        is_controller: bool,
        address: Address,
        namespace: Namespace,
        dir: PathBuf,
    ) -> Self {
        fs::create_dir_all(dir.join("root")).unwrap();
        fs::create_dir_all(dir.join("state")).unwrap();
        Self {
            name: name.to_owned(),
            address,
            namespace,
            dir,
            timers: BTreeMap::from([
                ("hello_interval_ms", 200),
                // A pause of a busy machine is no loss, except to tests of losses.
                ("probe_ms", 20_000),
                ("hello_start_ms", 50),
                ("sync_retry_ms", 100),
                ("install_retry_ms", INSTALL_RETRY_MS),
                ("install_give_up_ms", 30_000),
            ]),
            trusted_keys: Vec::new(),
            is_controller,
            has_both_roles: false,
            interface: "net0".to_owned(),
            binary: thimble(),
            environment: Vec::new(),
            stderr: None,
            settings: Vec::new(),
            is_split: false,
            daemon: None,
            installer: None,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn key_file(&self) -> PathBuf {
        self.dir.join("thimble.key")
    }

    pub fn control_socket(&self) -> PathBuf {
        // In a directory of its own, where the daemon's user may make it.
        self.dir.join(if self.is_split { "run/control.sock" } else { "control.sock" })
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.join("thimble.toml")
    }

    /// The log of the daemon and its workers.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    /// Writes the configuration: short timers, everything else as on a real node.
    pub fn write_config(&self) {
        let roles = match (self.has_both_roles, self.is_controller) {
            (true, _) => "\"controller\", \"agent\"",
            (false, true) => "\"controller\"",
            (false, false) => "\"agent\"",
        };
        let dir = self.dir.display();
        let timers: String = self.timers.iter().map(|(name, ms)| format!("{name} = {ms}\n")).collect();
        let mut text = format!(
            "[node]\nroles = [{roles}]\nhostname = \"{}\"\nsw_version = \"{SW_VERSION}\"\n\
             state_dir = \"{dir}/state\"\ninstaller_socket = \"{dir}/installer/socket\"\ncontrol_socket = {:?}\n\
             [network]\n{}\n\
             [security]\nkey_file = \"{dir}/thimble.key\"\ntrusted_keys = {:?}\n\
             [agent]\nroot = \"{dir}/root\"\n\
             [controller]\n\
             [timers]\n{timers}",
            self.name,
            self.control_socket(),
            over::network(&self.interface),
            self.trusted_keys,
        );
        for (section, line) in &self.settings {
            text = text.replacen(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n"), 1);
        }
        fs::write(self.config_file(), text).unwrap();
    }

    /// Runs a command of the binary on this node.
    pub fn thimble(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.config_file()).args(arguments).stdin(Stdio::null());
        let Output { status, stdout, stderr } = self.namespace.enter(|| command.output()).unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("thimble writes UTF-8");
        Ended { code: status.code().expect("not killed"), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The output of `thimble ARGUMENTS --json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.thimble(&[&["--json"], arguments].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// How many datagrams the node has refused for this reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.counter(&format!("refused_{reason}"))
    }

    /// A counter of `thimble status`.
    pub fn counter(&self, name: &str) -> u64 {
        self.json(&["status"])["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// A host as this controller sees it.
    pub fn host(&self, name: &str) -> Value {
        let all = self.json(&["query-hosts"]);
        let hosts = all["hosts"].as_array().expect("a list of hosts");
        hosts.iter().find(|host| host["hostname"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Whether this controller knows what the hosts have installed, so that it may delete
    /// and commit.
    pub fn is_settled(&self) -> bool {
        let Ended { stdout, stderr, .. } = self.thimble(&["commit", "--all", "--dry-run"]);
        ![stdout, stderr].concat().contains("not known yet")
    }

    /// Makes a backup copy of the state directory.
    pub fn back_up(&self, name: &str) -> PathBuf {
        let backup = self.dir.join(name);
        copy_tree(&self.state_dir(), &backup);
        backup
    }

    /// Replaces the state directory by a backup.
    pub fn restore(&self, backup: &Path) {
        fs::remove_dir_all(self.state_dir()).unwrap();
        copy_tree(backup, &self.state_dir());
    }

    /// Empties the state directory, as if the disk were new.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.state_dir()).unwrap();
        fs::create_dir(self.state_dir()).unwrap();
    }

    /// Has its programs run without capabilities, also as root.
    #[cfg(not(feature = "tipc"))]
    pub fn give_no_capabilities(&mut self) {
        use std::os::unix::fs::PermissionsExt;

        let bare = self.dir.join("bare");
        let text = format!("#!/bin/sh\nexec setpriv --bounding-set=-all -- {} \"$@\"\n", self.binary);
        fs::write(&bare, text).unwrap();
        fs::set_permissions(&bare, fs::Permissions::from_mode(0o755)).unwrap();
        self.binary = bare.to_str().unwrap().to_owned();
    }

    /// A command that runs the daemon of this program, as the user that it has.
    pub fn daemon_command(&self, program: &Path) -> Command {
        let mut command = if self.is_split {
            let user = sys::NOBODY.to_string();
            let mut command = self.namespace.command("setpriv");
            // The death signal of [`sys::dies_with_parent`] does not outlive the change of user.
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--pdeathsig", "KILL"]);
            command.arg(program);
            command
        } else {
            self.namespace.command(program.to_str().unwrap())
        };
        command.arg("--config").arg(self.config_file()).arg("run").stdin(Stdio::null());
        command
    }

    /// Gives the daemon's user what it must own.
    pub fn give_to_user(&self) {
        fs::create_dir_all(self.dir.join("installer")).unwrap();
        let owner = format!("{0}:{0}", sys::NOBODY);
        let status = Command::new("chown")
            .args(["-R", &owner])
            .args([self.state_dir(), self.key_file()])
            .status()
            .unwrap();
        assert!(status.success());
        let run = self.dir.join("run");
        fs::create_dir_all(&run).unwrap();
        std::os::unix::fs::chown(run, Some(sys::NOBODY), Some(sys::NOBODY)).unwrap();
    }

    /// Starts the installer of this program.
    pub fn start_installer(&mut self, program: &Path) {
        assert!(self.installer.is_none(), "the installer of {} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.namespace.command(program.to_str().unwrap());
        command.arg("--config").arg(self.config_file()).arg("installer");
        command.args(["--user", &sys::NOBODY.to_string()]).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.installer = Some(sys::dies_with_parent(&mut command).spawn().unwrap());
        let socket = self.dir.join("installer/socket");
        wait::until_true("the installer listens", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    pub fn installer_pid(&self) -> u32 {
        self.installer.as_ref().expect("the installer runs").id()
    }

    /// Kills the installer.
    pub fn kill_installer(&mut self) {
        let mut child = self.installer.take().expect("the installer runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts the daemon without waiting for anything; before it its installer, if it has one.
    pub fn spawn(&mut self) {
        if self.is_split && self.installer.is_none() {
            self.write_config();
            self.give_to_user();
            self.start_installer(&PathBuf::from(&self.binary));
        }
        self.spawn_daemon();
    }

    /// Starts the daemon without its installer, and waits until it answers.
    pub fn start_without_installer(&mut self) {
        self.spawn_daemon();
        self.answers();
    }

    fn spawn_daemon(&mut self) {
        assert!(self.daemon.is_none(), "{} runs already", self.name);
        self.write_config();
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.daemon_command(Path::new(&self.binary));
        command.envs(self.environment.iter().cloned());
        let stderr = self.stderr.take().map_or_else(|| Stdio::from(log.try_clone().unwrap()), Stdio::from);
        command.stdout(log).stderr(stderr);
        self.daemon = Some(sys::dies_with_parent(&mut command).spawn().unwrap());
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        self.answers();
    }

    /// Waits until the started daemon answers.
    pub fn answers(&mut self) {
        wait::until_true(&format!("{} answers", self.name), || {
            if let Some(status) = self.daemon.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            self.thimble(&["status"]).code == 0
        });
    }

    /// Whether the daemon was started and has not been stopped.
    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Waits until the daemon ends; returns its exit code and its log.
    pub fn ended(&mut self) -> (Option<i32>, String) {
        let mut child = self.daemon.take().expect("the daemon runs");
        let status = wait::until(&format!("{} ends", self.name), || child.try_wait().unwrap());
        (status.code(), self.log())
    }

    /// Stops the daemon as an init system does; it must exit with 0.
    pub fn stop(&mut self) {
        sys::signal(self.pid(), libc::SIGTERM).unwrap();
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "{log}");
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for mut child in [self.daemon.take(), self.installer.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}
