//! The progress of installs, as `host-install`, a rollout and `watch` show it: the
//! rows of the hosts, and a line for each.

use std::borrow::Borrow;
use std::time::Duration;

use super::client::Client;
use super::exit::Failure;
use crate::control::{HostRow, HostState, Reply, Request, RequestStatus};
use crate::wire::install::Outcome;

/// How often the daemon is asked for progress.
pub const POLL: Duration = Duration::from_millis(300);

/// Asks the daemon for rows of hosts.
///
/// # Errors
/// As [`Client::ask`].
pub(super) fn ask(client: &mut Client, request: impl Borrow<Request>) -> Result<Vec<HostRow>, Failure> {
    let mut rows = Vec::new();
    client.ask(request, |reply| {
        if let Reply::Host(row) = reply {
            rows.push(row);
        }
        Ok(())
    })?;
    Ok(rows)
}

/// The line of one host.
pub(super) fn line(row: &HostRow) -> String {
    let because = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
    let status = match row.install {
        RequestStatus::Waiting => "asked, no answer yet".to_owned(),
        RequestStatus::Running => match row.state {
            HostState::Installing { step, percent } => format!("{percent:>3}%  {}", step.as_str()),
            _ => "begun".to_owned(),
        },
        RequestStatus::Ended(Outcome::Installed) if row.reboot_required => {
            format!("installed; a reboot is needed before all of it is in effect{because}")
        }
        RequestStatus::Ended(Outcome::Installed) => format!("installed{because}"),
        RequestStatus::Ended(Outcome::Rejected) => format!("rejected{because}"),
        RequestStatus::Ended(Outcome::RolledBack) => {
            format!("failed, the previous patches are back in place{because}")
        }
        RequestStatus::Ended(Outcome::Broken) => {
            format!("failed, and the previous patches could not be restored{because}")
        }
        RequestStatus::NoAnswer => format!("no answer: whether it is installing is unknown{because}"),
        RequestStatus::None => {
            "the daemon has no record of the request (was it restarted?); the outcome is unknown".to_owned()
        }
    };
    format!("{}: {status}", row.hostname)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hosts::tests::row;
    use crate::types::{NodeId, Reason};
    use crate::wire::install::Step;

    fn host(name: &str, node: u64, install: RequestStatus) -> HostRow {
        HostRow { node: NodeId(node), install, ..row(name) }
    }

    #[test]
    fn each_outcome_is_shown_with_its_reason() {
        let mut failed = host("w", 1, RequestStatus::Ended(Outcome::RolledBack));
        failed.reason = Reason::truncated("health: exit status 1");
        assert_eq!(line(&failed), "w: failed, the previous patches are back in place: health: exit status 1");
        let mut running = host("w", 1, RequestStatus::Running);
        running.state = HostState::Installing { step: Step::Switching, percent: 61 };
        assert_eq!(line(&running), "w:  61%  switching");
        let done = host("w", 1, RequestStatus::Ended(Outcome::Installed));
        assert_eq!(line(&done), "w: installed");
        let noted = HostRow { reason: Reason::truncated("/etc/a was changed by hand and stays"), ..done };
        assert_eq!(line(&noted), "w: installed: /etc/a was changed by hand and stays");
        let noted = HostRow { reboot_required: true, ..noted };
        assert!(line(&noted).ends_with("in effect: /etc/a was changed by hand and stays"));
    }
}
