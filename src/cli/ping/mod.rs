//! `ping`: asks a host by each way, opens sessions to it, and tells what came back, how soon and
//! how often.

mod findings;
mod session;

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::explain::{causes_json, show};
use super::hosts::named;
use super::out::Out;
use super::rollout::number;
use crate::control::{PingRow, Reply, Request, Way};
use crate::json::Value;
use crate::types::Hostname;
use findings::findings;
use session::SILENT;

/// Default of `--count`.
const COUNT: u16 = 3;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time from one look to the next.
const LOOK: Duration = Duration::from_millis(5);
/// From one ask by multicast to the next: an agent answers these 200 ms apart.
const APART: Duration = Duration::from_millis(500);

/// What came back of one kind of ask.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    answered: usize,
    /// From the ask to the answer, in microseconds, sorted. One whose answer came another way has none.
    times_us: Vec<u32>,
}

impl Tally {
    fn add(&mut self, time_us: Option<u32>) {
        self.sent += 1;
        self.answered += usize::from(time_us.is_some());
        if let Some(time) = time_us {
            let at = self.times_us.partition_point(|other| *other < time);
            self.times_us.insert(at, time);
        }
    }

    /// None of those that were sent was answered.
    fn is_dead(&self) -> bool {
        self.sent > 0 && self.answered == 0
    }

    fn lost_percent(&self) -> usize {
        ((self.sent - self.answered) * 100).checked_div(self.sent).unwrap_or(0)
    }

    /// The least time, the median and the greatest.
    fn times(&self) -> Option<[u32; 3]> {
        let sorted = &self.times_us;
        Some([*sorted.first()?, *sorted.get(sorted.len() / 2)?, *sorted.last()?])
    }

    fn json(&self, way: &str) -> Value {
        let number = |number: usize| Value::from(number as u64);
        let time = |at: usize| Value::or_null(self.times().map(|times| times[at].into()));
        Value::object([
            ("way", Value::text(way)),
            ("sent", number(self.sent)),
            ("answered", number(self.answered)),
            ("lost_percent", number(self.lost_percent())),
            ("least_us", time(0)),
            ("median_us", time(1)),
            ("greatest_us", time(2)),
        ])
    }
}

/// The ways in the order of their tallies: the code of each, and what is done.
const WAYS: [(&str, &str); 4] = [
    ("multicast", "asked by multicast"),
    ("unicast", if cfg!(feature = "tipc") { "asked by its address" } else { "asked by unicast" }),
    ("unicast-multicast", "answered by multicast"),
    ("session", "session"),
];
const MULTICAST: usize = 0;
const UNICAST: usize = 1;
const BACK: usize = 2;
const SESSION: usize = 3;

/// All that is known of a host after its asks.
#[derive(Debug)]
struct Pinged {
    row: PingRow,
    /// Of asks by multicast that the host is known to have heard; of asks by unicast, its answers
    /// by unicast (over TIPC by any way), and by multicast; of sessions.
    tallies: [Tally; 4],
    /// Why the last session that failed did.
    refused: Option<(&'static str, String)>,
}

/// Asks the daemon.
struct Asker {
    client: Client,
    host: Hostname,
}

impl Asker {
    /// The host and its answers to the last ask; asks it first, if a way is given.
    fn ask(&mut self, ask: Option<Way>) -> Result<PingRow, Failure> {
        let mut found = None;
        let asked = self.client.ask(Request::Ping { host: self.host.clone(), ask }, |reply| {
            if let Reply::Pinged(row) = reply {
                found = Some(row);
            }
            Ok(())
        });
        asked.map_err(unheard)?;
        found.ok_or_else(|| Failure::new(Exit::Refused, "the host was dropped just now"))
    }

