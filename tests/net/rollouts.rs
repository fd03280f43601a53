//! Rollouts: parallelism, halting and stopping, and takeover when a terminal or a
//! controller is gone.

use std::fs;
use std::process::{Child, Command, Stdio};

use thimble::cli::client::Client;
use thimble::control::RolloutRow;
use thimble::repo::rollout::RolloutState;

use crate::cluster::{Cluster, Node, thimble};
use crate::patch::Patch;
use crate::wait;

/// A started cluster with short hello intervals.
fn cluster(name: &str, controllers: usize, agents: usize) -> Cluster {
    laid_out(name, controllers, agents).start()
}

/// As [`cluster`], with early detection of lost controllers. Only for tests that need it:
/// on a busy machine it may detect a loss that is none.
fn watchful(name: &str, controllers: usize, agents: usize) -> Cluster {
    laid_out(name, controllers, agents).timer("controller_lost_ms", 1_000).start()
}

fn laid_out(name: &str, controllers: usize, agents: usize) -> Cluster {
    let cluster = Cluster::of(name, controllers, agents).timer("hello_interval_ms", 200);
    cluster.timer("install_give_up_ms", 3_000)
}

/// A directory that the scripts of all hosts share.
fn meeting(cluster: &Cluster) -> String {
    let dir = cluster.dir.join("meeting");
    let _ = fs::create_dir_all(&dir);
    dir.to_str().unwrap().to_owned()
}

/// A patch whose script marks its begin and end in the shared directory, and waits in
/// between until it is released.
fn gated(cluster: &Cluster, id: &str) -> Patch {
    let dir = meeting(cluster);
    let script = format!(
        "host=$(basename $(dirname $THIMBLE_ROOT))\necho x >> {dir}/began-$host\n\
         while ! [ -e {dir}/go ] && ! [ -e {dir}/go-$host ]; do sleep 0.02; done\necho x >> {dir}/ended-$host"
    );
    Patch::new(cluster, id).file("etc/patched", id.as_bytes()).script("post-install", &script)
}

/// Hosts that have begun, or ended.
fn hosts_that_have(cluster: &Cluster, have: &str) -> Vec<String> {
    let prefix = format!("{have}-");
    let names = fs::read_dir(meeting(cluster)).unwrap().map(|file| file.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned())).collect()
}

fn release(cluster: &Cluster, who: &str) {
    fs::write(format!("{}/go{who}", meeting(cluster)), "").unwrap();
}

/// No host has begun twice.
fn each_began_once(cluster: &Cluster, hosts: usize) {
    let began = hosts_that_have(cluster, "began");
    assert_eq!(began.len(), hosts, "{began:?}");
    for host in began {
        let lines = fs::read_to_string(format!("{}/began-{host}", meeting(cluster))).unwrap();
        assert_eq!(lines.lines().count(), 1, "{host}");
    }
}

