//! `spread`: sends patch files to all hosts at once, and shows how far that is.

use std::thread;

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::patches::ids;
use super::progress::POLL;
use super::sys;
use super::term::Screen;
use crate::control::{Reply, Request, SpreadEnded, SpreadRow};
use crate::job::ReceiveState;
use crate::json::Value;
use crate::time::Span;
use crate::types::SpreadEnding;

/// `thimble spread [ID..] [--rate RATE] | --stop`
pub fn spread(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let is_stop = invocation.has("stop");
    let ids = ids(invocation)?;
    let rate = rate(invocation)?;
    if is_stop && (!ids.is_empty() || rate > 0) {
        return Err(invocation.usage("--stop takes neither ID nor --rate"));
    }
    if ids.is_empty() && rate > 0 {
        return Err(invocation.usage("--rate is allowed only with ID"));
    }
    sys::note_interrupts();
    let mut client = Client::connect(&invocation.socket()?)?;
    let request = match (is_stop, ids.is_empty()) {
        (true, _) => Request::StopSpread,
        (_, true) => Request::Spreading,
        _ => Request::Spread { ids, rate },
    };
    let mut row = look(&mut client, &request)?;
    if matches!(request, Request::Spreading) {
        return show(&row, out);
    }
    let mut screen = Screen::new(out.is_live());
    let mut next = row.files_sent;
    let mut has_failed = false;
    loop {
        for one in row.ended.iter().filter(|one| one.number >= next) {
            out.block(&mut screen, &[(0, ended(one))], true)?;
            screen = Screen::new(out.is_live());
            has_failed |= !one.failed.is_empty() || !is_stop && !is_done(one.state.ending);
        }
        next = row.files_sent;
        if row.sending.is_none() {
            out.json(|| json(&row))?;
            return match has_failed {
                false => Ok(()),
                true => Err(Failure::silent(Exit::Refused)),
            };
        }
        if let Some(line) = line(&row).filter(|_| screen.is_live()) {
            out.block(&mut screen, &[(0, line)], false)?;
        }
        if sys::is_interrupted() {
            let sentence = "interrupted: the transmission goes on; `thimble spread` shows it, and `thimble spread \
                            --stop` ends it";
            return Err(Failure::new(Exit::TimedOut, sentence));
        }
        thread::sleep(POLL);
        // As a constant it would take the space of the largest request.
        let again = Request::Spreading;
        row = look(&mut client, &again)?;
    }
}

/// Whether all was sent that somebody wanted.
const fn is_done(ending: Option<SpreadEnding>) -> bool {
    matches!(ending, Some(SpreadEnding::All | SpreadEnding::Most | SpreadEnding::Nobody))
}

fn look(client: &mut Client, request: &Request) -> Result<SpreadRow, Failure> {
    let mut found = None;
    client.ask(request, |reply| {
        if let Reply::Spreading(row) = reply {
            found = Some(row);
        }
        Ok(())
    })?;
    found.ok_or_else(|| Failure::new(Exit::Refused, "the daemon does not say what it sends; see its log"))
}

fn show(row: &SpreadRow, out: &mut Out) -> Result<(), Failure> {
    for line in lines(row) {
        out.line(line)?;
    }
    if row.sent.is_none() && row.received.is_none() {
        out.line("Nothing was sent to all hosts since the daemon started.")?;
    }
    out.json(|| json(row))?;
    Ok(())
}

/// The rate of `--rate`, in bytes for a second; 0 without it.
fn rate(invocation: &Invocation) -> Result<u64, Failure> {
    let Some(given) = invocation.value("rate") else { return Ok(0) };
    let rate = given.to_str().and_then(parse);
    rate.ok_or_else(|| {
        let shown = given.display();
        invocation.usage(&format!("--rate wants a rate such as 20Mbit or 500kbit, not {shown}"))
    })
}

/// Reads `20Mbit`, `500kbit`, `1Gbit`: in bytes for a second.
fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return None,
    };
    let bits = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (8..=100_000_000_000).contains(&bits).then_some(bits / 8)
}

/// The lines that `status` and `watch` show.
#[must_use]
pub fn lines(row: &SpreadRow) -> Vec<String> {
    let sent = line(row).or_else(|| row.ended.last().map(ended));
    let received = row.received.as_ref().map(|(id, state)| {
        let ReceiveState { blocks: (all, here), .. } = state;
        let what = if row.is_receiving { "is received" } else { "was received" };
        format!("{id} {what} with all hosts: {here} of {all} blocks are here")
    });
    sent.into_iter().chain(received).collect()
}

/// The line of what is sent now.
fn line(row: &SpreadRow) -> Option<String> {
    let (id, state) = row.sent.as_ref().filter(|_| row.sending.is_some())?;
    let percent = state.done_bytes * 100 / state.size_bytes.max(1);
    let mut line = format!("{id} is sent to all hosts: {percent}%, {}", rate_text(state.rate));
    let [source, repair, _] = state.sent_bytes;
    if source > 0 {
        line.push_str(&format!(", {} sent, {} of it repair", mib(source + repair), mib(repair)));
        let left = state.size_bytes.saturating_sub(source.min(state.size_bytes));
        line.push_str(&format!(", {} left", Span::of_millis(left * 1_000 / state.rate.max(1))));
    }
    line.push_str(&format!("; {} hosts take part", state.hosts));
    if let Some((node, packets)) = state.slowest {
        let name = if row.slowest.is_empty() { node.to_string() } else { row.slowest.to_string() };
        line.push_str(&format!(", {name} lacks most: {packets} packets"));
    }
    if row.waiting > 0 {
        line.push_str(&format!("; {} more files wait", row.waiting));
    }
    Some(line)
}

