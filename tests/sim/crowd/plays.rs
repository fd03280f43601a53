//! What a transmission must bear with 1,000 hosts: losses, and hosts and senders that come and go.

use super::host::SILENT;
use super::*;

pub const HOSTS: usize = 1_000;
pub const MIB: u64 = 1 << 20;
/// Bytes for a second.
pub const RATE: u64 = 5_000_000;
/// The transmission's number.
pub const ID: u64 = 500;

/// The first controller sends to 1,000 hosts.
pub fn crowd(size_bytes: u64, loss: u64) -> Crowd {
    let mut crowd = Crowd::new(size_bytes, HOSTS, loss);
    crowd.send(0, ID, RATE);
    crowd
}

impl Crowd {
    /// No host goes on receiving where nobody sends.
    pub fn check_over(&mut self) {
        self.play_for(SILENT.as_millis() + 2_000);
        assert_eq!(self.receiving(), 0, "hosts still receive");
        self.check_answers();
    }
}

#[test]
fn all_have_it_with_losses_and_their_answers_find_room() {
    for (size, loss, most, loop_ms) in [(2 * MIB, 10, 1.05, 1), (MIB, 50, 1.15, LOOP_MS)] {
        let mut crowd = crowd(size, loss);
        crowd.controllers[0].loop_ms = loop_ms;
        let ending = crowd.play_to_the_end(0);
        assert_eq!(crowd.complete(), HOSTS, "{ending:?}");
        // Some of the last answers may be lost.
        assert!(matches!(ending, Ending::All | Ending::Most), "{ending:?}");
        assert!(crowd.ratio() <= most, "{}", crowd.ratio());
        crowd.check_over();
    }
}

/// Hosts start while the file is sent. Those that hear enough of it have it; none holds up the others.
#[test]
fn those_that_come_late_are_served_or_left_to_sessions() {
    for late in [0..2, 0..HOSTS / 2] {
        let mut crowd = crowd(2 * MIB, 10);
        crowd.hosts[late.clone()].iter_mut().for_each(|host| host.is_up = false);
        crowd.play_until(|crowd| crowd.source(0) >= 500);
        crowd.hosts[late.clone()].iter_mut().for_each(|host| host.is_up = true);
        let ending = crowd.play_to_the_end(0);
        let complete = crowd.complete();
        assert!(complete >= HOSTS - late.len(), "{complete} for {late:?}, {ending:?}");
        assert!(complete == HOSTS || ending == Ending::Most, "{complete}, {ending:?}");
        // The block that all of them missed is sent once more.
        let without = crowd.hosts.iter().filter(|host| host.blocks_kept(&crowd.file.hash) == 0).count();
        assert!(without * 50 <= late.len(), "{without}");
        assert!(crowd.ratio() < 1.6, "{}", crowd.ratio());
        crowd.check_over();
    }
}

/// Hosts lose what they had not synced, and are back at once. They get the block that is sent once more; the others
/// lose nothing by it.
#[test]
fn those_that_restart_in_the_middle_go_on_with_what_they_had_synced() {
    for (loss, kept) in [(0, 1), (10, 0)] {
        let mut crowd = crowd(2 * MIB, loss);
        let file = crowd.file.hash;
        // The first block is on the disk of hosts that lost no packet of it.
        crowd.play_until(|crowd| crowd.source(0) >= 1_600);
        let now = crowd.now;
        for host in crowd.hosts.iter_mut().step_by(20) {
            host.restart(now);
            assert_eq!(host.blocks_kept(&file), kept);
        }
        let ending = crowd.play_to_the_end(0);
        let complete = crowd.complete();
        assert!(complete >= HOSTS * 19 / 20, "{complete}, {ending:?}");
        assert!(kept == 0 || complete == HOSTS, "{complete}, {ending:?}");
        let without = crowd.hosts.iter().filter(|host| host.blocks_kept(&file) == 0).count();
        assert!(without * 50 <= HOSTS / 20, "the first block is sent again, and {without} do not have it");
        assert!(crowd.ratio() < 1.6, "{}", crowd.ratio());
        crowd.check_over();
    }
}

/// The sender's host restarts. Its next transmission has another number, and is followed as soon as the first is
/// silent. What hosts have synced of the file they need not hear again.
#[test]
fn a_sender_that_restarts_sends_the_rest() {
    for id in [ID - 1, ID + 1] {
        let mut crowd = crowd(2 * MIB, 10);
        // All but few have the first block.
        crowd.play_until(|crowd| crowd.source(0) >= 1_500);
        crowd.controllers[0].sender = None;
        crowd.play_for(2_000);
        assert!(crowd.hosts.iter().all(|host| host.blocks_kept(&crowd.file.hash) <= 1));
        crowd.send(0, id, RATE);
        let began = crowd.now;
        let ending = crowd.play_to_the_end(0);
        assert_eq!(crowd.complete(), HOSTS, "{ending:?}");
        assert!(crowd.now.since(began) < Duration::from_secs(40), "{:?}", crowd.now.since(began));
        assert!(crowd.ratio() < 2.0, "{}", crowd.ratio());
        crowd.check_over();
    }
}