/// Runs a command that stays in the foreground, as on a terminal.
fn on_terminal(node: &Node, arguments: &[&str]) -> Child {
    let mut command: Command = node.namespace.command(&thimble());
    command.args(["--config", node.config_file().to_str().unwrap()]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn state(node: &Node) -> RolloutState {
    rollout(node).state
}

fn rollout(node: &Node) -> RolloutRow {
    node.rollout().expect("there is one")
}

fn ends(node: &Node) {
    wait::until_true("the rollout is over", || state(node) == RolloutState::Ended);
}

#[test]
fn a_rollout_installs_on_all_hosts_with_no_more_than_parallel_at_once() {
    need_root!();
    let cluster = cluster("rolled", 1, 5);
    gated(&cluster, "GATED-1").applied(&cluster);
    let terminal = on_terminal(&cluster, &["host-install", "--all", "--parallel", "2"]);
    for asked in [2, 4] {
        wait::until_true("as many as may be are at work", || {
            hosts_that_have(&cluster, "began").len() == asked
        });
        let (began, ended) = (hosts_that_have(&cluster, "began"), hosts_that_have(&cluster, "ended"));
        assert_eq!(began.len() - ended.len(), 2, "{began:?} {ended:?}");
        for host in began.iter().filter(|host| !ended.contains(host)) {
            release(&cluster, &format!("-{host}"));
        }
    }
    release(&cluster, "");
    let output = terminal.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("rollout ended: 5 of 5 hosts, 5 installed\n"), "{text}");
    each_began_once(&cluster, 5);
    for number in 1..=5 {
        assert_eq!(cluster.host(number)["current"], "yes");
    }
    // Once more: there is nothing to do, and no script runs.
    let again = cluster.thimble(&["host-install", "--all"]).ok();
    assert!(again.ends_with("rollout ended: 5 of 5 hosts, 5 had nothing to do\n"), "{again}");
    each_began_once(&cluster, 5);
}

#[test]
fn failures_halt_a_rollout_and_resuming_asks_the_failed_hosts_again() {
    need_root!();
    let cluster = cluster("halted", 2, 4);
    let broken = cluster.dir.join("broken");
    fs::write(&broken, "").unwrap();
    let health = format!("if [ -e {} ]; then echo the disk is odd; exit 1; fi", broken.display());
    Patch::new(&cluster, "FRAIL-1").file("etc/patched", b"x").script("health", &health).applied(&cluster);
    let stop_at_two = ["host-install", "--all", "--parallel", "1", "--stop-after-failures", "2"];
    let said = cluster.thimble(&stop_at_two).failed(1);
    assert!(said.contains("rollout stopped after failures: 2 of 4 hosts, 2 failed"), "{said}");
    assert_eq!(said.matches("the disk is odd").count(), 2, "{said}");
    assert!(said.contains("thimble host-install --resume"), "{said}");
    wait::until_true("the other knows", || state(&cluster.nodes[1]) == RolloutState::Halted);

    fs::remove_file(&broken).unwrap();
    let said = cluster.nodes[1].thimble(&["host-install", "--resume"]).ok();
    assert!(said.ends_with("rollout ended: 4 of 4 hosts, 4 installed\n"), "{said}");
    wait::until_true("the first knows", || state(&cluster.nodes[0]) == RolloutState::Ended);
    let said = cluster.thimble(&["host-install", "--resume"]).failed(1);
    assert!(said.contains("has ended: begin another"), "{said}");
}

#[test]
fn a_rollout_that_cannot_be_written_to_disk_stalls_and_is_logged_once() {
    need_root!();
    let cluster = cluster("unwritten", 1, 1);
    gated(&cluster, "GATED-1").applied(&cluster);
    let terminal = on_terminal(&cluster, &["host-install", "--all"]);
    wait::until_true("the host is at work", || hosts_that_have(&cluster, "began").len() == 1);
    let in_the_way = cluster.state_dir().join("repo/map.unfinished");
    fs::create_dir(&in_the_way).unwrap();
    release(&cluster, "");
    let stalled = "the rollout is stalled";
    wait::until_true("it says so", || cluster.log().contains(stalled));
    assert!(!cluster.log().contains("the rollout has ended"), "{}", cluster.log());
    fs::remove_dir(&in_the_way).unwrap();
    ends(&cluster);
    assert_eq!(terminal.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(cluster.log().matches(stalled).count(), 1);
    assert_eq!(cluster.log().matches("the rollout has ended").count(), 1);
}

#[test]
fn a_rollout_outlives_its_terminal_and_can_be_stopped_from_any_controller() {
    need_root!();
    let cluster = cluster("left", 2, 4);
    gated(&cluster, "GATED-1").applied(&cluster);
    let mut terminal = on_terminal(&cluster, &["host-install", "--all", "--parallel", "1"]);
    wait::until_true("the first is at work", || hosts_that_have(&cluster, "began").len() == 1);
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let said = cluster.nodes[1].thimble(&["host-install", "--all"]).failed(1);
    assert!(said.contains("A rollout is under way, carried by controller-0"), "{said}");
    let first = hosts_that_have(&cluster, "began").remove(0);
    release(&cluster, &format!("-{first}"));
    wait::until_true("it went on", || hosts_that_have(&cluster, "began").len() == 2);

    let stopper = on_terminal(&cluster.nodes[1], &["host-install", "--stop"]);
    wait::until_true("no further one is asked", || state(&cluster) == RolloutState::Stopped);
    release(&cluster, "");
    let output = stopper.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("rollout stopped: 2 of 4 hosts, 2 installed\n"), "{said}");
    assert_eq!(hosts_that_have(&cluster, "began").len(), 2);
    cluster.nodes[1].thimble(&["host-install", "--resume"]).ok();
    each_began_once(&cluster, 4);
}

#[test]
fn another_controller_takes_over_a_rollout_and_no_host_installs_twice() {
    need_root!();
    let mut cluster = watchful("orphaned", 2, 4);
    gated(&cluster, "GATED-1").applied(&cluster);
    wait::until_true("the other holds the file", || cluster.nodes[1].holds_all_files());
    let terminal = on_terminal(&cluster, &["host-install", "--all", "--parallel", "1"]);
    wait::until_true("the first is at work", || hosts_that_have(&cluster, "began").len() == 1);
    cluster.nodes[0].kill();
    let output = terminal.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("another controller continues the rollout"), "{said}");
    release(&cluster, "");
    ends(&cluster.nodes[1]);
    assert_eq!(rollout(&cluster.nodes[1]).hosts.done, 4);
    each_began_once(&cluster, 4);

    cluster.nodes[0].start();
    // It knows of no rollout until its repository is read.
    cluster.agree("who comes back has what the other has");
    wait::until_true("and so learns of it", || state(&cluster) == RolloutState::Ended);
    each_began_once(&cluster, 4);
}

