//! `explain`: why a host is not current, or a patch not on all hosts; what happens next, and
//! what an operator can do.

mod causes;

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::hosts::{host_json, named as host_named, state};
use super::out::Out;
use super::patches::{patch_json, repo_state};
use super::progress;
use crate::control::{
    BlobRow, Currency, ExplainedHost, HostRow, HostState, PatchRow, PatchState, Patches, Reply, Request,
    RequestStatus,
};
use crate::fsm::rollout::RolloutPart;
use crate::job::PatchIds;
use crate::json::Value;
use crate::repo::entry::EntryState;
use crate::time::Span;
use crate::types::PatchId;
use crate::wire::install::Outcome;
pub(super) use causes::Cause;
use causes::{causes, named, waits_for_turn};

/// The most hosts that an explanation of a patch shows; it counts the rest.
const HOSTS: usize = 16;

/// `thimble explain HOST|ID`
pub fn explain(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let texts = invocation.texts()?;
    let name = texts.first().copied().unwrap_or_default();
    let mut client = Client::connect(&invocation.socket()?)?;
    match patch(&mut client, name)? {
        Some(row) => explain_patch(&mut client, &row, out),
        None => explain_host(&mut client, invocation, name, out),
    }
}

/// The patch of this name, if there is one.
fn patch(client: &mut Client, name: &str) -> Result<Option<PatchRow>, Failure> {
    let Ok(id) = PatchId::new(name) else { return Ok(None) };
    let mut found = None;
    client.ask(Request::Patches { ids: PatchIds::from_iter([id]) }, |reply| {
        if let Reply::Patch(row) = reply {
            found = Some(row);
        }
        Ok(())
    })?;
    Ok(found)
}

fn explain_host(
    client: &mut Client,
    invocation: &Invocation,
    name: &str,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut found = None;
    let asked = client.ask(Request::ExplainHost { host: host_named(invocation, "host", name)? }, |reply| {
        if let Reply::Explained(host) = reply {
            found = Some(host);
        }
        Ok(())
    });
    asked.map_err(|failure| match failure.message.starts_with("No host ") {
        true => Failure {
            message: format!("no patch {name} is in the repository. {}", failure.message),
            ..failure
        },
        false => failure,
    })?;
    let host = found.ok_or_else(|| Failure::new(Exit::Refused, format!("{name} was dropped just now")))?;
    let causes = causes(&host);
    out.line(verdict(&host))?;
    for (what, patches) in [("lacks", &host.lacks), ("has still", &host.exceeds)] {
        if patches.count > 0 {
            out.line(format_args!("  {what}: {}", named(patches)))?;
        }
    }
    let because = if host.row.current == Currency::Current { "but" } else { "because" };
    for cause in &causes {
        show(because, cause, out)?;
    }
    Ok(out.json(|| {
        Value::object([
            ("host", host_json(&host.row)),
            ("lacks", patches_json(&host.lacks)),
            ("has_still", patches_json(&host.exceeds)),
            ("causes", causes_json(&causes)),
        ])
    })?)
}

/// The first line about a host.
fn verdict(host: &ExplainedHost) -> String {
    let row = &host.row;
    let is = match row.current {
        Currency::Current if row.state == HostState::Lost => "was current when it was last heard",
        Currency::Current => "is current",
        Currency::OutOfDate => "is not current",
        Currency::Pending if row.state == HostState::Lost => "is not current: an install was under way",
        Currency::Pending => "is about to become current",
        Currency::Failed if waits_for_turn(host) => "is not current, and waits for its turn in the rollout",
        Currency::Failed => "is not current: its last install failed",
        Currency::Unknown => "may be current: this controller cannot tell",
    };
    let heard = Span::of_millis(row.age_ms);
    format!("{} (node {}, {}) {is}; heard {heard} ago", row.hostname, row.node, row.address)
}

pub(super) fn show(because: &str, cause: &Cause, out: &mut Out) -> Result<(), Failure> {
    out.line(format_args!("  {because} {}", cause.because))?;
    for (what, text) in [("next", &cause.next), ("to do", &cause.hint)] {
        if !text.is_empty() {
            out.line(format_args!("    {what}: {text}"))?;
        }
    }
    Ok(())
}

fn patches_json(patches: &Patches) -> Value {
    Value::object([
        ("count", patches.count.into()),
        ("first", Value::list(patches.named.iter().map(Value::text))),
    ])
}

pub(super) fn causes_json(causes: &[Cause]) -> Value {
    Value::list(causes.iter().map(|cause| {
        Value::object([
            ("code", Value::text(cause.code)),
            ("because", Value::text(&cause.because)),
            ("next", Value::text(&cause.next)),
            ("to_do", Value::text(&cause.hint)),
        ])
    }))
}

fn explain_patch(client: &mut Client, row: &PatchRow, out: &mut Out) -> Result<(), Failure> {
    let (mut hosts, mut more, mut blob) = (Vec::new(), 0_u32, None);
    client.ask(Request::HostsWithout { id: row.id.clone() }, |reply| {
        match reply {
            Reply::Host(host) if hosts.len() < HOSTS => hosts.push(host),
            Reply::Host(_) => more += 1,
            Reply::Blob(row) => blob = Some(row),
            _ => {}
        }
        Ok(())
    })?;
    hosts.sort_by(|a, b| (&a.hostname, a.node).cmp(&(&b.hostname, b.node)));
    let causes = causes_of_patch(row, blob.as_ref());
    out.line(format_args!(
        "{}: {} in the repository, {} on the hosts; {} of {} hosts that it concerns have it",
        row.id,
        repo_state(row.repo_state),
        row.patch_state.as_str(),
        row.hosts_with,
        row.hosts_concerned,
    ))?;
    for cause in &causes {
        show("because", cause, out)?;
    }
    for host in &hosts {
        out.line(format_args!("  {}", host_line(host)))?;
    }
    if more > 0 {
        out.line(format_args!("  and {more} more: `thimble query-hosts --not-current`"))?;
    }
    if !hosts.is_empty() {
        out.line("Each host's causes: `thimble explain HOST`")?;
    }
    Ok(out.json(|| {
        Value::object([
            ("patch", patch_json(row)),
            ("causes", causes_json(&causes)),
            ("hosts", Value::list(hosts.iter().map(host_json))),
            ("hosts_more", more.into()),
        ])
    })?)
}

