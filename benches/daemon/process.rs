//! What the kernel tells of a process: CPU, memory, how often it slept.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The CPU time of a process so far, exact to the nanosecond.
pub fn cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap())
}

/// Whether a process waits for something to do: it has worked off all that came.
pub fn sleeps(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().is_some_and(|behind_its_name| behind_its_name.starts_with('S'))
}

/// How often a process has waited so far, for whatever it was.
pub fn waits(pid: u32) -> u64 {
    number(&format!("/proc/{pid}/status"), "voluntary_ctxt_switches:").expect("the kernel tells")
}

/// Datagrams that the programs in a process's network namespace have received so far.
pub fn datagrams_taken(pid: u32) -> u64 {
    datagrams(pid, "InDatagrams")
}

/// Datagrams that these have sent so far.
pub fn datagrams_sent(pid: u32) -> u64 {
    datagrams(pid, "OutDatagrams")
}

fn datagrams(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|other| other == name).unwrap();
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).unwrap()
}

/// The memory of a process, or of several together, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// `RssAnon`: of its own, backed by no file.
    pub anon: u64,
    /// `Pss`: that, and its share of the files that it has mapped.
    pub pss: u64,
    /// `Rss`: all that is resident.
    pub rss: u64,
}

impl Memory {
    /// That of a process; none where it has ended.
    pub fn of(pid: u32) -> Self {
        let rollup = format!("/proc/{pid}/smaps_rollup");
        let kib = |path: &str, name| number(path, name).unwrap_or(0);
        Self {
            anon: kib(&format!("/proc/{pid}/status"), "RssAnon:"),
            pss: kib(&rollup, "Pss:"),
            rss: kib(&rollup, "Rss:"),
        }
    }

    /// That of several processes together.
    pub fn of_all(pids: &[u32]) -> Self {
        pids.iter().map(|pid| Self::of(*pid)).fold(Self::default(), |sum, one| Self {
            anon: sum.anon + one.anon,
            pss: sum.pss + one.pss,
            rss: sum.rss + one.rss,
        })
    }

    /// The greater of each.
    pub fn most(self, other: Self) -> Self {
        Self { anon: self.anon.max(other.anon), pss: self.pss.max(other.pss), rss: self.rss.max(other.rss) }
    }
}

/// A process and all that it has started, directly or not.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut at = 0;
    while let Some(pid) = pids.get(at) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        at += 1;
    }
    pids
}

/// The program that a process executes.
pub fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

fn number(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