/// The line of one that has ended.
fn ended(SpreadEnded { id, state, failed, .. }: &SpreadEnded) -> String {
    if !failed.is_empty() {
        return failed.to_string();
    }
    let [source, repair, other] = state.sent_bytes;
    let all = source + repair + other;
    match state.ending {
        Some(SpreadEnding::All | SpreadEnding::Most) => {
            let percent = all * 100 / state.size_bytes.max(1);
            let mut line = format!(
                "{id} was sent to all hosts: {} for {}, which is {percent}%, {} of it repair; {} of {} hosts have it all",
                mib(all),
                mib(state.size_bytes),
                mib(repair),
                state.complete,
                state.hosts.saturating_add(state.out)
            );
            if state.ending == Some(SpreadEnding::Most) {
                line.push_str(", the others fetch what they lack");
            }
            line
        }
        Some(SpreadEnding::Nobody) => format!("{id} is not sent to all hosts: none that listens lacks it"),
        Some(SpreadEnding::Silent) => {
            format!("{id} is not sent to all hosts any more: those that took part answer no more")
        }
        Some(SpreadEnding::Yielded) => format!("{id} is not sent to all hosts: another controller sends"),
        Some(SpreadEnding::Stopped) => format!("{id} is not sent to all hosts any more: it was stopped"),
        None => format!("{id} was not sent to all hosts"),
    }
}

fn mib(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        bytes => format!("{}.{} MiB", bytes >> 20, (bytes % (1 << 20) * 10) >> 20),
    }
}

fn rate_text(rate: u64) -> String {
    let kbit = rate * 8 / 1_000;
    if kbit < 10_000 { format!("{kbit} kbit/s") } else { format!("{} Mbit/s", kbit / 1_000) }
}

/// The document of `spread`, also in that of `status`.
#[must_use]
pub fn json(row: &SpreadRow) -> Value {
    let sent = row.sent.as_ref().map(|(id, state)| {
        let [source, repair, other] = state.sent_bytes;
        let ending = state.ending.map(|ending| match ending {
            SpreadEnding::All => "all",
            SpreadEnding::Most => "most",
            SpreadEnding::Nobody => "nobody",
            SpreadEnding::Silent => "silent",
            SpreadEnding::Yielded => "yielded",
            SpreadEnding::Stopped => "stopped",
        });
        Value::object([
            ("id", Value::text(id)),
            ("transmission", Value::text(format_args!("{:016x}", state.transmission))),
            ("size_bytes", state.size_bytes.into()),
            ("done_bytes", state.done_bytes.into()),
            ("source_bytes", source.into()),
            ("repair_bytes", repair.into()),
            ("other_bytes", other.into()),
            ("rate_bytes_s", state.rate.into()),
            ("hosts", u64::from(state.hosts).into()),
            ("complete", u64::from(state.complete).into()),
            ("out", u64::from(state.out).into()),
            ("slowest", Value::or_null(state.slowest.map(|(node, _)| Value::text(node)))),
            ("unsent", state.unsent.into()),
            ("ending", Value::or_null(ending.map(Value::text))),
        ])
    });
    let received = row.received.as_ref().map(|(id, state)| {
        Value::object([
            ("id", Value::text(id)),
            ("blocks", u64::from(state.blocks.0).into()),
            ("blocks_here", u64::from(state.blocks.1).into()),
        ])
    });
    Value::object([
        ("sending", Value::or_null(row.sending.as_ref().map(Value::text))),
        ("waiting", u64::from(row.waiting).into()),
        (
            "failed",
            Value::or_null(
                row.ended.last().filter(|one| !one.failed.is_empty()).map(|one| Value::text(&one.failed)),
            ),
        ),
        ("sent", Value::or_null(sent)),
        ("receiving", row.is_receiving.into()),
        ("received", Value::or_null(received)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::SpreadState;
    use crate::types::{PatchId, Reason};

    #[test]
    fn a_rate_has_a_unit_and_a_bound() {
        let read = ["20Mbit", "500kbit", "1Gbit", "20mbit"].map(parse);
        assert_eq!(read, [Some(2_500_000), Some(62_500), Some(125_000_000), Some(2_500_000)]);
        for bad in ["", "20", "Mbit", "20M", "-1Mbit", "0kbit", "99999999Gbit", "20 Mbit"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_lines_say_how_far_it_is_and_how_it_ended() {
        let id = PatchId::new("P-1").unwrap();
        let state = SpreadState {
            size_bytes: 32 << 20,
            done_bytes: 16 << 20,
            sent_bytes: [17 << 20, 1 << 20, 800],
            rate: 2_500_000,
            hosts: 7,
            complete: 7,
            slowest: Some((crate::types::NodeId(9), 40)),
            ..SpreadState::default()
        };
        let row =
            SpreadRow { sending: Some(id.clone()), sent: Some((id.clone(), state)), ..SpreadRow::default() };
        assert_eq!(
            lines(&row),
            [
                "P-1 is sent to all hosts: 50%, 20 Mbit/s, 18.0 MiB sent, 1.0 MiB of it repair, 6 s left; 7 hosts take \
              part, 0000000000000009 lacks most: 40 packets"
            ]
        );
        let state = SpreadState { ending: Some(SpreadEnding::Most), out: 1, ..state };
        let ended = SpreadEnded { number: 0, id, state, failed: Reason::default() };
        let row = SpreadRow { sending: None, ended: [ended].into_iter().collect(), ..row };
        assert_eq!(
            lines(&row),
            [
                "P-1 was sent to all hosts: 18.0 MiB for 32.0 MiB, which is 56%, 1.0 MiB of it repair; 7 of 8 hosts have \
              it all, the others fetch what they lack"
            ]
        );
    }
}
