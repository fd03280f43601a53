//! Commands that show and change the repository's patches.

use std::borrow::Borrow;

use super::client::Client;
use super::command::Invocation;
use super::exit::Failure;
use super::out::Out;
use super::table::{Align, TextTable};
use super::term::Style;
use crate::control::{PatchRow, PatchState, Reply, Request};
use crate::job::PatchIds;
use crate::json::Value;
use crate::repo::entry::EntryState;
use crate::types::PatchId;

/// `thimble apply ID..|--all`
pub fn apply(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    named_or_all(invocation)?;
    change(invocation, EntryState::Applied, out)
}

pub(super) fn named_or_all(invocation: &Invocation) -> Result<(), Failure> {
    let command = invocation.command.name;
    match (invocation.has("all"), invocation.arguments.is_empty()) {
        (false, true) => Err(invocation.usage(&format!("{command} wants ID, or --all"))),
        (true, false) => Err(invocation.usage(&format!("{command} takes ID or --all, not both"))),
        _ => Ok(()),
    }
}

/// `thimble remove ID..`
pub fn remove(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    change(invocation, EntryState::Available, out)
}

/// `thimble delete ID..`
pub fn delete(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    change(invocation, EntryState::Deleted, out)
}

fn change(invocation: &Invocation, to: EntryState, out: &mut Out) -> Result<(), Failure> {
    let (force, below_floor) = (invocation.has("force"), invocation.has("below-floor"));
    let request = Request::Change { to, ids: ids(invocation)?, force, below_floor };
    print_lines(invocation, &request, out)
}

/// Sends a request whose replies are lines, and prints them.
pub(super) fn print_lines(
    invocation: &Invocation,
    request: impl Borrow<Request>,
    out: &mut Out,
) -> Result<(), Failure> {
    print_lines_from(&mut Client::connect(&invocation.socket()?)?, request.borrow(), out)
}

/// As [`print_lines`], over an open connection.
pub(super) fn print_lines_from(client: &mut Client, request: &Request, out: &mut Out) -> Result<(), Failure> {
    let mut lines = Vec::new();
    let asked = client.ask(request, |reply| line(reply, &mut lines, out));
    asked.map_err(|failure| Failure { done: lines.clone(), ..failure })?;
    if lines.is_empty() {
        out.line("Nothing to do.")?;
    }
    out.json(|| lines_json(lines))?;
    Ok(())
}

fn line(reply: Reply, lines: &mut Vec<String>, out: &mut Out) -> Result<(), Failure> {
    if let Reply::Line(text) = reply {
        out.line(&text)?;
        lines.push(text.to_string());
    }
    Ok(())
}

/// The document for a result of lines.
pub(super) fn lines_json(lines: Vec<String>) -> Value {
    Value::object([("lines", Value::list(lines.into_iter().map(Value::Text)))])
}

pub(super) fn ids(invocation: &Invocation) -> Result<PatchIds, Failure> {
    let id = |text: &str| {
        PatchId::new(text).map_err(|bad| invocation.usage(&format!("{text:?} is not a patch id: {bad}")))
    };
    invocation.texts()?.into_iter().map(id).collect()
}

/// `thimble show ID..`. The daemon writes the text. It is passed on piece by piece, but
/// to a terminal as a whole.
pub fn show(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let request = Request::Show { ids: ids(invocation)?, json: out.is_json() };
    let mut document = Vec::new();
    Client::connect(&invocation.socket()?)?.ask(&request, |reply| {
        let Reply::Output(bytes) = reply else { return Ok(()) };
        document.extend_from_slice(&bytes);
        // A document must be complete, and half a line can be neither folded nor read.
        let end = document.iter().rposition(|byte| *byte == b'\n').filter(|_| !out.is_json());
        if let Some(end) = end.filter(|_| out.columns().is_none()) {
            let rest = document.split_off(end + 1);
            out.text(plain(&document))?;
            document = rest;
        }
        Ok(())
    })?;
    if out.is_json() {
        return Ok(out.made(&document)?);
    }
    Ok(out.text(plain(&document))?)
}

/// Text from outside, which has no marks of ours.
fn plain(document: &[u8]) -> String {
    Style::default().visible(&String::from_utf8_lossy(document), true)
}

/// `thimble query [available|applied|committed] [--release R]`
pub fn query(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let only = match invocation.texts()?.first() {
        None => None,
        Some(&"available") => Some(EntryState::Available),
        Some(&"applied") => Some(EntryState::Applied),
        Some(_) => Some(EntryState::Committed),
    };
    let release = invocation.value("release").map(|release| release.to_string_lossy());
    let mut cells = Vec::new();
    let mut blocked = String::new();
    Client::connect(&invocation.socket()?)?.ask(Request::Query, |reply| {
        let Reply::Patch(row) = reply else { return Ok(()) };
        let is_release = release.as_ref().is_none_or(|release| row.sw_version.as_str() == release);
        if !is_release || only.is_some_and(|state| row.repo_state != state) {
            return Ok(());
        }
        out.item("patches", || patch_json(&row))?;
        if !out.is_json() {
            cells.push(patch_cells(&row));
            blocked.push_str(&blocked_text(&row));
        }
        Ok(())
    })?;
    cells.sort_unstable();
    out.text(patches_text(cells, &blocked, out.columns()))?;
    Ok(out.end_list("patches")?)
}

