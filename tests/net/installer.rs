//! A host whose daemon is not root: an installer, which is, starts the workers that install.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};

use thimble::job::{Job, PatchIds, Report};
use thimble::types::NodeId;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::{sys, wait};

/// A controller, and a host whose daemon is not root.
fn split(name: &str) -> Cluster {
    let mut cluster = Cluster::new(name, 1);
    cluster.nodes[1].is_split = true;
    cluster.start()
}

fn proc_file(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn troubles(node: &Node) -> String {
    node.json(&["status"])["troubles"].to_string()
}

/// A script that notes a process of its own, and waits for ever.
const WAITS: &str = "setsid sleep 1000 & echo $! > \"$THIMBLE_ROOT/child\"; while :; do sleep 1; done";

/// Asks for an install of a patch with the script [`WAITS`], and waits until it runs. Returns
/// the process that the script has started.
fn in_the_middle_of_a_script(cluster: &Cluster) -> u32 {
    let _patch =
        Patch::new(cluster, "WAITS-1").file("etc/new", b"new").script("post-install", WAITS).applied(cluster);
    cluster.thimble(&["host-install-async", "agent-1"]).ok();
    let child = cluster.nodes[1].root().join("child");
    let pid = wait::until("the script runs", || fs::read_to_string(&child).ok()?.trim().parse().ok());
    wait::until_true("and its child", || proc_file(pid, "cmdline").starts_with("sleep"));
    pid
}

/// Waits until a process that was in the middle of an install is gone, and the host on the set
/// that it had before.
fn is_undone(cluster: &Cluster, child: u32) {
    wait::until_true("what the script started is ended", || proc_file(child, "cmdline").is_empty());
    let agent = &cluster.nodes[1];
    wait::until_true("the install is undone", || {
        !agent.root().join(".thimble/journal").exists() && !agent.root().join("etc/new").exists()
    });
    wait::until_true("the host says so", || agent.json(&["status"])["agent"]["state"] == "install-failed");
    assert!(!troubles(agent).contains("could not be recovered"));
}

#[test]
fn a_daemon_that_is_not_root_installs_and_removes() {
    need_root!();
    let cluster = split("split");
    let agent = &cluster.nodes[1];
    let health = "id -u > \"$THIMBLE_ROOT/ran-as\"";
    let _patch =
        Patch::new(&cluster, "SPLIT-1").file("etc/new", b"new").script("health", health).applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    let root = agent.root();
    assert_eq!(fs::read(root.join("etc/new")).unwrap(), b"new");
    assert_eq!(fs::metadata(root.join("etc/new")).unwrap().uid(), 0);
    assert_eq!(fs::read_to_string(root.join("ran-as")).unwrap(), "0\n");
    assert!(agent.json(&["status"])["worker_peak_bytes"].as_u64() > Some(0));

    let status = proc_file(agent.pid(), "status");
    for line in
        [&format!("Uid:\t{0}\t{0}\t{0}\t{0}", sys::NOBODY), "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(proc_file(agent.installer_pid(), "status").contains("Uid:\t0\t0\t0\t0"));

    cluster.thimble(&["remove", "SPLIT-1"]).ok();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(!root.join("etc/new").exists());
}

#[test]
fn without_an_installer_a_host_says_what_to_start_and_recovers_when_it_is_there() {
    need_root!();
    let mut cluster = split("split-none");
    let agent = &mut cluster.nodes[1];
    agent.stop();
    agent.kill_installer();
    agent.start_without_installer();
    wait::until_true("it says what to start", || troubles(agent).contains("start it, as root"));
    let program = agent.binary.clone();
    agent.start_installer(program.as_ref());
    wait::until_true("it recovers by itself", || agent.json(&["status"])["agent"]["state"] == "idle");
    assert!(!troubles(agent).contains("as root"));
}

#[test]
fn an_installer_that_stands_still_is_told() {
    need_root!();
    let mut cluster = split("split-stopped");
    let installer = cluster.nodes[1].installer_pid();
    let agent = &mut cluster.nodes[1];
    agent.stop();
    sys::signal(installer, libc::SIGSTOP).unwrap();
    agent.start_without_installer();
    wait::until_true("it is told", || troubles(agent).contains("installer has not answered"));
    sys::signal(installer, libc::SIGCONT).unwrap();
    wait::until_true("and over", || {
        agent.json(&["status"])["agent"]["state"] == "idle" && !troubles(agent).contains("not answered")
    });
}

#[test]
fn an_install_ends_with_the_daemon_that_asked_for_it() {
    need_root!();
    let mut cluster = split("split-killed");
    let child = in_the_middle_of_a_script(&cluster);
    cluster.nodes[1].kill();
    wait::until_true("what the script started is ended", || proc_file(child, "cmdline").is_empty());
    cluster.nodes[1].start();
    is_undone(&cluster, child);
}

#[test]
fn an_install_ends_with_its_installer() {
    need_root!();
    let mut cluster = split("split-installer");
    let child = in_the_middle_of_a_script(&cluster);
    let agent = &mut cluster.nodes[1];
    agent.kill_installer();
    wait::until_true("the host says so", || troubles(agent).contains("installer"));
    // Nobody is left to end it.
    let _ = sys::signal(child, libc::SIGKILL);
    let program = agent.binary.clone();
    agent.start_installer(program.as_ref());
    is_undone(&cluster, child);
}

#[test]
fn the_installer_serves_the_daemon_alone() {
    need_root!();
    let cluster = split("split-alone");
    let agent = &cluster.nodes[1];
    let socket = agent.dir.join("installer/socket");
    let found = fs::metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid()), (0o600, sys::NOBODY));
    // These tests are root, but another program.
    let mut stream = UnixStream::connect(&socket).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    assert_eq!(answer, postcard::to_slice(&thimble::job::InstallerReply::OtherProgram, &mut [0; 8]).unwrap());
    wait::until_true("the host is as before", || agent.json(&["status"])["agent"]["state"] == "idle");
}

