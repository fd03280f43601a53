use std::io::{ErrorKind as IoError, Read};
use std::os::unix::net::UnixStream as Command;
use std::path::PathBuf;

use mio::Poll;

use super::*;
use crate::limits::{CONTROL_CONNECTIONS, CONTROL_FRAME_BYTES};

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A control socket in a directory of its own.
struct Rig {
    control: ControlSocket,
    poll: Poll,
    path: PathBuf,
}

impl Rig {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("thimble-control-{}-{name}", std::process::id()));
        let access = Access { query_group: None, admin_group: None };
        let control = ControlSocket::open(&path, access, 0, &mut Pool::new()).unwrap();
        Self { control, poll: Poll::new().unwrap(), path }
    }

    /// A command that connects and is accepted, or turned away.
    fn connects(&mut self, now: u64) -> Command {
        let command = Command::connect(&self.path).unwrap();
        self.control.accept(at(now), self.poll.registry()).unwrap();
        command.set_nonblocking(true).unwrap();
        command
    }

    fn waits(&mut self, until: u64) {
        self.control.on_timeout(at(until), self.poll.registry());
    }

    fn connection(&mut self, place: usize) -> &mut Connection {
        self.control.get(place).expect("a connection")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_open(mut command: &Command) -> bool {
    command.read(&mut [0; 512]).is_err_and(|error| error.kind() == IoError::WouldBlock)
}

fn chunk() -> Reply {
    Reply::Output(heapless::Vec::from_slice(&[7; 2_000]).unwrap())
}

#[test]
fn who_says_nothing_loses_its_place_in_time() {
    let mut rig = Rig::new("silent");
    let silent: Vec<_> = (0..CONTROL_CONNECTIONS as u64).map(|now| rig.connects(now)).collect();
    let mut late = rig.connects(100);
    let mut refusal = [0; 512];
    assert!(late.read(&mut refusal).unwrap() > 0, "it is told that there is no place");
    assert_eq!(rig.control.poll_at(), Some(at(30_000)));
    rig.waits(29_999);
    assert!(silent.iter().all(is_open));
    rig.waits(30_000);
    assert_eq!(silent.iter().filter(|command| is_open(command)).count(), CONTROL_CONNECTIONS - 1);
    assert!(is_open(&rig.connects(30_001)), "there is a place again");
}

#[test]
fn who_waits_for_us_or_moves_keeps_its_place() {
    let mut rig = Rig::new("waiting");
    let waiting = rig.connects(0);
    rig.connection(0).pending = Pending::WaitingForWorker { and_then: None };
    let mut reading = rig.connects(0);
    rig.control.end(1);
    assert!(rig.control.flush(at(20_000), 1));
    rig.waits(49_999);
    assert!(is_open(&waiting), "an upload may take longer");
    assert!(reading.read(&mut [0; 64]).is_ok_and(|got| got > 0) && is_open(&reading));
    rig.waits(50_000);
    assert!(!is_open(&reading));
    rig.control.end(0);
    rig.control.resume(at(60_000), 0);
    assert_eq!(rig.control.poll_at(), Some(at(90_000)));
}

#[test]
fn a_newcomer_takes_the_place_of_who_may_do_less_and_of_nobody_else() {
    let mut rig = Rig::new("rank");
    let commands: Vec<_> = (0..CONTROL_CONNECTIONS as u64).map(|now| rig.connects(now)).collect();
    rig.connection(2).may_change = false;
    rig.connection(5).may_change = false;
    for (expected, now) in [(2, 100), (5, 101)] {
        assert!(is_open(&rig.connects(now)));
        assert!(!is_open(&commands[expected]), "the one with the least time left");
    }
    assert!(!is_open(&rig.connects(102)), "all may do as much");
    assert_eq!(commands.iter().filter(|command| is_open(command)).count(), CONTROL_CONNECTIONS - 2);
}

#[test]
fn other_groups_hold_for_who_is_connected_already() {
    let mut rig = Rig::new("groups");
    let _command = rig.connects(0);
    // As if our own user could be one that no group lets in.
    (rig.connection(0).may_query, rig.connection(0).may_change) = (false, false);
    rig.control.set_access(Access { query_group: Some(1), admin_group: None });
    assert!(rig.connection(0).may_query && rig.connection(0).may_change);
}

#[test]
fn of_those_that_wait_for_the_store_the_longest_waiting_is_next() {
    let mut rig = Rig::new("turns");
    let _commands: Vec<_> = (0..3).map(|now| rig.connects(now)).collect();
    for place in [2, 0, 1] {
        let number = rig.control.next_ticket();
        rig.connection(place).pending = Pending::WaitingForStore(number);
    }
    for place in [2, 0, 1] {
        assert_eq!(rig.control.waiting_for_store().map(|(_, next)| next), Some(place));
        rig.connection(place).pending = Pending::Nothing;
    }
    assert_eq!(rig.control.waiting_for_store(), None);
}

#[test]
fn replies_are_whole_or_the_connection_ends() {
    let mut rig = Rig::new("overflow");
    let mut command = rig.connects(0);
    // More than the buffer: what was written made room.
    for _ in 0..2 * CONTROL_FRAME_BYTES / 2_000 {
        rig.control.reply(0, &chunk());
    }
    assert!(rig.control.flush(at(1), 0));
    let mut received = vec![0; 40_000];
    let got = command.read(&mut received).unwrap();
    assert!(got > CONTROL_FRAME_BYTES && got.is_multiple_of(2_007), "{got}");
    // More than its socket takes as well: nothing more is said, not even the end.
    for _ in 0..1_000 {
        rig.control.reply(0, &chunk());
    }
    rig.control.end(0);
    assert!(!rig.control.flush(at(2), 0));
}

#[test]
fn descriptors_are_taken_from_those_who_may_change_alone() {
    for may_change in [true, false] {
        let mut rig = Rig::new("descriptors");
        let command = rig.connects(0);
        rig.connection(0).may_change = may_change;
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        crate::control::sys::send_with_descriptors(&command, b"any", &[fd]).unwrap();
        assert_eq!(rig.control.fill(0), Filled::All);
        assert_eq!(rig.connection(0).files.len(), usize::from(may_change));
    }
}

#[test]
fn a_full_buffer_may_have_more_behind_it() {
    let mut rig = Rig::new("full");
    let mut command = rig.connects(0);
    command.write_all(&[0; 5_000]).unwrap();
    assert_eq!(rig.control.fill(0), Filled::All);
    command.write_all(&vec![0; CONTROL_FRAME_BYTES]).unwrap();
    assert_eq!(rig.control.fill(0), Filled::Full);
    assert!(!rig.control.can_fill(0));
    // Requests of no bytes: each is one of four.
    rig.control.consume(at(1), 0);
    assert!(rig.control.can_fill(0));
    drop(command);
    assert_eq!(rig.control.fill(0), Filled::Full);
    while rig.control.fill(0) == Filled::Full {
        rig.control.consume(at(1), 0);
    }
    assert_eq!(rig.control.fill(0), Filled::Closed);
}
