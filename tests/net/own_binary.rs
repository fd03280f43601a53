//! A patch that replaces the running thimble of a host, under a supervisor that does what
//! the shipped unit says: `ExecStartPre`, `ExecStart`, and restart.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::cluster::{Cluster, Node, thimble};
use crate::filter::Verdict::{Lose, Pass};
use crate::filter::{Judge, pass_all};
use crate::node::Ended;
use crate::patch::Patch;
use crate::{sys, wait};

/// Runs a host's own thimble until dropped.
struct Supervisor {
    is_over: Arc<AtomicBool>,
    /// How often `ExecStart` was run, and the pid of the current process.
    starts: Arc<AtomicU32>,
    pid: Arc<AtomicU32>,
    guards: Arc<Mutex<String>>,
    notified: UnixDatagram,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    fn of(node: &Node) -> Self {
        let mut guard = node.namespace.command(node.root().join(".thimble/guard").to_str().unwrap());
        guard.arg("--config").arg(node.config_file()).arg("guard").stdin(Stdio::null());
        let mut run = node.daemon_command(&node.root().join("usr/bin/thimble"));
        let log = fs::File::options().create(true).append(true).open(node.dir.join("log")).unwrap();
        let notified = UnixDatagram::bind(node.dir.join("notify")).unwrap();
        notified.set_nonblocking(true).unwrap();
        // A daemon that is not root sends there too.
        fs::set_permissions(node.dir.join("notify"), fs::Permissions::from_mode(0o777)).unwrap();
        run.env("NOTIFY_SOCKET", node.dir.join("notify"));
        run.stdout(log.try_clone().unwrap()).stderr(log);
        let [starts, pid] = [(); 2].map(|()| Arc::new(AtomicU32::new(0)));
        let (is_over, guards) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(String::new())));
        let (over, started, now, said) = (is_over.clone(), starts.clone(), pid.clone(), guards.clone());
        let thread = thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                // As with `-` in the unit: the guard may not exist.
                if let Ok(guarded) = sys::dies_with_parent(&mut guard).output() {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&guarded.stdout));
                }
                let mut child = sys::dies_with_parent(&mut run).spawn().unwrap();
                started.fetch_add(1, Ordering::SeqCst);
                now.store(child.id(), Ordering::SeqCst);
                child.wait().unwrap();
            }
        });
        Self { is_over, starts, pid, guards, notified, thread: Some(thread) }
    }

    fn starts(&self) -> u32 {
        self.starts.load(Ordering::SeqCst)
    }

    fn pid(&self) -> u32 {
        self.pid.load(Ordering::SeqCst)
    }

    fn guards(&self) -> String {
        self.guards.lock().unwrap().clone()
    }

    /// The number of READY notifications since the last call.
    fn ready(&self) -> usize {
        let mut message = [0; 1024];
        let told =
            std::iter::from_fn(|| self.notified.recv(&mut message).ok().map(|len| message[..len].to_vec()));
        told.filter(|message| message.starts_with(b"READY=1")).count()
    }

    /// How many descriptors the running daemon has.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The contents of a file in the running daemon's /proc directory.
    fn proc_file(&self, file: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{file}", self.pid())).unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // To pid 0, the signal would go to the whole process group.
        if self.pid() > 0 {
            let _ = sys::signal(self.pid(), libc::SIGTERM);
        }
        let _ = self.thread.take().unwrap().join();
    }
}

/// A health script that notes which program asks.
const ASKED_BY: &str = "readlink /proc/$PPID/exe > \"$THIMBLE_ROOT/asked-by\"";

/// A controller, and a host that runs the thimble in its own root.
struct Host {
    supervisor: Supervisor,
    cluster: Cluster,
    /// The contents of that thimble.
    old: Vec<u8>,
}

impl Host {
    fn new(name: &str) -> Self {
        Self::on(Cluster::new(name, 1))
    }

    fn on(mut cluster: Cluster) -> Self {
        let agent = &mut cluster.nodes[1];
        agent.write_config();
        let own = agent.root().join("usr/bin/thimble");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        // Stripped, it is a tenth of the size.
        let status = Command::new("strip").arg("-o").arg(&own).arg(thimble()).status().unwrap();
        assert!(status.success());
        if agent.is_split {
            agent.give_to_user();
            agent.start_installer(&own);
        }
        let supervisor = Supervisor::of(agent);
        cluster.nodes[0].start();
        wait::until_true("the controller hears the host", || cluster.host(1)["state"] == "idle");
        cluster.agree("the controller takes changes");
        Self { supervisor, old: fs::read(own).unwrap(), cluster }
    }

    fn agent(&self) -> &Node {
        &self.cluster.nodes[1]
    }

    fn own(&self) -> PathBuf {
        self.agent().root().join("usr/bin/thimble")
    }

    /// A patch that puts another thimble in place, and another file with it.
    fn replacing(&self, content: &[u8]) -> Patch {
        let patch = Patch::new(&self.cluster, "SELF-2").file("etc/beside", b"new");
        patch.program("usr/bin/thimble", content)
    }

