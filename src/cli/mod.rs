//! The command line: one table of commands and a function for each.
//!
//! [`parse`] turns arguments into an [`command::Invocation`] according to the table
//! ([`commands`]). The command's function runs and returns, and the process ends with an
//! [`exit::Exit`]. Requests to the daemon go through [`client`]. Results go through
//! [`out`], as text in the layout of `sw-patch`'s tables or as one JSON document
//! ([`crate::json`]).

pub mod client;
pub mod command;
pub mod commands;
pub mod exit;
pub mod out;
pub mod parse;
pub mod table;
pub mod term;

mod check;
mod commit;
mod completions;
mod confirm;
mod controllers;
mod counts;
mod decode;
mod explain;
mod guard;
mod help;
mod host_install;
mod hosts;
mod install_local;
mod keygen;
#[cfg(feature = "tools")]
mod make;
#[cfg(feature = "tools")]
mod man;
mod metrics;
mod numbers;
mod patches;
mod ping;
mod progress;
mod relations;
mod rollout;
mod run;
mod scrape;
mod signed;
mod spread;
mod status;
mod status_json;
mod status_report;
pub(crate) mod sys;
mod tipc;
mod upload;
mod verify;
mod watch;

use std::env;
use std::ffi::OsStr;
use std::process::ExitCode;

use exit::{Exit, Failure};
use out::Out;
use term::Style;

/// Parses this process's arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().skip(1).collect();
    // Looked for before parsing, so that a usage error is reported as JSON too.
    let is_json = words.iter().any(|word| word == "--json");
    let mut out = Out::new(is_json);
    let result = parse::parse(words).and_then(|invocation| {
        out.set_style(Style::new(invocation.value("color").and_then(OsStr::to_str)));
        (invocation.command.run)(&invocation, &mut out)
    });
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            report_failure(&failure, &mut out);
            failure.exit.into()
        }
    }
}

/// Reports a failure: as text on standard error and, with `--json`, as a document.
fn report_failure(failure: &Failure, out: &mut Out) {
    if failure.message.is_empty() {
        return;
    }
    out::note(format_args!("thimble: {}", failure.message));
    let _ = out.json(|| failure.json());
}
