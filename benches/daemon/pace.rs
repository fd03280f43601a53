//! Sends no faster than it is received, so that nothing is lost however busy the machine is.

use std::thread;
use std::time::{Duration, Instant};

/// Datagrams sent at once; a default socket buffer holds about 277.
const BURST: usize = 128;
/// What has not come for so long is lost. On a machine that has something else to do a receiver may
/// wait for a processor, but not this long.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Sends in bursts, each once the receiver has taken the one before. `taken` is how many datagrams it
/// has taken so far. Returns how many of these it has taken; panics if most were lost.
pub fn in_bursts(say: impl Fn(&[u8]), datagrams: &[Vec<u8>], taken: impl Fn() -> u64) -> u64 {
    let before = taken();
    let (mut sent, mut lost) = (0, 0);
    for burst in datagrams.chunks(BURST) {
        burst.iter().for_each(|datagram| say(datagram));
        sent += burst.len() as u64;
        let (mut so_far, mut since) = (taken() - before, Instant::now());
        while so_far + lost < sent {
            thread::sleep(Duration::from_millis(1));
            let now = taken() - before;
            if now > so_far {
                (so_far, since) = (now, Instant::now());
            } else if since.elapsed() > LOST_AFTER {
                lost = sent - so_far;
            }
        }
        assert!(lost * 2 <= sent, "{lost} of {sent} datagrams are lost");
    }
    sent - lost
}
