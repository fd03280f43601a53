//! Commands about hosts, and hosts as text and JSON.

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::patches::{lines_json, print_lines};
use super::table::{Align, Column, fit};
use super::term::Style;
use crate::control::{
    Currency, HostFilter, HostNames, HostRow, HostState, LossCause, Reply, Request, RequestStatus,
};
use crate::fsm::rollout::RolloutPart;
use crate::fsm::ways::Way;
use crate::json::Value;
use crate::time::Span;
use crate::types::{Digest, Hostname};
use crate::wire::install::Outcome;

/// `thimble query-hosts [--wide] [--failed] [--lost] [--not-current] [--at-work]`
pub fn query_hosts(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let filters = [
        ("failed", HostFilter::Failed),
        ("lost", HostFilter::Lost),
        ("not-current", HostFilter::NotCurrent),
        ("at-work", HostFilter::AtWork),
    ];
    let filters: Vec<HostFilter> =
        filters.into_iter().filter(|(option, _)| invocation.has(option)).map(|(_, filter)| filter).collect();
    let columns = if invocation.has("wide") { WIDE } else { &WIDE[..NARROW] };
    // The daemon takes one filter. Several are evaluated here, host by host.
    let filter = if let [only] = filters[..] { only } else { HostFilter::All };
    let (style, mut rows) = (out.style(), Vec::new());
    Client::connect(&invocation.socket()?)?.ask(Request::QueryHosts { filter }, |reply| {
        let Reply::Host(row) = reply else { return Ok(()) };
        if filters.is_empty() || filters.iter().any(|filter| filter.matches(&row)) {
            out.item("hosts", || host_json(&row))?;
            // Only the shown cells are kept, not the whole rows.
            if !out.is_json() {
                rows.push((row.hostname.clone(), row.node, cells(&row, columns.len(), style)));
            }
        }
        Ok(())
    })?;
    rows.sort_unstable();
    // A host may arrive twice if another was dropped meanwhile.
    rows.dedup_by_key(|(_, node, _)| *node);
    let all: Vec<String> = rows.into_iter().flat_map(|(.., cells)| cells).collect();
    out.text(fit(columns, &all, out.columns()))?;
    Ok(out.end_list("hosts")?)
}