/// It does not answer, and is not lost yet. Over TIPC it is lost at once.
#[test]
#[cfg(not(feature = "tipc"))]
fn a_host_that_waits_for_a_silent_carrier_says_who_asks_it_next() {
    need_root!();
    let mut cluster = laid_out("silent-carrier", 2, 2).timer("probe_ms", 60_000).start();
    gated(&cluster, "GATED-1").applied(&cluster);
    wait::until_true("the other holds the file", || cluster.nodes[1].holds_all_files());
    let terminal = on_terminal(&cluster, &["host-install", "--all", "--parallel", "1"]);
    wait::until_true("the first is at work", || hosts_that_have(&cluster, "began").len() == 1);
    let waits = if hosts_that_have(&cluster, "began")[0] == "agent-1" { "agent-2" } else { "agent-1" };
    let says = |node: &Node, words: &[&str]| {
        wait::until_true(&format!("{} says {words:?}", node.name), || {
            let said = node.thimble(&["explain", waits]).ok();
            words.iter().all(|word| said.contains(word))
        });
    };
    let turn = "because its turn in the rollout has not come: 1 of 1 at work";
    says(&cluster.nodes[0], &[turn, "next: this controller asks it once a host has ended"]);
    says(&cluster.nodes[1], &[turn, "next: controller-0 (heard ", " ago) asks it once a host has ended"]);
    cluster.nodes[0].kill();
    says(
        &cluster.nodes[1],
        &[
            "because controller-0, which carries the rollout, does not answer: it was heard ",
            "next: this controller takes the rollout over in ",
        ],
    );
    release(&cluster, "");
    terminal.wait_with_output().unwrap();
}

