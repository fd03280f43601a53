//! Files of a repository as deployed controllers have them.

use std::io;
use std::path::Path;

use thimble::config::Config;
use thimble::job::Report;
use thimble::job::reporter::Reporter;
use thimble::store::{self, Store};
use thimble::types::{Hostname, NodeId};

use crate::repository::{entry, rollout};
use crate::{CONTROLLER, golden, name};

/// Calls `act` with a state directory whose repository has these files.
fn with_files<T>(files: &[(&str, &str)], act: impl FnOnce(&Path) -> T) -> T {
    let names: Vec<_> = files.iter().map(|(_, file)| *file).collect();
    let dir = format!("thimble-golden-{}-{}", std::process::id(), names.join("-"));
    let dir = std::env::temp_dir().join(dir);
    std::fs::create_dir_all(dir.join("repo")).unwrap();
    for (path, file) in files {
        std::fs::write(dir.join("repo").join(path), golden(file)).unwrap();
    }
    let result = act(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    result
}

#[test]
fn a_map_of_any_version_is_read() {
    let files = [("map_file_1", 0, None), ("map_file_2", 40, None), ("map_file_3", 40, Some(rollout()))];
    for (file, floor, rollout) in files {
        with_files(&[("map", file)], |dir| {
            let store = Store::open(dir).unwrap();
            assert_eq!((store.replica(), store.counter()), (0x8877_6655_4433_2211, 42), "{file}");
            assert_eq!((store.floor(), store.entries()), (floor, &[entry()][..]), "{file}");
            assert_eq!(store.rollout().copied(), rollout, "{file}");
        });
    }
}

struct Known(Vec<(NodeId, Hostname)>);

impl Reporter for Known {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        if let Report::Controller { node, hostname } = report {
            self.0.push((*node, hostname.clone()));
        }
        assert!(!matches!(report, Report::Failed { .. }), "{report:?}");
        Ok(())
    }
}

#[test]
fn the_list_of_known_controllers_is_read() {
    let known = with_files(&[("map", "map_file_2"), ("controllers", "controllers_file")], |dir| {
        let text = format!(
            "[node]\nroles = [\"controller\"]\nstate_dir = \"{}\"\nhostname = \"c\"\n\
             [network]\ninterface = \"lo\"\n[security]\nauth = \"none\"\n\
             trusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n",
            dir.display()
        );
        let mut known = Known(Vec::new());
        store::load(&Config::parse(&text, "test").unwrap(), true, &mut known).unwrap();
        known.0
    });
    assert_eq!(known, [(CONTROLLER, name("controller-1")), (NodeId(9), Hostname::default())]);
}
