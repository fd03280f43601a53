//! `what-requires`, `query-dependencies`, `is-applied`, `is-available`: questions about
//! named patches, with answers for scripts.

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::{self, Out};
use super::patches::{ids, repo_state};
use crate::control::{PatchState, Reply, Request};
use crate::json::Value;
use crate::types::PatchId;

/// `thimble what-requires ID..`, in the words of `sw-patch`.
pub fn what_requires(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let ids = ids(invocation)?;
    let mut pairs: Vec<(PatchId, PatchId)> = Vec::new();
    let request = Request::WhatRequires { ids: ids.clone() };
    Client::connect(&invocation.socket()?)?.ask(&request, |reply| {
        if let Reply::RequiredBy { id, by } = reply {
            pairs.push((id, by));
        }
        Ok(())
    })?;
    for id in &ids {
        let by: Vec<&str> = pairs.iter().filter(|(of, _)| of == id).map(|(_, by)| by.as_str()).collect();
        out.line(match by.is_empty() {
            true => format!("{id} is not required by any patches."),
            false => format!("{id} is required by: {}", by.join(", ")),
        })?;
        out.item("patches", || {
            Value::object([("id", Value::text(id)), ("required_by", Value::list(by.iter().map(Value::text)))])
        })?;
    }
    Ok(out.end_list("patches")?)
}

/// `thimble query-dependencies ID.. [--recursive]`: one id per line, like `sw-patch`.
pub fn query_dependencies(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let request = Request::Requires { ids: ids(invocation)?, is_recursive: invocation.has("recursive") };
    let mut absent = Vec::new();
    Client::connect(&invocation.socket()?)?.ask(&request, |reply| {
        let Reply::Required { id, state } = reply else { return Ok(()) };
        out.line(&id)?;
        out.item("dependencies", || {
            let state = state.map(|state| Value::text(repo_state(state)));
            Value::object([("id", Value::text(&id)), ("repo_state", Value::or_null(state))])
        })?;
        if state.is_none() {
            absent.push(id.to_string());
        }
        Ok(())
    })?;
    if !absent.is_empty() {
        // On standard error, because scripts read the list.
        out::note(format_args!("not in the repository: {}", absent.join(", ")));
    }
    Ok(out.end_list("dependencies")?)
}

/// `thimble is-applied ID..`: whether all are on every host that they concern. Committed
/// patches count.
pub fn is_applied(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    are(invocation, "applied", &[PatchState::Applied, PatchState::Committed], out)
}

/// `thimble is-available ID..`: whether all are in the repository and on no host.
pub fn is_available(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    are(invocation, "available", &[PatchState::Available], out)
}

/// Prints `True` or `False`, like `sw-patch`, and on standard error the patches for which
/// it is false.
fn are(
    invocation: &Invocation,
    what: &'static str,
    states: &[PatchState],
    out: &mut Out,
) -> Result<(), Failure> {
    let ids = ids(invocation)?;
    let mut found = Vec::new();
    Client::connect(&invocation.socket()?)?.ask(Request::Patches { ids: ids.clone() }, |reply| {
        if let Reply::Patch(row) = reply {
            found.push((row.id, row.patch_state));
        }
        Ok(())
    })?;
    let mut others = Vec::new();
    for id in &ids {
        let state = found.iter().find(|(found, _)| found == id).map(|(_, state)| *state);
        let is_true = state.is_some_and(|state| states.contains(&state));
        if !is_true {
            others.push(format!("{id} ({})", state.map_or("not in the repository", PatchState::as_str)));
        }
        out.item("patches", || {
            let state = state.map(|state| Value::text(state.as_str()));
            Value::object([
                ("id", Value::text(id)),
                (what, is_true.into()),
                ("patch_state", Value::or_null(state)),
            ])
        })?;
    }
    out.line(if others.is_empty() { "True" } else { "False" })?;
    out.json(|| Value::object([(what, others.is_empty().into())]))?;
    if others.is_empty() {
        return Ok(());
    }
    // `False` is an answer, not an error, so the document has no error member.
    out::note(format_args!("not {what}: {}", others.join(", ")));
    Err(Failure::silent(Exit::Refused))
}