#[test]
fn a_rollout_continues_after_a_power_cut_of_all_controllers() {
    need_root!();
    let mut cluster = cluster("dark", 2, 3);
    gated(&cluster, "GATED-1").applied(&cluster);
    let mut terminal = on_terminal(&cluster, &["host-install", "--all", "--parallel", "1"]);
    wait::until_true("the first is at work", || hosts_that_have(&cluster, "began").len() == 1);
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    terminal.wait().unwrap();
    release(&cluster, "");
    cluster.nodes[1].start();
    cluster.nodes[0].spawn();
    wait::until("it takes commands", || Client::connect(&cluster.nodes[0].control_socket()).ok());
    // The first answer waits for the repository.
    assert!(cluster.nodes[0].rollout().is_some());
    for controller in [0, 1] {
        ends(&cluster.nodes[controller]);
        assert_eq!(rollout(&cluster.nodes[controller]).hosts.done, 3);
    }
    each_began_once(&cluster, 3);
}

/// Two controllers that hear all hosts but not each other, and both carry one rollout,
/// whose first host is installing; and the command that started it.
fn carried_apart(name: &str) -> (Cluster, Child) {
    let cluster = watchful(name, 2, 4);
    gated(&cluster, "GATED-1").applied(&cluster);
    wait::until_true("the other holds the file", || cluster.nodes[1].holds_all_files());
    let terminal = on_terminal(&cluster, &["host-install", "--all", "--parallel", "1"]);
    wait::until_true("the first is at work", || hosts_that_have(&cluster, "began").len() == 1);
    cluster.cut(&[0], &[1]);
    wait::until_true("the other takes it over", || rollout(&cluster.nodes[1]).is_here);
    (cluster, terminal)
}

#[test]
fn two_partitioned_controllers_run_one_rollout_and_no_host_installs_twice() {
    need_root!();
    let (cluster, mut terminal) = carried_apart("split");
    release(&cluster, "");
    for controller in [0, 1] {
        ends(&cluster.nodes[controller]);
    }
    cluster.heal();
    cluster.agree("one digest again");
    terminal.wait().unwrap();
    each_began_once(&cluster, 4);
}

#[test]
fn a_stop_during_a_partition_holds_once_the_controllers_merge() {
    need_root!();
    let (cluster, mut terminal) = carried_apart("apart");
    let mut stopper = on_terminal(&cluster, &["host-install", "--stop"]);
    wait::until_true("it is stopped here", || state(&cluster) == RolloutState::Stopped);
    assert_eq!(state(&cluster.nodes[1]), RolloutState::Running);
    cluster.heal();
    cluster.agree("one digest again");
    for controller in [0, 1] {
        assert_eq!(state(&cluster.nodes[controller]), RolloutState::Stopped);
    }
    release(&cluster, "");
    assert_eq!(terminal.wait().unwrap().code(), Some(1));
    assert_eq!(stopper.wait().unwrap().code(), Some(0), "stopping was its purpose");
    assert_eq!(hosts_that_have(&cluster, "began").len(), 1, "no further host was asked");
}

#[test]
fn a_host_that_falls_silent_counts_as_failed_and_a_lost_host_is_not_asked() {
    need_root!();
    let cluster = Cluster::of("silent", 1, 3).timer("hello_interval_ms", 200).timer("host_lost_ms", 1_000);
    let mut cluster = cluster.timer("install_give_up_ms", 1_200).start();
    gated(&cluster, "GATED-1").applied(&cluster);
    cluster.nodes[3].kill();
    wait::until_true("it is lost", || cluster.host(3)["state"] == "lost");
    let terminal =
        on_terminal(&cluster, &["host-install", "--all", "--parallel", "2", "--stop-after-failures", "0"]);
    wait::until_true("two are at work", || hosts_that_have(&cluster, "began").len() == 2);
    cluster.nodes[1].kill();
    release(&cluster, "");
    let output = terminal.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(6), "{said}");
    let last = "rollout ended: 2 of 2 hosts, 1 installed, 1 without an answer, 1 lost and not asked\n";
    assert!(said.contains(last), "{said}");
}
