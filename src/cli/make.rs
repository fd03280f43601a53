//! `make`: makes a patch from a directory, on the machine where patches are built.

use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::{self, Out};
use super::patches::lines_json;
use crate::clock::unix_ms;
use crate::patch;
use crate::patch::make::{MakeOptions, Travel};
use crate::time::Day;

/// `thimble make DIR [-o FILE] [--keep-owners] [--from PATCH].. [--base DIR] [--floor FILE]..`
pub fn make(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let dir = invocation.arguments.first().map(Path::new).unwrap_or(Path::new("."));
    let out_file = invocation.value("output").map(Path::new);
    let floor: Vec<_> = invocation.values("floor").map(Path::new).collect();
    let from: Vec<_> = invocation.values("from").map(Path::new).collect();
    let options = MakeOptions {
        out: out_file,
        keep_owners: invocation.has("keep-owners"),
        floor: &floor,
        from: &from,
        base: invocation.value("base").map(Path::new),
    };
    let made = patch::make::make_with(dir, &options)
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    let shown = made.file.display();
    let mut lines = vec![format!("{shown} is made; sign it with `minisign -S -H -m {shown}`")];
    if let Some(Travel { left_out, differences, whole }) = made.travel {
        lines.push(format!(
            "{shown}: {differences} files travel as differences, {whole} whole, and {left_out} are left out, as \
             patches that it requires have them"
        ));
    }
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