/// Of a file of three sections all hosts have kept the first, when the sender restarts. Some are cut off meanwhile.
#[test]
fn sections_that_all_have_kept_are_not_sent_again() {
    let mut crowd = Crowd::new(33 * MIB, 40, 10);
    crowd.send(0, ID, 4 * RATE);
    crowd.play_until(|crowd| crowd.sender(0).section() == 1 && crowd.sender(0).sent().source > 20_000);
    crowd.controllers[0].sender = None;
    crowd.play_for(2_000);
    let before = crowd.source(0);
    crowd.send(0, ID + 1, 4 * RATE);
    crowd.play_until(|crowd| crowd.source(0) > before + 5_000);
    crowd.cut_off = 0..10;
    crowd.play_for(500);
    crowd.cut_off = 0..0;
    let ending = crowd.play_to_the_end(0);
    assert_eq!(crowd.complete(), 40, "{ending:?}");
    let source = crowd.sender(0).sent().source;
    assert!(source <= 17 * 911, "{source} packets of the last two sections");
    crowd.check_over();
}

/// Another controller begins with a lower number, while the first sends: hosts go over to it, and the first waits.
/// Afterwards the first finds that all have the file.
#[test]
fn of_two_that_want_to_send_one_does() {
    const SLOW: u64 = 200_000;
    let mut crowd = Crowd::new(2 * MIB, HOSTS, 10);
    crowd.send(0, ID, SLOW);
    crowd.add_controller();
    crowd.play_until(|crowd| crowd.source(0) >= 300);
    crowd.send(1, ID - 1, SLOW);
    let began = crowd.now.as_millis();
    crowd.play_until(|crowd| crowd.ending(0).is_some() && crowd.ending(1).is_some());
    assert_eq!(crowd.complete(), HOSTS);
    // Until its hosts have answered that they are with the other.
    let stopped = began + OVERLAP_MS;
    let ended = *crowd.controllers[1].sent_at.last().expect("it sent");
    let both = crowd.controllers[0].sent_at.iter().filter(|at| (stopped..ended).contains(at)).count();
    assert_eq!(both, 0, "packets of the first while the second sends");
    assert!(crowd.ratio() < 1.5, "{}", crowd.ratio());
    crowd.check_over();
}

/// Both begin at once: nothing is sent twice.
#[test]
fn of_two_that_begin_at_once_one_sends_and_the_other_finds_that_all_have_it() {
    let mut crowd = crowd(2 * MIB, 10);
    crowd.add_controller();
    crowd.send(1, ID - 1, RATE);
    crowd.play_until(|crowd| crowd.ending(0).is_some() && crowd.ending(1).is_some());
    assert_eq!((crowd.complete(), crowd.source(0)), (HOSTS, 0));
    assert!(crowd.ratio() < 1.1, "{}", crowd.ratio());
    crowd.check_over();
}

/// A controller that has just started knows no host, and more hosts than there are may answer.
#[test]
fn a_controller_that_has_just_started_waits_for_all_that_may_answer() {
    let mut crowd = crowd(MIB, 10);
    crowd.controllers[0].known = 2_000;
    crowd.play_to_the_end(0);
    assert_eq!(crowd.complete(), HOSTS);
    crowd.check_over();
}

/// A file is being sent, and these hosts are cut off.
fn cut_amid(cut_off: Range<usize>) -> Crowd {
    let mut crowd = crowd(2 * MIB, 10);
    crowd.play_until(|crowd| crowd.source(0) >= 400);
    crowd.cut_off = cut_off;
    crowd
}

/// A part of the network is cut off while the file is sent, and comes back before the end.
#[test]
fn a_partition_that_heals_costs_what_was_not_heard() {
    for cut_off in [0..HOSTS / 2, 0..HOSTS] {
        let mut crowd = cut_amid(cut_off.clone());
        crowd.play_until(|crowd| crowd.source(0) >= 700);
        crowd.cut_off = 0..0;
        let ending = crowd.play_to_the_end(0);
        assert_eq!(crowd.complete(), HOSTS, "{ending:?}");
        assert!(crowd.ratio() < 1.6, "{}", crowd.ratio());
        crowd.check_over();
    }
}

/// One that does not heal: those on this side have the file, and those on the other stop waiting for it. Nobody is
/// said to have it who has not.
#[test]
fn a_partition_that_stays_costs_the_others_nothing() {
    for cut_off in [0..HOSTS / 2, 0..HOSTS] {
        let mut crowd = cut_amid(cut_off.clone());
        let began = crowd.now;
        let ending = crowd.play_to_the_end(0);
        let reached = HOSTS - cut_off.len();
        assert_eq!(crowd.complete(), reached);
        assert_eq!(ending, if reached == 0 { Ending::Silent } else { Ending::Most });
        assert!(crowd.sender(0).last_answers().complete as usize <= reached);
        assert!(crowd.now.since(began) < Duration::from_secs(60), "{:?}", crowd.now.since(began));
        assert!(crowd.ratio() < 1.1, "{}", crowd.ratio());
        crowd.check_over();
    }
}
