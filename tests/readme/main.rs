//! Follows README.md: its commands are typed on nodes of their own, in its order, and
//! their output must be what it shows. The other documents are compared with the code.

mod documents;
mod json;
mod limits;
mod node;
mod readme;
mod scp;
mod screen;
mod shown;
mod site;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use site::Site;

/// The time that README promises to a person; the test is faster.
const MOST: Duration = Duration::from_secs(600);

/// Writes past the test harness, which captures output; in one write, so that output of
/// other tests does not come between.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_readme_and_the_sections_that_use_its_cluster_work_as_written() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return say("SKIPPED: README is not followed: needs root: tests/rig/as_root.sh COMMAND");
    }
    let mut site = Site::new();
    let began = Instant::now();
    site.follow("README.md", None);
    let (took, commands) = (began.elapsed(), site.commands);
    assert!(took < MOST, "it took {took:?}");
    assert!(commands > 30, "the commands are not where this test looks for them");

    ["controller-0", "worker-0"].iter().for_each(|name| site.is_explained(name));
    site.documents_are_explained();
    site.follow("docs/controllers.md", Some("Deleted patches and purge"));
    site.follow("docs/keys.md", Some("Changing the secret of a running cluster"));
    say(&format!(
        "README.md: {commands} commands followed in {:.1} s, and {} of the guide's",
        took.as_secs_f64(),
        site.commands - commands
    ));
}