/// The causes that lie with the patch, not with a host.
fn causes_of_patch(row: &PatchRow, blob: Option<&BlobRow>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let id = &row.id;
    match row.repo_state {
        EntryState::Available if row.patch_state == PatchState::Available => {
            causes.push(Cause::new("not-applied", "it is not applied").hint(format!("`thimble apply {id}`")));
        }
        EntryState::Available => causes.push(
            Cause::new("removed", "it was removed, and hosts have it until they install")
                .hint("`thimble host-install --all`"),
        ),
        _ => {}
    }
    if let Some(by) = &row.blocked_by {
        causes.push(
            Cause::new("blocked", format!("it requires {by}, which is not applied"))
                .hint(format!("`thimble apply {by}`, or `thimble remove {id}`")),
        );
    }
    if row.hosts_concerned == 0 {
        causes.push(Cause::new("concerns-no-host", "it concerns no host that is known here"));
    }
    if let Some(blob) = blob {
        let why = if blob.reason.is_empty() { String::new() } else { format!(": {}", blob.reason) };
        causes.push(
            Cause::new("file-missing", format!("this controller lacks its file{why}"))
                .next("it is fetched from another controller as soon as one that has it is heard")
                .hint("if no controller has the file, upload it again"),
        );
    }
    causes
}

/// A host on which a patch is not as it should be, in a line.
fn host_line(row: &HostRow) -> String {
    let heard = Span::of_millis(row.age_ms);
    match (row.state, row.install) {
        (HostState::Lost, _) => format!("{}: lost, heard {heard} ago", row.hostname),
        // The outcome of an earlier install, before this patch was applied or removed.
        (HostState::Idle, RequestStatus::None | RequestStatus::Ended(Outcome::Installed)) => match row.part {
            Some(RolloutPart::Next) => {
                format!("{}: idle, its turn in the rollout has not come", row.hostname)
            }
            _ => format!("{}: idle, not asked to install", row.hostname),
        },
        (_, RequestStatus::Ended(_) | RequestStatus::NoAnswer) if row.part == Some(RolloutPart::Next) => {
            let name = &row.hostname;
            format!("{name}: its turn in the rollout has not come, and its install before it failed")
        }
        (_, RequestStatus::None) => format!("{}: {}, not asked to install", row.hostname, state(row.state)),
        _ => progress::line(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::tests::row;
    use crate::types::{Hash, Reason, SwVersion, Text};

    fn patch(repo_state: EntryState, patch_state: PatchState) -> PatchRow {
        PatchRow {
            id: PatchId::new("A-1").unwrap(),
            reboot_required: false,
            sw_version: SwVersion::default(),
            repo_state,
            patch_state,
            hash: Hash([0; 32]),
            size_bytes: 1,
            summary: Text::truncated(""),
            blocked_by: None,
            hosts_with: 1,
            hosts_concerned: 2,
        }
    }

    #[test]
    fn a_patch_s_own_causes_are_told_apart() {
        let codes = |row: &PatchRow, blob: Option<&BlobRow>| -> Vec<&str> {
            causes_of_patch(row, blob).iter().map(|cause| cause.code).collect()
        };
        let applied = patch(EntryState::Applied, PatchState::PartialApply);
        assert_eq!(codes(&applied, None), [""; 0], "the hosts lack it, and say why");
        let (available, removed) = (PatchState::Available, PatchState::PartialRemove);
        assert_eq!(codes(&patch(EntryState::Available, available), None), ["not-applied"]);
        assert_eq!(codes(&patch(EntryState::Available, removed), None), ["removed"]);
        let blocked = PatchRow { blocked_by: PatchId::new("B-1").ok(), hosts_concerned: 0, ..applied };
        let reason = Reason::truncated("refused");
        let blob = BlobRow { id: blocked.id.clone(), hash: blocked.hash, is_wanted: true, reason };
        assert_eq!(codes(&blocked, Some(&blob)), ["blocked", "concerns-no-host", "file-missing"]);
    }

    #[test]
    fn a_host_without_a_patch_is_shown_with_its_state() {
        assert_eq!(host_line(&row("w")), "w: idle, not asked to install");
        let earlier = HostRow { install: RequestStatus::Ended(Outcome::Installed), ..row("w") };
        assert_eq!(host_line(&earlier), "w: idle, not asked to install");
        let next = HostRow { part: Some(RolloutPart::Next), ..earlier };
        assert_eq!(host_line(&next), "w: idle, its turn in the rollout has not come");
        let failed = HostRow {
            install: RequestStatus::Ended(Outcome::RolledBack),
            state: HostState::InstallFailed,
            ..next
        };
        assert!(host_line(&failed).starts_with("w: its turn in the rollout has not come, and "));
        let lost = HostRow { state: HostState::Lost, age_ms: 90_000, ..row("w") };
        assert_eq!(host_line(&lost), "w: lost, heard 1 min 30 s ago");
    }
}
