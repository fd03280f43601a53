//! No two files of a folder import each other, directly or by way of others.
//!
//! A module and its submodules are one: what a submodule takes from the module above
//! it, and the other way round, is not counted. Nor are tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Module, modules_of_src, resolve};

/// Circles that stay, by one file of each. docs/architecture.md says why.
const ARGUED: &[&str] = &[];

#[test]
fn no_two_files_import_each_other() {
    let modules = modules_of_src();
    let mut imports: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, (_, code)) in &modules {
        if module.iter().any(|name| name == "tests" || name == "fixture") {
            continue;
        }
        let found = code.paths().into_iter().filter(|(inline, _)| !inline.iter().any(|name| name == "tests"));
        let found = found
            .filter_map(|(inline, path)| resolve(module, &inline, &path, |name| modules.contains_key(name)));
        imports
            .insert(module, found.filter(|to| !to.starts_with(module) && !module.starts_with(to)).collect());
    }
    let edges: usize = imports.values().map(BTreeSet::len).sum();
    assert!(edges > 500, "imports are not found: {edges}");

    let reaches = |from: &Module, to: &Module| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(module) = left.pop() {
            for next in imports.get(module).into_iter().flatten() {
                if next == to {
                    return true;
                }
                if seen.insert(next) {
                    left.push(next);
                }
            }
        }
        false
    };
    let mut circles = Vec::new();
    for (from, tos) in &imports {
        for to in tos.iter().filter(|to| reaches(to, from)) {
            circles.push(format!("{} -> {}", from.join("/"), to.join("/")));
        }
    }
    circles.retain(|edge| !edge.split(" -> ").all(|file| ARGUED.contains(&file)));
    assert!(circles.is_empty(), "files that import each other:\n{}", circles.join("\n"));
}