    /// The new thimble serves the supervisor in the old one's place, with this environment, and
    /// has run the health script [`ASKED_BY`].
    fn has_taken_over(&self, environment: &[u8]) {
        wait::until_true("the new one notifies the supervisor that it is ready", || {
            self.supervisor.ready() == 1
        });
        assert_eq!(self.supervisor.proc_file("environ"), environment);
        let asked_by = fs::read_to_string(self.agent().root().join("asked-by")).unwrap();
        assert_eq!(Path::new(asked_by.trim()), self.own(), "the new one runs the health script");
        assert!(!self.agent().root().join(".thimble/guard").exists());
    }

    /// Waits until the host reports the failure; the old thimble runs, and nothing of the
    /// patch is left.
    fn is_back(&self) {
        wait::until_true("the host reports the failure", || self.cluster.host(1)["current"] == "failed");
        assert_eq!(fs::read(self.own()).unwrap(), self.old);
        assert!(self.supervisor.proc_file("exe") == self.old, "the old one runs");
        assert!(!self.agent().root().join("etc/beside").exists());
        assert!(!self.agent().root().join(".thimble/guard").exists());
        assert!(!self.agent().root().join(".thimble/journal").exists());
    }
}

#[test]
fn a_running_thimble_is_replaced_within_its_process() {
    need_root!();
    let host = Host::new("own-good");
    let (pid, arguments, environment) =
        (host.supervisor.pid(), host.supervisor.proc_file("cmdline"), host.supervisor.proc_file("environ"));
    assert_eq!(host.supervisor.ready(), 1);
    let descriptors = host.supervisor.descriptors();
    let new = [&host.old[..], b"and something new"].concat();
    let _patch = host.replacing(&new).script("health", ASKED_BY).applied(&host.cluster);
    let shown = host.cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("1 of 1 installed"), "{shown}");
    assert_eq!(host.cluster.host(1)["current"], "yes");
    assert_eq!((host.supervisor.pid(), host.supervisor.starts()), (pid, 1));
    assert!(host.supervisor.proc_file("exe") == new, "the new one runs");
    assert_eq!(host.supervisor.proc_file("cmdline"), arguments);
    host.has_taken_over(&environment);

    host.cluster.thimble(&["remove", "SELF-2"]).ok();
    host.cluster.thimble(&["host-install", "agent-1"]).ok();
    assert_eq!((host.supervisor.pid(), host.supervisor.starts()), (pid, 1));
    assert!(host.supervisor.proc_file("exe") == host.old, "and back");
    wait::until_true("no descriptor is leaked", || host.supervisor.descriptors() == descriptors);
}

#[test]
fn a_thimble_and_its_installer_are_replaced_together() {
    need_root!();
    let mut cluster = Cluster::new("own-split", 1);
    cluster.nodes[1].is_split = true;
    let host = Host::on(cluster);
    let pids = (host.supervisor.pid(), host.agent().installer_pid());
    let environment = host.supervisor.proc_file("environ");
    assert_eq!(host.supervisor.ready(), 1);
    let of_installer = || fs::read(format!("/proc/{}/exe", pids.1)).unwrap();
    let new = [&host.old[..], b"and something new"].concat();
    let _patch = host.replacing(&new).script("health", ASKED_BY).applied(&host.cluster);
    host.cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(host.supervisor.proc_file("exe") == new && of_installer() == new, "the new ones run");
    host.has_taken_over(&environment);

    host.cluster.thimble(&["remove", "SELF-2"]).ok();
    host.cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(host.supervisor.proc_file("exe") == host.old && of_installer() == host.old, "and back");
    assert_eq!((host.supervisor.pid(), host.agent().installer_pid()), pids);
    assert_eq!(host.supervisor.starts(), 1);
}

#[test]
fn a_thimble_and_its_installer_that_die_are_rolled_back_by_the_guard() {
    need_root!();
    let mut cluster = Cluster::new("own-split-dies", 1);
    cluster.nodes[1].is_split = true;
    let host = Host::on(cluster);
    let dies = "#!/bin/sh\n[ \"$1\" = --version ] && echo thimble 2.0 && exit\nexit 9\n";
    host.replacing(dies.as_bytes()).applied(&host.cluster);
    let said = host.cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("started twice and heard no controller"), "{said}");
    host.is_back();
    host.cluster.thimble(&["remove", "SELF-2"]).ok();
    let shown = host.cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(shown.contains("1 of 1 installed"), "its installer serves the old one: {shown}");
}

#[test]
fn a_thimble_that_fails_its_trial_run_is_never_started() {
    need_root!();
    let host = Host::new("own-trial");
    let pid = host.supervisor.pid();
    host.replacing(b"#!/bin/sh\necho not for this processor; exit 1\n").applied(&host.cluster);
    let said = host.cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("--version") && said.contains("not for this processor"), "{said}");
    host.is_back();
    assert_eq!((host.supervisor.pid(), host.supervisor.starts()), (pid, 1));
}

