//! `make`: makes a patch from a directory, on the machine where patches are built.

use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::patches::lines_json;
use crate::patch;

/// `thimble make DIR [-o FILE]`
pub fn make(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let dir = invocation.arguments.first().map(Path::new).unwrap_or(Path::new("."));
    let file = patch::make::make(dir, invocation.value("output").map(Path::new))
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    let shown = file.display();
    let lines = vec![format!("{shown} is made; sign it with `minisign -S -H -m {shown}`")];
    for line in &lines {
        out.line(line)?;
    }
    out.json(|| lines_json(lines))?;
    Ok(())
}