/// `thimble host-install-async HOST.. [--force]`
pub fn host_install_async(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let request = Request::HostInstall { hosts: hosts(invocation)?, force: invocation.has("force") };
    let (mut lines, mut asked, mut refused, mut not_asked) = (Vec::new(), 0, Vec::new(), Vec::new());
    Client::connect(&invocation.socket()?)?.ask(&request, |reply| {
        match reply {
            Reply::NotAsked { node, reason, .. } => {
                out.line(&reason)?;
                lines.push(reason.to_string());
                not_asked.push(node);
            }
            Reply::Host(row) => {
                out.item("hosts", || host_json(&row))?;
                if not_asked.contains(&row.node) {
                    refused.push(row.hostname.to_string());
                } else {
                    asked += 1;
                    out.line(format_args!("{}: asked to install", row.hostname))?;
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if asked > 0 {
        out.line(
            "The installs continue without this command: see `thimble query-hosts` or `thimble watch`.",
        )?;
    }
    if refused.is_empty() {
        out.list("hosts")?;
        return Ok(out.json(|| lines_json(lines))?);
    }
    let sentence = format!("not asked to install: {}", refused.join(", "));
    Err(Failure { done: lines, ..Failure::new(Exit::Refused, sentence) })
}

/// The hosts in a command's arguments, as typed.
///
/// # Errors
/// [`Exit::Usage`]: an argument cannot be a host's name.
pub(super) fn hosts(invocation: &Invocation) -> Result<HostNames, Failure> {
    invocation.texts()?.into_iter().map(|text| named(invocation, "host", text)).collect()
}

/// `thimble drop-host HOST`
pub fn drop_host(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let texts = invocation.texts()?;
    let host = texts.first().copied().unwrap_or_default();
    let request = Request::DropHost { host: named(invocation, "host", host)? };
    print_lines(invocation, &request, out)
}

/// A host or a controller (`what`), as typed.
///
/// # Errors
/// [`Exit::Usage`]: the text cannot be a name.
pub(super) fn named(invocation: &Invocation, what: &str, text: &str) -> Result<Hostname, Failure> {
    Hostname::new(text).map_err(|bad| invocation.usage(&format!("{text:?} is no {what}: {bad}")))
}

/// The columns of `sw-patch query-hosts`, then those of `--wide`.
const WIDE: &[Column] = &[
    ("Hostname", Align::Left),
    ("IP Address", Align::Left),
    ("Patch Current", Align::Centre),
    ("Reboot Required", Align::Centre),
    ("Release", Align::Centre),
    ("State", Align::Centre),
    ("Node ID", Align::Left),
    ("Node Type", Align::Left),
    ("Heard", Align::Left),
    ("Install", Align::Left),
    ("Reason", Align::Left),
];

/// The number of columns that `sw-patch` has.
const NARROW: usize = 6;

/// The first `count` cells of a host's row.
fn cells(row: &HostRow, count: usize, style: Style) -> Vec<String> {
    let current = match row.current {
        Currency::Failed => style.red(currency(row.current)),
        _ => currency(row.current).to_owned(),
    };
    let state = match row.state {
        HostState::InstallFailed | HostState::InstallRejected => style.red(&state(row.state)),
        HostState::Lost => style.yellow(&state(row.state)),
        HostState::Idle | HostState::Installing { .. } => state(row.state),
    };
    let mut cells = vec![
        row.hostname.to_string(),
        row.address.to_string(),
        current,
        if row.reboot_required { "Yes" } else { "No" }.to_owned(),
        row.sw_version.to_string(),
        state,
    ];
    if count > NARROW {
        cells.push(row.node.to_string());
        cells.push(row.nodetype.to_string());
        cells.push(format!("{} ago{}", Span::of_millis(row.age_ms), by(row.way)));
        cells.push(install_name(row.install).to_owned());
        cells.push(because(row));
    }
    cells
}

/// The reason for a host's state: why it is lost, unless that is silence, and the reason
/// given for its last install.
pub(super) fn because(row: &HostRow) -> String {
    match row.lost {
        None | Some(LossCause::Silent) => row.reason.to_string(),
        Some(lost) if row.reason.is_empty() => lost.words().to_owned(),
        Some(lost) => format!("{}; {}", lost.words(), row.reason),
    }
}

/// Why a host or a controller is lost, as JSON; null if it is not lost.
pub(super) fn lost_json(lost: Option<LossCause>) -> Value {
    Value::or_null(lost.map(|lost| Value::text(lost.as_str())))
}

const fn currency(current: Currency) -> &'static str {
    match current {
        Currency::Current => "Yes",
        Currency::OutOfDate => "No",
        Currency::Pending => "Pending",
        Currency::Failed => "Failed",
        Currency::Unknown => "n/a",
    }
}

/// A host's state, as the `State` column shows it.
pub(super) fn state(state: HostState) -> String {
    match state {
        HostState::Installing { percent, .. } => format!("installing {percent}%"),
        HostState::Idle | HostState::InstallFailed | HostState::InstallRejected | HostState::Lost => {
            state_name(state).to_owned()
        }
    }
}

const fn state_name(state: HostState) -> &'static str {
    match state {
        HostState::Idle => "idle",
        HostState::Installing { .. } => "installing",
        HostState::InstallFailed => "install-failed",
        HostState::InstallRejected => "install-rejected",
        HostState::Lost => "lost",
    }
}

/// The name of an install's status in JSON.
const fn install_name(install: RequestStatus) -> &'static str {
    match install {
        RequestStatus::None => "none",
        RequestStatus::Waiting => "waiting",
        RequestStatus::Running => "running",
        RequestStatus::Ended(outcome) => outcome_name(outcome),
        RequestStatus::NoAnswer => "no-answer",
    }
}

/// The name of a host's part in the last rollout in JSON.
const fn part_name(part: RolloutPart) -> &'static str {
    match part {
        RolloutPart::Done => "installed",
        RolloutPart::Current => "current",
        RolloutPart::Failed => "failed",
        RolloutPart::Behind => "behind",
        RolloutPart::NoAnswer => "no-answer",
        RolloutPart::AtWork => "at-work",
        RolloutPart::Next => "next",
        RolloutPart::Lost => "lost",
    }
}

/// The name of an install's outcome in JSON.
pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Installed => "installed",
        Outcome::Rejected => "rejected",
        Outcome::RolledBack => "rolled-back",
        Outcome::Broken => "broken",
    }
}

/// The digest of an installed set as JSON; null while the set is not known.
pub(super) fn known_digest(digest: Digest) -> Value {
    Value::or_null((digest != Digest::default()).then(|| Value::text(digest)))
}

/// By which way a node was heard, to be put behind when.
pub(super) fn by(way: Option<Way>) -> String {
    way.map(|way| format!(" by {}", way.as_str())).unwrap_or_default()
}