#[test]
fn a_thimble_that_dies_twice_is_rolled_back_by_the_guard() {
    need_root!();
    let host = Host::new("own-dies");
    let dies = "#!/bin/sh\n[ \"$1\" = --version ] && echo thimble 2.0 && exit\nexit 9\n";
    host.replacing(dies.as_bytes()).applied(&host.cluster);
    let said = host.cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("started twice and heard no controller"), "{said}");
    host.is_back();
    // The old one, which executes the new one; the new one again; the old one.
    assert_eq!(host.supervisor.starts(), 3);
    let guards = host.supervisor.guards();
    assert!(guards.contains("started once more") && guards.contains("files of set"), "{guards}");
}

#[test]
fn a_thimble_that_fails_a_health_script_is_rolled_back_in_the_same_process() {
    need_root!();
    let host = Host::new("own-sick");
    let pid = host.supervisor.pid();
    let new = [&host.old[..], b"and something new"].concat();
    host.replacing(&new).script("health", "echo no pulse; exit 3").applied(&host.cluster);
    let said = host.cluster.thimble(&["host-install", "agent-1"]).failed(1);
    assert!(said.contains("no pulse"), "{said}");
    host.is_back();
    assert_eq!((host.supervisor.pid(), host.supervisor.starts()), (pid, 1));
}

/// A host whose agent receives no datagram while the flag is true, and the contents of
/// its new thimble.
fn host_that_can_go_deaf(name: &str, host_lost_ms: u64) -> (Host, Arc<AtomicBool>, Vec<u8>) {
    let is_deaf = Arc::new(AtomicBool::new(false));
    let deaf = is_deaf.clone();
    let to_agent: Judge = Box::new(move |_, _| if deaf.load(Ordering::SeqCst) { Lose } else { Pass });
    let mut cluster = Cluster::filtered(name, 1, pass_all(), to_agent);
    cluster.nodes[1].timers.insert("host_lost_ms", host_lost_ms);
    // Over TIPC, a host that is withdrawn is given up after five of these.
    cluster.nodes[0].timers.insert("install_retry_ms", 2_000);
    cluster.nodes[0].timers.insert("install_give_up_ms", 60_000);
    let host = Host::on(cluster);
    let new = [&host.old[..], b"and something new"].concat();
    // The script waits, so that the test can set the flag during the install.
    let waits = "touch \"$THIMBLE_ROOT/waits\"; while test -e \"$THIMBLE_ROOT/waits\"; do sleep 0.02; done";
    host.replacing(&new).script("post-install", waits).applied(&host.cluster);
    (host, is_deaf, new)
}

/// Installs; sets the flag while the script waits, releases the script, and runs `then`.
fn install_deaf(host: &Host, is_deaf: &AtomicBool, then: impl FnOnce()) -> Ended {
    thread::scope(|scope| {
        let asked = scope.spawn(|| host.cluster.thimble(&["host-install", "agent-1"]));
        let waiting = host.agent().root().join("waits");
        wait::until_true("the install waits in its script", || waiting.exists());
        is_deaf.store(true, Ordering::SeqCst);
        fs::remove_file(&waiting).unwrap();
        then();
        asked.join().unwrap()
    })
}

#[test]
fn a_thimble_that_hears_no_controller_is_rolled_back() {
    need_root!();
    need_udp!("a TIPC link that loses every copy of a datagram fails as a whole");
    let (host, is_deaf, _) = host_that_can_go_deaf("own-deaf", 1_500);
    let said = install_deaf(&host, &is_deaf, || {
        let beside = host.agent().root().join("etc/beside");
        wait::until_true("the install is undone", || !beside.exists());
        is_deaf.store(false, Ordering::SeqCst);
    });
    let said = said.failed(1);
    assert!(said.contains("heard no controller"), "{said}");
    host.is_back();
    assert_eq!(host.supervisor.starts(), 1);
}

#[test]
fn a_thimble_killed_before_it_is_confirmed_is_started_again() {
    need_root!();
    let (host, is_deaf, new) = host_that_can_go_deaf("own-killed", 60_000);
    let shown = install_deaf(&host, &is_deaf, || {
        wait::until_true("the new one waits", || host.cluster.host(1)["step"] == "health");
        assert!(host.supervisor.proc_file("exe") == new);
        assert_ne!(host.cluster.host(1)["current"], "yes", "success is not reported before it is confirmed");
        sys::signal(host.supervisor.pid(), libc::SIGKILL).unwrap();
        wait::until_true("it is started once more", || host.supervisor.guards().contains("once more"));
        is_deaf.store(false, Ordering::SeqCst);
    });
    assert!(shown.ok().contains("1 of 1 installed"));
    assert!(host.supervisor.proc_file("exe") == new);
    assert_eq!((host.supervisor.starts(), &host.cluster.host(1)["current"]), (2, &"yes".into()));
}
