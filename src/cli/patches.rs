//! Commands about patches: what is in the repository, and what is to become of it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::client::Client;
use super::confirm::confirm;
use super::exit::{Exit, Failure};
use super::json::Value;
use super::out::Out;
use super::parse::Invocation;
use super::table::{Align, Table};
use crate::daemon::job::PatchIds;
use crate::daemon::protocol::{PatchRow, PatchState, Reply, Request};
use crate::limits;
use crate::repo::entry::EntryState;
use crate::types::{PatchId, Text};

/// `thimble upload FILE..`: the files are opened here, so that the rights of
/// who types count, and travel as descriptors.
pub fn upload(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let mut client = None;
    let mut lines = Vec::new();
    // All are looked at before the first is sent.
    let files: Vec<Signed> = invocation.arguments.iter().map(Signed::open).collect::<Result<_, _>>()?;
    for files in files.chunks(limits::UPLOAD_FILES) {
        let names = files.iter().map(|file| Text::new(&file.name)).collect();
        let descriptors: Vec<RawFd> = files.iter().flat_map(Signed::descriptors).collect();
        let client = match &mut client {
            Some(client) => client,
            none => none.insert(Client::connect(&invocation.socket()?)?),
        };
        let request = Request::Upload { names };
        let asked = client.ask_with(&request, &descriptors, |reply| line(reply, &mut lines, out));
        asked.map_err(|failure| Failure { done: lines.clone(), ..failure })?;
    }
    out.json(|| lines_json(lines))?;
    Ok(())
}

/// A patch and its signature, open.
pub(super) struct Signed {
    name: String,
    /// The patch.
    pub patch: File,
    /// What lies beside it.
    pub signature: File,
}

impl Signed {
    /// Opens a patch and what must lie beside it.
    ///
    /// # Errors
    /// Either is missing or cannot be read; without a signature, it is not verified.
    pub fn open(path: &OsString) -> Result<Self, Failure> {
        let mut beside = path.clone();
        beside.push(".minisig");
        let patch = open(Path::new(path)).map_err(|failure| match failure {
            Unopened::Missing(shown) => Failure::new(Exit::Refused, format!("there is no file {shown}")),
            Unopened::Other(message) => Failure::new(Exit::Refused, message),
        })?;
        let signature = open(Path::new(&beside)).map_err(|failure| match failure {
            Unopened::Missing(shown) => Failure::new(
                Exit::Verification,
                format!(
                    "{} is not signed: there is no {shown}; sign it with `minisign -S -H -m {}`",
                    path.display(),
                    path.display()
                ),
            ),
            Unopened::Other(message) => Failure::new(Exit::Refused, message),
        })?;
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, patch, signature })
    }

    fn descriptors(&self) -> [RawFd; 2] {
        [self.patch.as_raw_fd(), self.signature.as_raw_fd()]
    }
}

enum Unopened {
    Missing(String),
    Other(String),
}

fn open(path: &Path) -> Result<File, Unopened> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unopened::Missing(shown.to_string()),
        _ => Unopened::Other(format!("{shown} cannot be read: {error}")),
    })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(Unopened::Other(format!("{shown} is not a file"))),
        Err(error) => Err(Unopened::Other(format!("{shown} cannot be read: {error}"))),
    }
}

/// `thimble apply ID..|--all`
pub fn apply(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    named_or_all(invocation)?;
    change(invocation, EntryState::Applied, out)
}

/// `thimble commit ID..|--all`: asks first.
pub fn commit(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    named_or_all(invocation)?;
    let what = if invocation.has("all") {
        "all that is applied".to_owned()
    } else {
        invocation.texts()?.join(", ") + " and what is required"
    };
    let sentence = format!("a commit is final ({what} can never be removed again)");
    confirm(invocation, out, &sentence, "Commit?")?;
    change(invocation, EntryState::Committed, out)
}

fn named_or_all(invocation: &Invocation) -> Result<(), Failure> {
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
    let request = Request::Change { to, ids: ids(invocation)?, force: invocation.has("force") };
    say(invocation, &request, out)
}

