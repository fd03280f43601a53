//! `make`: makes a patch from a directory, on the machine where patches are built.

use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::{self, Out};
use super::patches::lines_json;
use crate::clock::unix_ms;
use crate::patch;
use crate::time::Day;

/// `thimble make DIR [-o FILE] [--keep-owners] [--floor FILE]..`
pub fn make(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let dir = invocation.arguments.first().map(Path::new).unwrap_or(Path::new("."));
    let out_file = invocation.value("output").map(Path::new);
    let required: Vec<_> = invocation.values("floor").map(Path::new).collect();
    let made = patch::make::make_floor(dir, out_file, invocation.has("keep-owners"), &required)
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    let shown = made.file.display();
    let mut lines = vec![format!("{shown} is made; sign it with `minisign -S -H -m {shown}`")];
    lines.extend(made.cautions.iter().map(|caution| format!("{shown}: caution: {caution}")));
    let today = Day::of_unix_ms(unix_ms());
    for doubt in made.metadata.says().iter().flat_map(|says| says.doubts(today)) {
        out::note(format_args!("{shown}: warning: {doubt}"));
    }
    for line in &lines {
        out.line(line)?;
    }
    out.json(|| lines_json(lines))?;
    Ok(())
}