#[test]
fn a_worker_of_the_installers_accepts_an_agents_jobs_alone() {
    need_root!();
    let cluster = split("split-jobs");
    let config = fs::File::open(cluster.nodes[1].config_file()).unwrap();
    let said = |job: &Job| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.send(postcard::to_slice(job, &mut [0; 512]).unwrap()).unwrap();
        let mut command = Command::new(&cluster.nodes[1].binary);
        command.args(["worker", "install"]).stdin(Stdio::null());
        sys::gets(&mut command, [theirs.as_raw_fd(), config.as_raw_fd()]);
        let ended = command.output().unwrap();
        (ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    assert!(said(&Job::Recover { stopped: None }).0);
    let others = [
        Job::Load { is_start: false },
        Job::Show { ids: PatchIds::new(), json: false },
        Job::DropController(NodeId(1)),
    ];
    for job in others {
        let (is_done, stderr) = said(&job);
        assert!(!is_done && stderr.contains("something else than an install"), "{job:?}: {stderr}");
    }
}

/// Runs a command of root's that must end soon. Returns its exit code and what it says.
fn root_runs(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.arg("60").arg(&node.binary).arg("--config").arg(node.config_file()).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn commands_of_root_follow_nothing_that_the_daemons_user_has_made() {
    need_root!();
    let mut cluster = Cluster::new("split-links", 0);
    cluster.nodes[0].has_both_roles = true;
    cluster.nodes[0].is_split = true;
    cluster.nodes[0].start();
    cluster.agree("the repository is read");
    let _patch = Patch::new(&cluster, "LOCAL-1").file("etc/local", b"x").applied(&cluster);
    cluster.nodes[0].stop();
    let node = &cluster.nodes[0];
    let (state, target) = (node.state_dir(), node.dir.join("installer/made"));
    let lock = state.join("daemon.lock");
    let makes: [&dyn Fn(); 3] = [
        &|| std::os::unix::fs::symlink(&target, &lock).unwrap(),
        &|| fs::create_dir(&lock).unwrap(),
        &|| assert!(Command::new("mkfifo").arg(&lock).status().unwrap().success()),
    ];
    for make in makes {
        let _ = fs::remove_file(&lock).or_else(|_| fs::remove_dir(&lock));
        make();
        let (code, said) = root_runs(node, &["guard"]);
        assert_eq!((code, said.as_str()), (Some(0), "no install was interrupted\n"));
    }
    fs::remove_file(&lock).unwrap();
    // As that user, root is not let into a directory of root's.
    let repository_lock = state.join("repo/lock");
    fs::remove_file(&repository_lock).unwrap();
    std::os::unix::fs::symlink(&target, &repository_lock).unwrap();
    let (code, said) = root_runs(node, &["install-local"]);
    assert!(code == Some(1) && said.contains("may not be read or written"), "{said}");
    assert!(!target.exists());
    fs::remove_file(&repository_lock).unwrap();
    let (code, said) = root_runs(node, &["install-local"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read(node.root().join("etc/local")).unwrap(), b"x");
    for left in [lock, repository_lock] {
        assert_eq!(fs::metadata(left).unwrap().uid(), sys::NOBODY, "the daemon can use it");
    }
    cluster.nodes[0].start();
}

#[test]
fn an_installer_holds_what_waits_for_a_restart_and_takes_no_file_with_an_error() {
    need_root!();
    let cluster = split("split-held");
    let agent = &cluster.nodes[1];
    let text = fs::read_to_string(agent.config_file()).unwrap();
    let elsewhere = agent.dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let root = |path: &std::path::Path| format!("root = \"{}\"", path.display());
    let with = |from: &str, to: &str| {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        fs::write(agent.config_file(), changed).unwrap();
    };
    with(&root(&agent.root()), &root(&elsewhere));
    let _patch = Patch::new(&cluster, "HELD-1").file("etc/held", b"x").applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(agent.root().join("etc/held").exists() && fs::read_dir(&elsewhere).unwrap().next().is_none());
    with("[agent]", "[agnt]");
    cluster.thimble(&["remove", "HELD-1"]).ok();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(!agent.root().join("etc/held").exists());
    assert!(agent.log().contains("the former configuration holds"), "{}", agent.log());
}

#[test]
fn an_installers_socket_is_below_directories_of_roots_alone() {
    need_root!();
    let mut cluster = Cluster::new("split-below", 1);
    cluster.nodes[1].is_split = true;
    let cluster = cluster.start();
    let agent = &cluster.nodes[1];
    let inner = agent.dir.join("state/inner");
    fs::create_dir(&inner).unwrap();
    let text = fs::read_to_string(agent.config_file()).unwrap();
    let text = text.replace("installer/socket", "state/inner/socket");
    let file = agent.dir.join("below.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("timeout");
    command.arg("60").arg(&agent.binary).arg("--config").arg(&file).args(["installer", "--user", "nobody"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("others than root may write to"), "{said}");
    assert!(!inner.join("socket").exists());
}

/// A worker of the installer's whose reports have no room, and the other end of its channel.
fn without_room(cluster: &Cluster) -> (Child, UnixDatagram) {
    let config = fs::File::open(cluster.nodes[1].config_file()).unwrap();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.send(postcard::to_slice(&Job::Recover { stopped: None }, &mut [0; 512]).unwrap()).unwrap();
    theirs.set_nonblocking(true).unwrap();
    while theirs.send(b"full").is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    let mut command = Command::new(&cluster.nodes[1].binary);
    command.args(["worker", "install"]).stdin(Stdio::null()).stderr(Stdio::piped());
    sys::gets(&mut command, [theirs.as_raw_fd(), config.as_raw_fd()]);
    (sys::dies_with_parent(&mut command).spawn().unwrap(), ours)
}

#[test]
fn a_worker_whose_reports_nobody_reads_ends() {
    need_root!();
    let cluster = split("split-unread");
    let (worker, _ours) = without_room(&cluster);
    let ended = worker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("takes no reports"), "{said}");
}

#[test]
fn a_worker_that_was_stopped_while_it_reports_goes_on() {
    need_root!();
    let cluster = split("split-stopped");
    let (worker, ours) = without_room(&cluster);
    ours.set_read_timeout(Some(wait::LONG)).unwrap();
    let of_proc = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", worker.id())).unwrap();
    let sends = format!("{} ", libc::SYS_sendto);
    wait::until_true("it waits for room", || of_proc("syscall").starts_with(&sends));
    sys::signal(worker.id(), libc::SIGSTOP).unwrap();
    wait::until_true("it is stopped", || of_proc("status").contains("(stopped)"));
    sys::signal(worker.id(), libc::SIGCONT).unwrap();
    let mut bytes = [0; 512];
    let mut reports = Vec::new();
    while !matches!(reports.last(), Some(Report::Done)) {
        let len = wait::uninterrupted(|| ours.recv(&mut bytes)).unwrap();
        reports.extend(postcard::from_bytes::<Report>(&bytes[..len]));
    }
    assert!(matches!(reports[..], [Report::InstalledEnd { .. }, Report::Done]), "{reports:?}");
    let ended = worker.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