/// Asks for something whose replies are lines, and passes them on.
pub(super) fn say(invocation: &Invocation, request: &Request, out: &mut Out) -> Result<(), Failure> {
    let mut lines = Vec::new();
    let asked = Client::connect(&invocation.socket()?)?.ask(request, |reply| line(reply, &mut lines, out));
    asked.map_err(|failure| Failure { done: lines.clone(), ..failure })?;
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

/// The document of a command whose result is lines.
pub(super) fn lines_json(lines: Vec<String>) -> Value {
    Value::object([("lines", Value::list(lines.into_iter().map(Value::Text)))])
}

fn ids(invocation: &Invocation) -> Result<PatchIds, Failure> {
    let id = |text: &str| {
        PatchId::new(text).map_err(|bad| invocation.usage(&format!("{text:?} is no patch id: {bad}")))
    };
    invocation.texts()?.into_iter().map(id).collect()
}

/// `thimble show ID..`: the daemon's words as they come.
pub fn show(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let request = Request::Show { ids: ids(invocation)?, json: out.is_json() };
    Client::connect(&invocation.socket()?)?.ask(&request, |reply| match reply {
        Reply::Output(bytes) => Ok(out.raw(&bytes)?),
        _ => Ok(()),
    })
}

/// `thimble query [available|applied|committed] [--release R]`
pub fn query(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let only = match invocation.texts()?.first() {
        None => None,
        Some(&"available") => Some(EntryState::Available),
        Some(&"applied") => Some(EntryState::Applied),
        Some(&"committed") => Some(EntryState::Committed),
        Some(other) => {
            return Err(
                invocation.usage(&format!("{other:?} is not a state: available, applied or committed"))
            );
        }
    };
    let release = invocation.value("release").map(|release| release.to_string_lossy());
    let mut rows = Vec::new();
    Client::connect(&invocation.socket()?)?.ask(&Request::Query, |reply| {
        if let Reply::Patch(row) = reply {
            let is_release = release.as_ref().is_none_or(|release| row.sw_version.as_str() == release);
            if is_release && only.is_none_or(|state| row.repo_state == state) {
                rows.push(row);
            }
        }
        Ok(())
    })?;
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    out.text(query_text(&rows))?;
    out.json(|| Value::object([("patches", Value::list(rows.iter().map(patch_json)))]))?;
    Ok(())
}

const fn repo_state(state: EntryState) -> &'static str {
    match state {
        EntryState::Deleted => "Deleted",
        EntryState::Available => "Available",
        EntryState::Applied => "Applied",
        EntryState::Committed => "Committed",
    }
}

/// The table of `sw-patch query`, then what keeps wanted patches off the hosts.
fn query_text(rows: &[PatchRow]) -> String {
    let id = ("Patch ID", Align::Left);
    let [rr, release, repo, patch] =
        ["RR", "Release", "Repo State", "Patch State"].map(|header| (header, Align::Centre));
    let cells = |row: &PatchRow| {
        let rr = if row.reboot_required { "Y" } else { "N" };
        [row.id.as_str(), rr, row.sw_version.as_str(), repo_state(row.repo_state), row.patch_state.as_str()]
            .map(str::to_owned)
    };
    let mut text = if rows.iter().any(|row| row.patch_state == PatchState::NotApplicable) {
        let mut table = Table::new([id, rr, release, repo, patch]);
        rows.iter().for_each(|row| table.row(cells(row)));
        table.to_string()
    } else {
        let mut table = Table::new([id, rr, release, patch]);
        for row in rows {
            let [id, rr, release, _, patch] = cells(row);
            table.row([id, rr, release, patch]);
        }
        table.to_string()
    };
    text.push('\n');
    for row in rows {
        if let Some(required) = &row.blocked_by {
            text.push_str(&format!("{} is blocked: requires {required}\n", row.id));
        }
    }
    text
}

fn patch_json(row: &PatchRow) -> Value {
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
    use crate::types::{Hash, SwVersion};

    fn row(id: &str, patch_state: PatchState) -> PatchRow {
        PatchRow {
            id: PatchId::new(id).unwrap(),
            reboot_required: false,
            sw_version: SwVersion::new("24.09").unwrap(),
            repo_state: EntryState::Applied,
            patch_state,
            hash: Hash([0xAB; 32]),
            size_bytes: 17,
            summary: Text::new("tz \"data\""),
            blocked_by: None,
            hosts_with: 1,
            hosts_concerned: 3,
        }
    }

    #[test]
    fn query_is_sw_patch_s_table_with_a_blank_line_behind() {
        let rows = [row("TZDATA-1", PatchState::PartialApply), row("Z", PatchState::Applied)];
        let expected = "Patch ID  RR  Release   Patch State \n\
                        ========  ==  =======  =============\n\
                        TZDATA-1  N    24.09   Partial-Apply\n\
                        Z         N    24.09      Applied   \n\n";
        assert_eq!(query_text(&rows), expected);
    }

    #[test]
    fn query_shows_the_repo_state_where_no_host_can_say_more() {
        let rows = [row("P", PatchState::NotApplicable)];
        let expected = "Patch ID  RR  Release  Repo State  Patch State\n\
                        ========  ==  =======  ==========  ===========\n\
                        P         N    24.09    Applied        n/a    \n\n";
        assert_eq!(query_text(&rows), expected);
    }

    #[test]
    fn query_says_what_a_blocked_patch_requires() {
        let mut blocked = row("P2", PatchState::Available);
        blocked.blocked_by = Some(PatchId::new("P1").unwrap());
        assert!(query_text(&[blocked.clone()]).ends_with("\n\nP2 is blocked: requires P1\n"));
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

    #[test]
    fn a_patch_without_signature_is_not_sent_and_says_how_to_sign() {
        let path = std::env::temp_dir().join(format!("thimble-unsigned-{}.patch", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let failure = Signed::open(&path.clone().into()).err().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(failure.exit, Exit::Verification);
        assert!(failure.message.contains("minisign -S -H -m"), "{}", failure.message);
        let failure = Signed::open(&path.into()).err().unwrap();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.message.starts_with("there is no file"), "{}", failure.message);
    }
}
