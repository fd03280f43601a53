//! No folder imports what the table of layers in `src/lib.rs` does not allow it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source::{modules_of_src, resolve};

/// The table: what each folder may import; of a file named with its folder, what that
/// one may import besides.
struct Layers {
    allowed: BTreeMap<String, BTreeSet<String>>,
    /// Every folder, the lowest first; those of one row together.
    rows: Vec<Vec<String>>,
}

impl Layers {
    fn read() -> Self {
        let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
        let text = fs::read_to_string(lib).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix('|'));
        let mut layers = Self { allowed: BTreeMap::new(), rows: Vec::new() };
        for line in lines.skip(1) {
            let [names, _, imports] = line.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("a row of the table of layers has not three columns: {line}")
            };
            let (names, mut imports) = (quoted(names), quoted(imports));
            match layers.rows.first() {
                None => imports.extend(names.iter().cloned()),
                Some(first) => imports.extend(first.iter().cloned()),
            }
            for name in &names {
                layers.allowed.insert(name.clone(), imports.iter().cloned().collect());
            }
            layers.rows.push(names);
        }
        assert!(layers.rows.len() > 8, "the table of layers is not where this test looks for it");
        layers
    }
}

/// The names in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn no_row_of_the_table_names_a_row_below_it() {
    let layers = Layers::read();
    let row = |name: &String| layers.rows.iter().position(|row| row.contains(name));
    for (at, names) in layers.rows.iter().enumerate().skip(1) {
        for import in names.iter().flat_map(|name| &layers.allowed[name]) {
            let of = row(import).unwrap_or_else(|| panic!("{names:?} may import {import}, which has no row"));
            assert!(of < at, "{names:?} may import {import}, whose row is not above its own");
        }
    }
}

#[test]
fn no_folder_imports_what_its_row_does_not_name() {
    let layers = Layers::read();
    let modules = modules_of_src();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (module, (file, code)) in &modules {
        let folder = &module[0];
        let allowed =
            layers.allowed.get(folder).unwrap_or_else(|| panic!("src/{folder} has no row in src/lib.rs"));
        let also = layers.allowed.get(file.to_str().unwrap());
        for (inline, path) in code.paths() {
            let found = resolve(module, &inline, &path, |name| modules.contains_key(name));
            let Some(import) = found.and_then(|found| found.first().cloned()) else { continue };
            if import == *folder {
                continue;
            }
            used.insert((folder.clone(), import.clone()));
            if !allowed.contains(&import) && !also.is_some_and(|also| also.contains(&import)) {
                wrong.push(format!("src/{}.rs: {}", file.display(), path.join("::")));
            }
        }
    }
    assert!(used.len() > 40, "imports are not found: {used:?}");
    wrong.sort();
    assert!(wrong.is_empty(), "imports that the table in src/lib.rs does not allow:\n{}", wrong.join("\n"));
    // A table that allows what nobody does is not read.
    for (name, imports) in layers.allowed.iter().filter(|(name, _)| !name.contains('/')) {
        for import in imports.difference(&layers.rows[0].iter().cloned().collect()) {
            assert!(
                used.contains(&(name.clone(), import.clone())),
                "src/{name} does not import {import} any more"
            );
        }
    }
}
