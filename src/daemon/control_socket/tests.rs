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

    /// A command that connects and is accepted or rejected.
    fn connects(&mut self, now: u64) -> Command {
        let command = Command::connect(&self.path).unwrap();
        self.control.accept(at(now), self.poll.registry()).unwrap();
        command.set_nonblocking(true).unwrap();
        command
    }

    fn expire(&mut self, until: u64) {
        self.control.on_timeout(at(until), self.poll.registry());
    }

    fn connection(&mut self, slot: usize) -> &mut Connection {
        self.control.get(slot).expect("a connection")
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
fn an_idle_connection_is_closed_after_the_timeout() {
    let mut rig = Rig::new("silent");
    let silent: Vec<_> = (0..CONTROL_CONNECTIONS as u64).map(|now| rig.connects(now)).collect();
    let mut rejected = rig.connects(100);
    let mut refusal = [0; 512];
    assert!(rejected.read(&mut refusal).unwrap() > 0, "the command is told that no slot is free");
    assert_eq!(rig.control.poll_at(), Some(at(30_000)));
    rig.expire(29_999);
    assert!(silent.iter().all(is_open));
    rig.expire(30_000);
    assert_eq!(silent.iter().filter(|command| is_open(command)).count(), CONTROL_CONNECTIONS - 1);
    assert!(is_open(&rig.connects(30_001)), "a slot is free again");
}

#[test]
fn a_connection_that_waits_or_makes_progress_stays_open() {
    let mut rig = Rig::new("waiting");
    let waiting = rig.connects(0);
    rig.connection(0).pending = Pending::WaitingForWorker;
    let mut reading = rig.connects(0);
    rig.control.end(1);
    assert!(rig.control.flush(at(20_000), 1));
    rig.expire(49_999);
    assert!(is_open(&waiting), "an upload may take longer");
    assert!(reading.read(&mut [0; 64]).is_ok_and(|got| got > 0) && is_open(&reading));
    rig.expire(50_000);
    assert!(!is_open(&reading));
    rig.control.end(0);
    rig.control.resume(at(60_000), 0);
    assert_eq!(rig.control.poll_at(), Some(at(90_000)));
}

#[test]
fn a_new_connection_evicts_only_connections_with_fewer_rights() {
    let mut rig = Rig::new("rank");
    let commands: Vec<_> = (0..CONTROL_CONNECTIONS as u64).map(|now| rig.connects(now)).collect();
    for slot in [2, 5] {
        rig.connection(slot).rights.is_owner = false;
    }
    for (expected, now) in [(2, 100), (5, 101)] {
        assert!(is_open(&rig.connects(now)));
        assert!(!is_open(&commands[expected]), "the one with the earliest deadline");
    }
    assert!(!is_open(&rig.connects(102)), "all others have the same rights");
    assert_eq!(commands.iter().filter(|command| is_open(command)).count(), CONTROL_CONNECTIONS - 2);
}

#[test]
fn a_user_has_a_share_that_grows_with_the_rights() {
    let rights = |is_owner, may_change| Rights { uid: 7, is_owner, may_query: true, may_change };
    let (user, admin, root) = (rights(false, false), rights(false, true), rights(true, true));
    assert_eq!([user, admin, root].map(|one| one.share()), [3, 6, usize::MAX]);
    assert!(user.rank() < admin.rank() && admin.rank() < root.rank());
}

#[test]
fn changed_groups_apply_to_open_connections() {
    let mut rig = Rig::new("groups");
    let _command = rig.connects(0);
    // As if our own user had no rights.
    let rights = rig.connection(0).rights;
    rig.connection(0).rights = Rights { is_owner: false, may_query: false, may_change: false, ..rights };
    rig.control.set_access(Access { query_group: Some(1), admin_group: None });
    assert_eq!(rig.connection(0).rights, rights);
}

#[test]
fn connections_get_the_store_in_the_order_in_which_they_asked() {
    let mut rig = Rig::new("turns");
    let _commands: Vec<_> = (0..3).map(|now| rig.connects(now)).collect();
    for slot in [2, 0, 1] {
        let number = rig.control.next_ticket();
        rig.connection(slot).pending = Pending::WaitingForStore(number);
    }
    for slot in [2, 0, 1] {
        assert_eq!(rig.control.waiting_for_store().map(|(_, next)| next), Some(slot));
        rig.connection(slot).pending = Pending::Nothing;
    }
    assert_eq!(rig.control.waiting_for_store(), None);
}

#[test]
fn a_connection_whose_reply_does_not_fit_ends() {
    let mut rig = Rig::new("overflow");
    let mut command = rig.connects(0);
    // More than the buffer holds: writing to the socket makes room.
    for _ in 0..2 * CONTROL_FRAME_BYTES / 2_000 {
        rig.control.reply(0, &chunk());
    }
    assert!(rig.control.flush(at(1), 0));
    let mut received = vec![0; 40_000];
    let got = command.read(&mut received).unwrap();
    assert!(got > CONTROL_FRAME_BYTES && got.is_multiple_of(2_007), "{got}");
    // More than the socket's buffer holds as well: nothing more is sent, not even End.
    for _ in 0..1_000 {
        rig.control.reply(0, &chunk());
    }
    rig.control.end(0);
    assert!(!rig.control.flush(at(2), 0));
}

#[test]
fn only_connections_that_may_change_can_send_descriptors() {
    for may_change in [true, false] {
        let mut rig = Rig::new("descriptors");
        let command = rig.connects(0);
        rig.connection(0).rights.may_change = may_change;
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
    // Empty requests of four zero bytes each.
    rig.control.consume(at(1), 0);
    assert!(rig.control.can_fill(0));
    drop(command);
    assert_eq!(rig.control.fill(0), Filled::Full);
    while rig.control.fill(0) == Filled::Full {
        rig.control.consume(at(1), 0);
    }
    assert_eq!(rig.control.fill(0), Filled::Closed);
}