    /// Asks the host by this way, after an ask of the number `last`. Waits for an answer, or for
    /// one by each way.
    fn wait(&mut self, way: Way, last: u64, wants_both: bool) -> Result<PingRow, Failure> {
        let mut began = Instant::now();
        let mut ask = Some(way);
        loop {
            let row = self.ask(ask)?;
            // The daemon sends none to all agents too soon after another.
            if row.number > last {
                ask = None;
                let answers = [row.by_unicast_us, row.by_multicast_us].iter().flatten().count();
                if answers > usize::from(wants_both) || began.elapsed() >= PATIENCE {
                    return Ok(row);
                }
            } else {
                began = Instant::now();
            }
            thread::sleep(LOOK);
        }
    }
}

/// `thimble ping HOST`
pub fn ping(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let texts = invocation.texts()?;
    let host = named(invocation, "host", texts.first().copied().unwrap_or_default())?;
    let count = number(invocation, "count", 1, COUNT)?;
    let mut asker = Asker { client: Client::connect(&invocation.socket()?)?, host };
    let row = asker.ask(None)?;
    let door = session::door(&row);
    out.line(format_args!("{} (node {}, {}), sessions to {door}", row.hostname, row.node, row.address))?;
    let mut pinged = Pinged { row, tallies: Default::default(), refused: None };
    let mut last = 0;
    for at in 1..=count {
        let began = Instant::now();
        last = attempt(&mut asker, &mut pinged, at, last, out)?;
        if at < count {
            thread::sleep(APART.saturating_sub(began.elapsed()));
        }
    }
    report(&pinged, out)
}

/// Asks the host once by each way. Returns the number of the last ask.
fn attempt(
    asker: &mut Asker,
    pinged: &mut Pinged,
    at: u16,
    mut last: u64,
    out: &mut Out,
) -> Result<u64, Failure> {
    let is_multicast = pinged.row.is_multicast;
    // TIPC does not tell by which way a datagram came.
    let has_back = is_multicast && !cfg!(feature = "tipc");
    let mut times = [None; 4];
    if is_multicast {
        let row = asker.wait(Way::Multicast, last, false)?;
        last = row.number;
        times[MULTICAST] = Some(row.by_multicast_us.or(row.by_unicast_us));
    }
    let row = asker.wait(Way::Unicast, last, has_back)?;
    // It heard the ask by multicast, whose answer was lost.
    let is_heard = times[MULTICAST] == Some(None) && row.heard == last;
    times[UNICAST] = Some(row.by_unicast_us);
    if has_back {
        times[BACK] = Some(row.by_multicast_us);
    }
    // One that is silent is not waited for again.
    if pinged.refused.as_ref().is_none_or(|(code, _)| *code != SILENT) {
        let opened = session::open(&pinged.row);
        times[SESSION] = Some(opened.as_ref().ok().copied());
        if let Err(refused) = opened {
            pinged.refused = Some(refused);
        }
    }
    let mut line = format!("  {at}");
    for (way, time) in times.into_iter().enumerate() {
        let Some(time) = time else { continue };
        pinged.tallies[way].add(time);
        let is_heard = way == MULTICAST && is_heard;
        pinged.tallies[way].answered += usize::from(is_heard);
        let time = if is_heard { "heard".to_owned() } else { shown(time) };
        let _ = write!(line, ", {} {time}", WAYS[way].0);
    }
    out.line(line)?;
    Ok(row.number)
}

/// The failure where the controller does not know the host.
fn unheard(failure: Failure) -> Failure {
    match failure.message.starts_with("No host ") {
        true => Failure {
            message: format!(
                "{} One that was never heard has no address to be asked at: see its own `thimble status`.",
                failure.message
            ),
            ..failure
        },
        false => failure,
    }
}

/// A time in milliseconds.
fn shown(time_us: Option<u32>) -> String {
    time_us.map_or_else(|| "no".to_owned(), |us| format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10))
}

fn report(pinged: &Pinged, out: &mut Out) -> Result<(), Failure> {
    let (mut ways, mut dead, mut asked) = (Vec::new(), 0, 0);
    for ((code, what), tally) in WAYS.iter().zip(&pinged.tallies).filter(|(_, tally)| tally.sent > 0) {
        let Tally { sent, answered, .. } = tally;
        let mut line = format!("{what}: {answered} of {sent} answered, {} % lost", tally.lost_percent());
        for time in tally.times().iter().flatten() {
            let _ = write!(line, ", {}", shown(Some(*time)));
        }
        out.line(line)?;
        asked += 1;
        dead += usize::from(tally.is_dead());
        ways.push(tally.json(code));
    }
    if !pinged.row.is_multicast {
        out.line("not asked by multicast: network.multicast is false here")?;
    }
    let causes = findings(pinged);
    for cause in &causes {
        show("because", cause, out)?;
    }
    out.json(|| {
        let row = &pinged.row;
        Value::object([
            ("hostname", Value::text(&row.hostname)),
            ("node", Value::text(row.node)),
            ("address", Value::text(&row.address)),
            ("ways", Value::List(ways)),
            ("causes", causes_json(&causes)),
        ])
    })?;
    match dead {
        0 => Ok(()),
        dead => Err(Failure::silent(if dead == asked { Exit::TimedOut } else { Exit::Refused })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_and_answers_are_summed_up() {
        let mut tally = Tally::default();
        assert_eq!((tally.is_dead(), tally.lost_percent(), tally.times()), (false, 0, None));
        tally.add(None);
        assert_eq!((tally.is_dead(), tally.lost_percent(), tally.times()), (true, 100, None));
        for time in [500, 100, 900_000] {
            tally.add(Some(time));
        }
        assert_eq!((tally.is_dead(), tally.lost_percent()), (false, 25));
        assert_eq!(tally.times(), Some([100, 500, 900_000]));
    }

    #[test]
    fn a_time_is_shown_in_milliseconds() {
        assert_eq!(shown(Some(61)), "0.06 ms");
        assert_eq!(shown(Some(612_345)), "612.34 ms");
        assert_eq!(shown(None), "no");
    }
}
