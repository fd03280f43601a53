//! What an update takes as a difference, beside xdelta3 with the tars of both trees: updates of Debian's packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thimble::patch::make::{MakeOptions, make_with};

use crate::Bench;
use crate::common::figures::{Figure, Most, skipped};

const PART: &str = "differences";
/// What is aimed at, for each package.
const MOST_RATIO: f64 = 1.2;

/// Trees of packages, and the program beside which they are packed.
struct Packages {
    xdelta3: PathBuf,
    /// Of each package the old and the new tree of its updates.
    updates: BTreeMap<String, Vec<[PathBuf; 2]>>,
}

impl Packages {
    /// Fetches them; or says why they cannot be had.
    fn fetch() -> Result<Self, String> {
        let fetched =
            Command::new("benches/peers/packages.sh").output().map_err(|error| error.to_string())?;
        if !fetched.status.success() {
            return Err(String::from_utf8_lossy(&fetched.stderr).trim().replace("SKIPPED: ", ""));
        }
        let said = String::from_utf8(fetched.stdout).unwrap();
        let mut lines = said.lines();
        let xdelta3 = lines.next().expect("its first line").into();
        let mut updates = BTreeMap::<_, Vec<_>>::new();
        for line in lines {
            let [name, old, new] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            updates.entry(name.to_owned()).or_default().push([old.into(), new.into()]);
        }
        Ok(Self { xdelta3, updates })
    }

    /// The bytes of the difference between two archives.
    fn xdelta3(&self, [old, new]: [&Path; 2], out: &Path) -> u64 {
        let mut command = Command::new(&self.xdelta3);
        // A window that has all of the old archive.
        command.args(["-e", "-9", "-f", "-B", "536870912", "-s"]).arg(old).arg(new).arg(out);
        assert!(command.status().unwrap().success(), "xdelta3");
        size(out)
    }
}

/// A tree as a patch, with differences to another one.
fn patch(dir: &Path, tree: &Path, id: &str, from: Option<&Path>) -> PathBuf {
    let source = dir.join("source");
    let _ = fs::remove_dir_all(&source);
    fs::create_dir(&source).unwrap();
    let requires = if from.is_some() { "requires = [\"OLD-1\"]\n" } else { "" };
    let metadata = format!("id = \"{id}\"\nsw_version = \"1.0\"\nsummary = \"a package\"\n{requires}");
    fs::write(source.join("metadata.toml"), metadata).unwrap();
    // Of the same files by links.
    let copied = Command::new("cp").arg("-al").arg(tree).arg(source.join("files")).status().unwrap();
    assert!(copied.success(), "cp");
    let out = dir.join(format!("{id}.patch"));
    let _ = fs::remove_file(&out);
    let from: Vec<_> = from.into_iter().collect();
    make_with(&source, &MakeOptions { out: Some(&out), from: &from, ..MakeOptions::default() }).unwrap();
    out
}

fn tar(tree: &Path, out: &Path) {
    let mut command = Command::new("tar");
    command
        .args(["--sort=name", "--mtime=@0", "--format=ustar", "-cf"])
        .arg(out)
        .arg("-C")
        .arg(tree)
        .arg(".");
    assert!(command.stdout(Stdio::null()).status().unwrap().success(), "tar");
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// The sum of each package's updates, since some are small.
pub fn differences() {
    let packages = match Packages::fetch() {
        Ok(packages) => packages,
        Err(why) => return skipped(PART, "differences beside xdelta3", &why),
    };
    let bench = Bench::on_disk();
    let dir: &Path = &bench.dir;
    for (name, updates) in &packages.updates {
        let (mut whole, mut ours, mut theirs) = (0, 0, 0);
        for [old, new] in updates {
            let before = patch(dir, old, "OLD-1", None);
            whole += size(&patch(dir, new, "WHOLE-1", None));
            ours += size(&patch(dir, new, "NEW-1", Some(&before)));
            let tars = [dir.join("old.tar"), dir.join("new.tar")];
            tar(old, &tars[0]);
            tar(new, &tars[1]);
            theirs += packages.xdelta3([&tars[0], &tars[1]], &dir.join("xdelta"));
        }
        let steps = updates.len();
        let name = format!("{name}: difference, {steps} updates, whole {} KiB", whole >> 10);
        let kib = |bytes: u64| vec![bytes as f64 / 1024.0];
        let figure = Figure::new(PART, &name, "KiB", kib(ours)).beside("xdelta3 -9", kib(theirs));
        figure.target(Most::Ratio(MOST_RATIO)).record();
    }
}