/// By which way a node was heard, as JSON; null if the transport does not tell.
pub(super) fn way_json(way: Option<Way>) -> Value {
    Value::or_null(way.map(|way| Value::text(way.as_str())))
}

/// A host as JSON.
pub(super) fn host_json(row: &HostRow) -> Value {
    let (step, percent) = match row.state {
        HostState::Installing { step, percent } => {
            (Value::text(step.as_str()), Value::from(u32::from(percent)))
        }
        _ => (Value::Null, Value::Null),
    };
    Value::object([
        ("node", Value::text(row.node)),
        ("hostname", Value::text(&row.hostname)),
        ("address", Value::text(&row.address)),
        ("nodetype", Value::text(&row.nodetype)),
        ("current", Value::text(currency(row.current).to_ascii_lowercase())),
        ("reboot_required", row.reboot_required.into()),
        ("release", Value::text(&row.sw_version)),
        ("state", Value::text(state_name(row.state))),
        ("step", step),
        ("percent", percent),
        ("age_ms", row.age_ms.into()),
        ("installed_digest", known_digest(row.installed_digest)),
        ("install", Value::text(install_name(row.install))),
        ("reason", Value::text(&row.reason)),
        ("rollout", Value::or_null(row.part.map(|part| Value::text(part_name(part))))),
        ("lost_because", lost_json(row.lost)),
        ("heard_by", way_json(row.way)),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::{NodeId, NodeType, Reason, SwVersion, Text};
    use crate::wire::install::Step;

    pub fn row(hostname: &str) -> HostRow {
        HostRow {
            node: NodeId(0x1f),
            hostname: Hostname::new(hostname).unwrap(),
            address: Text::truncated("10.0.0.2"),
            nodetype: NodeType::new("worker").unwrap(),
            current: Currency::OutOfDate,
            reboot_required: false,
            sw_version: SwVersion::new("24.09").unwrap(),
            state: HostState::Idle,
            lost: None,
            age_ms: 12,
            way: Some(Way::Unicast),
            installed_digest: Digest([1; 32]),
            install: RequestStatus::None,
            reason: Reason::default(),
            part: None,
        }
    }

    #[test]
    fn query_hosts_is_sw_patch_s_table_without_a_blank_line() {
        let mut busy = row("worker-0");
        busy.state = HostState::Installing { step: Step::Fetching, percent: 42 };
        let mut failed = row("worker-10");
        failed.current = Currency::Failed;
        failed.state = HostState::InstallFailed;
        let expected = "\
Hostname   IP Address  Patch Current  Reboot Required  Release      State
=========  ==========  =============  ===============  =======  ==============
worker-0   10.0.0.2         No              No          24.09   installing 42%
worker-10  10.0.0.2       Failed            No          24.09   install-failed
";
        let rows: Vec<String> =
            [busy, failed].iter().flat_map(|row| cells(row, NARROW, Style::default())).collect();
        assert_eq!(fit(&WIDE[..NARROW], &rows, None), expected);
    }

    #[test]
    fn the_cause_of_a_loss_is_shown_before_the_install_s_reason() {
        let lost = |lost, reason| because(&HostRow { lost, reason: Reason::truncated(reason), ..row("w") });
        assert_eq!(lost(None, "no space"), "no space");
        assert_eq!(lost(Some(LossCause::Silent), ""), "");
        assert_eq!(lost(Some(LossCause::OutOfReach), ""), "its node is out of reach");
        assert_eq!(lost(Some(LossCause::Ended), "no space"), "its thimble has ended; no space");
        assert_eq!(lost_json(Some(LossCause::OutOfReach)), Value::text("out-of-reach"));
    }

    #[test]
    fn the_json_of_a_host_has_the_documented_keys() {
        let mut host = row("w");
        host.state = HostState::Installing { step: Step::PreScripts, percent: 7 };
        host.install = RequestStatus::Running;
        let digest = "01".repeat(32);
        let expected = format!(
            r#"{{"node":"000000000000001f","hostname":"w","address":"10.0.0.2","nodetype":"worker","current":"no","reboot_required":false,"release":"24.09","state":"installing","step":"pre scripts","percent":7,"age_ms":12,"installed_digest":"{digest}","install":"running","reason":"","rollout":null,"lost_because":null,"heard_by":"unicast"}}"#
        );
        assert_eq!(host_json(&host).to_string(), expected);
        host.installed_digest = Digest::default();
        assert!(host_json(&host).to_string().contains(r#""installed_digest":null"#), "it is not known");
    }
}