pub(super) const fn repo_state(state: EntryState) -> &'static str {
    match state {
        EntryState::Deleted | EntryState::Voided => "Deleted",
        EntryState::Available => "Available",
        EntryState::Applied => "Applied",
        EntryState::Committed => "Committed",
    }
}

fn patch_cells(row: &PatchRow) -> [String; 5] {
    let rr = if row.reboot_required { "Y" } else { "N" };
    [row.id.as_str(), rr, row.sw_version.as_str(), repo_state(row.repo_state), row.patch_state.as_str()]
        .map(str::to_owned)
}

/// A line that says which missing requirement blocks an applied patch; empty if none.
fn blocked_text(row: &PatchRow) -> String {
    let line = |required| format!("{} is blocked: requires {required}\n", row.id);
    row.blocked_by.as_ref().map(line).unwrap_or_default()
}

/// The table of `sw-patch query`, then the lines about blocked patches.
fn patches_text(rows: Vec<[String; 5]>, blocked: &str, columns: Option<usize>) -> String {
    let id = ("Patch ID", Align::Left);
    let [rr, release, repo, patch] =
        ["RR", "Release", "Repo State", "Patch State"].map(|header| (header, Align::Centre));
    let table = if rows.iter().any(|[.., patch]| patch == PatchState::NotApplicable.as_str()) {
        let mut table = TextTable::new([id, rr, release, repo, patch]);
        rows.into_iter().for_each(|row| table.row(row));
        table.fit(columns)
    } else {
        let mut table = TextTable::new([id, rr, release, patch]);
        for [id, rr, release, _, patch] in rows {
            table.row([id, rr, release, patch]);
        }
        table.fit(columns)
    };
    table + "\n" + blocked
}

pub(super) fn patch_json(row: &PatchRow) -> Value {
    Value::object([
        ("id", Value::text(&row.id)),
        ("reboot_required", row.reboot_required.into()),
        ("release", Value::text(&row.sw_version)),
        ("repo_state", Value::text(repo_state(row.repo_state))),
        ("patch_state", Value::text(row.patch_state.as_str())),
        ("hash", Value::text(row.hash)),
        ("size_bytes", row.size_bytes.into()),
        ("summary", Value::text(&row.summary)),
        ("blocked_by", Value::or_null(row.blocked_by.as_ref().map(Value::text))),
        ("hosts_with", row.hosts_with.into()),
        ("hosts_concerned", row.hosts_concerned.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Hash, SwVersion, Text};

    fn row(id: &str, patch_state: PatchState) -> PatchRow {
        PatchRow {
            id: PatchId::new(id).unwrap(),
            reboot_required: false,
            sw_version: SwVersion::new("24.09").unwrap(),
            repo_state: EntryState::Applied,
            patch_state,
            hash: Hash([0xAB; 32]),
            size_bytes: 17,
            summary: Text::truncated("tz \"data\""),
            blocked_by: None,
            hosts_with: 1,
            hosts_concerned: 3,
        }
    }

    #[test]
    fn query_prints_sw_patch_s_table_and_a_blank_line() {
        let rows = [row("TZDATA-1", PatchState::PartialApply), row("Z", PatchState::Applied)];
        let expected = "Patch ID  RR  Release   Patch State\n\
                        ========  ==  =======  =============\n\
                        TZDATA-1  N    24.09   Partial-Apply\n\
                        Z         N    24.09      Applied\n\n";
        assert_eq!(patches_text(rows.iter().map(patch_cells).collect(), "", None), expected);
    }

    #[test]
    fn query_shows_the_repo_state_if_no_host_has_reported() {
        let rows = [row("P", PatchState::NotApplicable)];
        let expected = "Patch ID  RR  Release  Repo State  Patch State\n\
                        ========  ==  =======  ==========  ===========\n\
                        P         N    24.09    Applied        n/a\n\n";
        assert_eq!(patches_text(rows.iter().map(patch_cells).collect(), "", None), expected);
    }

    #[test]
    fn query_shows_the_requirement_of_a_blocked_patch() {
        let mut blocked = row("P2", PatchState::Available);
        blocked.blocked_by = Some(PatchId::new("P1").unwrap());
        let text = patches_text(vec![patch_cells(&blocked)], &blocked_text(&blocked), None);
        assert!(text.ends_with("\n\nP2 is blocked: requires P1\n"), "{text}");
        assert!(patch_json(&blocked).to_string().contains(r#""blocked_by":"P1""#));
    }

    #[test]
    fn the_json_of_a_patch_has_the_documented_keys() {
        let json = patch_json(&row("P", PatchState::PartialApply)).to_string();
        let hash = "ab".repeat(32);
        let expected = format!(
            r#"{{"id":"P","reboot_required":false,"release":"24.09","repo_state":"Applied","patch_state":"Partial-Apply","hash":"{hash}","size_bytes":17,"summary":"tz \"data\"","blocked_by":null,"hosts_with":1,"hosts_concerned":3}}"#
        );
        assert_eq!(json, expected);
    }
}
