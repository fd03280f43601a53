//! `commit`: shows the patches that it would commit, asks for confirmation, and commits.

use super::client::Client;
use super::command::Invocation;
use super::confirm::{ask, must_ask};
use super::exit::{Exit, Failure};
use super::out::Out;
use super::patches::{ids, named_or_all, patch_json, print_lines_from};
use crate::control::{Reply, Request};
use crate::job::PatchIds;
use crate::json::Value;
use crate::limits;
use crate::repo::entry::EntryState;
use crate::types::Reason;

/// `thimble commit ID..|--all [--release R] [--dry-run] [--yes] [--force]`
pub fn commit(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    named_or_all(invocation)?;
    let is_release = invocation.has("release");
    if is_release && !invocation.has("all") {
        return Err(
            invocation.usage("--release is allowed only with --all: a named patch has its release already")
        );
    }
    let what = if invocation.has("all") {
        "all applied patches".to_owned()
    } else {
        invocation.texts()?.join(", ") + " and the patches they require"
    };
    let warning = format!("a commit is final ({what} can never be removed again)");
    let is_dry = invocation.has("dry-run");
    let asks = !is_dry && must_ask(invocation, out, &warning)?;

    let mut client = Client::connect(&invocation.socket()?)?;
    let mut ids = ids(invocation)?;
    if is_release {
        ids = applied_for_release(invocation, &mut client)?;
    }
    // Without ids the request would mean the patches of all releases.
    let is_nothing = is_release && ids.is_empty();
    if is_dry || asks {
        let preview = if is_nothing { nothing(out)? } else { show(&mut client, invocation, &ids, out)? };
        if is_dry {
            return preview.dry(out);
        }
        preview.check_allowed()?;
        if preview.patches == 0 {
            return Ok(());
        }
        ask(&format!("{warning}. Commit?"))?;
        // Only the patches that were shown, not those applied since.
        ids = preview.ids.unwrap_or(ids);
    } else if is_nothing {
        return Ok(out.line("Nothing to do.").and_then(|()| out.end_list("lines"))?);
    }
    let force = invocation.has("force");
    let request = Request::Change { to: EntryState::Committed, ids, force, below_floor: false };
    print_lines_from(&mut client, &request, out)
}

/// The applied patches for the given release.
fn applied_for_release(invocation: &Invocation, client: &mut Client) -> Result<PatchIds, Failure> {
    let release = invocation.value("release").unwrap_or_default().to_string_lossy();
    let (mut ids, mut count) = (PatchIds::new(), 0);
    client.ask(Request::Query, |reply| {
        if let Reply::Patch(row) = reply
            && row.repo_state == EntryState::Applied
            && row.sw_version.as_str() == release
        {
            count += 1;
            let _ = ids.push(row.id);
        }
        Ok(())
    })?;
    if count > ids.len() {
        let most = limits::COMMAND_NAMES;
        let sentence = format!(
            "{count} patches for {release} are applied, and one command takes {most}: commit some of them by name \
             first, or all applied patches with --all alone"
        );
        return Err(Failure::new(Exit::Refused, sentence));
    }
    Ok(ids)
}

/// The preview of a commit.
struct Preview {
    patches: usize,
    /// Their ids; `None` if one command cannot name them all.
    ids: Option<PatchIds>,
    hosts: u32,
    refusal: Reason,
}

impl Preview {
    fn check_allowed(&self) -> Result<(), Failure> {
        if self.refusal.is_empty() {
            return Ok(());
        }
        let sentence = format!("the commit would be refused: {}", self.refusal);
        Err(Failure { more: self.members(), ..Failure::new(Exit::Refused, sentence) })
    }

    /// The end of a dry run.
    fn dry(&self, out: &mut Out) -> Result<(), Failure> {
        self.check_allowed()?;
        Ok(out.json(|| Value::object(self.members()))?)
    }

    fn members(&self) -> Vec<(&'static str, Value)> {
        vec![("would_be_done", self.refusal.is_empty().into()), ("hosts", self.hosts.into())]
    }
}

/// The preview of a commit of no patch.
fn nothing(out: &mut Out) -> Result<Preview, Failure> {
    out.line("Nothing to commit.")?;
    out.list("patches")?;
    Ok(Preview { patches: 0, ids: None, hosts: 0, refusal: Reason::default() })
}

/// Shows the preview of a commit of these patches.
fn show(
    client: &mut Client,
    invocation: &Invocation,
    ids: &PatchIds,
    out: &mut Out,
) -> Result<Preview, Failure> {
    let mut preview =
        Preview { patches: 0, ids: Some(PatchIds::new()), hosts: 0, refusal: Reason::default() };
    let request = Request::WouldCommit { ids: ids.clone(), force: invocation.has("force") };
    client.ask(&request, |reply| {
        match reply {
            Reply::Commitment { hosts, refusal } => {
                (preview.hosts, preview.refusal) = (hosts, refusal);
                out.list("patches")?;
            }
            Reply::Patch(row) => {
                if preview.patches == 0 {
                    out.line("The following patches would be committed:")?;
                }
                preview.patches += 1;
                out.line(format_args!("    {}", row.id))?;
                out.item("patches", || patch_json(&row))?;
                // With one id too many there are none: the command then names none.
                preview.ids = preview.ids.take().filter(|ids| !ids.is_full());
                if let Some(ids) = &mut preview.ids {
                    let _ = ids.push(row.id);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    match preview.patches {
        0 => out.line("Nothing to commit.")?,
        _ => out.text(frees(preview.hosts))?,
    }
    Ok(preview)
}

/// What the commit frees, as far as a controller knows.
fn frees(hosts: u32) -> String {
    let hosts = match hosts {
        0 => "No host is known to have any of them, so no host frees space.".to_owned(),
        1 => "1 host has some of them. At its next install it frees the files kept for their removal. \
              Only the host knows their size."
            .to_owned(),
        more => format!(
            "{more} hosts have some of them. At their next install they free the files kept for their \
             removal. Only each host knows their size."
        ),
    };
    format!("\n{hosts}\nThe repository frees nothing: a new host needs the patch files.\n")
}
