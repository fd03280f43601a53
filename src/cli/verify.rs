//! `verify`: checks patches like an upload, without a daemon.

use std::ffi::OsString;
use std::io::Read;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::signed::Signed;
use crate::config::{Config, trusted_key};
use crate::json::Value;
use crate::limits;
use crate::patch::archive::{self, Archive};
use crate::patch::caution::{Caution, Cautions};
use crate::patch::signature::{self, TrustedKeys, VerifiedFile};
use crate::visible::Visible;

/// `thimble verify [--trust KEY].. FILE..`: checks every file, whatever
/// the results before.
pub fn verify(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let keys = trusted(invocation)?;
    let mut worst = Exit::Done;
    let mut documents = Vec::new();
    for path in &invocation.arguments {
        let shown = Visible(path.display());
        let verdict = Signed::open(path).and_then(|file| check(file, &keys));
        match &verdict {
            Ok(Checked { archive: Archive { metadata, members, unpacked_bytes }, cautions, .. }) => {
                out.line(format_args!(
                    "{shown}: OK: {} for {}, {members} members, {unpacked_bytes} bytes unpacked",
                    metadata.id, metadata.sw_version
                ))?;
                for caution in cautions {
                    out.line(format_args!("{shown}: {}: {caution}", out.style().yellow("caution")))?;
                }
            }
            Err(failure) => {
                out.line(format_args!("{shown}: {}: {}", out.style().red("FAILED"), failure.message))?;
                if worst != Exit::Verification {
                    worst = failure.exit;
                }
            }
        }
        documents.push(document(path.display().to_string(), &verdict));
    }
    out.json(|| Value::object([("files", Value::list(documents))]))?;
    match worst {
        Exit::Done => Ok(()),
        other => Err(Failure::silent(other)),
    }
}

/// The trusted keys: those of `--trust`, else those of the configuration.
pub(super) fn trusted(invocation: &Invocation) -> Result<TrustedKeys, Failure> {
    let mut lines = Vec::new();
    for key in invocation.values("trust") {
        let text = key.to_string_lossy();
        // Unlike in the configuration, the path may be relative.
        let line = match std::path::absolute(key) {
            Ok(path) if path.is_file() => trusted_key(&path.to_string_lossy()),
            _ => trusted_key(&text),
        };
        lines.push(line.map_err(|sentence| Failure::new(Exit::Refused, format!("--trust: {sentence}")))?);
    }
    if lines.is_empty() {
        lines = Config::load(invocation.config())
            .map_err(|error| Failure::new(Exit::Refused, format!("{error}; or name keys with --trust KEY")))?
            .security
            .trusted_keys;
    }
    TrustedKeys::parse(&lines).map_err(|error| Failure::new(Exit::Refused, error.to_string()))
}

/// The serial of a signed floor; `None` of any other file.
pub(super) fn floor_serial(path: &OsString, keys: &TrustedKeys) -> Option<u32> {
    let file = Signed::open(path).ok()?;
    if file.patch.metadata().ok()?.len() > limits::FLOOR_FILE_BYTES {
        return None;
    }
    Some(check(file, keys).ok()?.archive.metadata.floor?.serial)
}

/// A patch that an upload would accept.
struct Checked {
    file: VerifiedFile,
    archive: Archive,
    cautions: Vec<Caution>,
}

fn check(mut file: Signed, keys: &TrustedKeys) -> Result<Checked, Failure> {
    let unreadable = |error| Failure::new(Exit::Refused, format!("the signature cannot be read: {error}"));
    let mut text = Vec::new();
    let most = limits::SIGNATURE_BYTES as u64;
    (&mut file.signature).take(most + 1).read_to_end(&mut text).map_err(unreadable)?;
    let checked = signature::verify(&mut file.patch, &text, keys).and_then(|verified| {
        let mut cautions = Cautions::new();
        let archive = archive::members(&file.patch, &mut |member| cautions.add(member))?;
        Ok(Checked { file: verified, archive, cautions: cautions.found() })
    });
    checked.map_err(|error| {
        let exit = if error.is_verification() { Exit::Verification } else { Exit::Refused };
        Failure::new(exit, error.to_string())
    })
}

fn document(file: String, verdict: &Result<Checked, Failure>) -> Value {
    let Checked { file: verified, archive, cautions } = match verdict {
        Ok(checked) => checked,
        Err(failure) => {
            return Value::object([
                ("file", Value::Text(file)),
                ("verified", false.into()),
                ("error", Value::text(&failure.message)),
            ]);
        }
    };
    Value::object([
        ("file", Value::Text(file)),
        ("verified", true.into()),
        ("id", Value::text(&archive.metadata.id)),
        ("release", Value::text(&archive.metadata.sw_version)),
        ("hash", Value::text(verified.hash)),
        ("size_bytes", verified.size_bytes.into()),
        ("trusted_comment", Value::text(&verified.trusted_comment)),
        ("members", (archive.members as u64).into()),
        ("unpacked_bytes", archive.unpacked_bytes.into()),
        ("cautions", Value::list(cautions.iter().map(Value::text))),
    ])
}
