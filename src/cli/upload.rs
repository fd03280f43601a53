//! `upload` and `upload-dir`: patch files into the repository.
//!
//! A refused file does not keep out the others. Each file is reported, and the exit code
//! is that of the worst failure.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use super::signed::{Signed, shown};
use super::verify;
use crate::control::{Reply, Request};
use crate::json::Value;
use crate::limits;
use crate::types::Text;

/// `thimble upload FILE..`
pub fn upload(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    Uploader::new(invocation, out, invocation.arguments.len()).take(&invocation.arguments)
}

/// `thimble upload-dir DIR..`: every `*.patch` file of each, by name.
pub fn upload_dir(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for dir in &invocation.arguments {
        match patches_in(Path::new(dir)) {
            Ok(found) => files.extend(found),
            Err(sentence) => refused.push((dir, Failure::new(Exit::Refused, sentence))),
        }
    }
    let mut uploader = Uploader::new(invocation, out, files.len() + refused.len());
    for (dir, failure) in refused {
        uploader.refused(shown(dir), failure)?;
    }
    uploader.take(&files)
}

/// The patch files of a directory, sorted; those that match `*.patch` in a shell.
fn patches_in(dir: &Path) -> Result<Vec<OsString>, String> {
    let shown = dir.display();
    let unread = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no directory {shown}"),
        io::ErrorKind::NotADirectory => {
            format!("{shown} is a file: upload takes files, upload-dir the directories that they are in")
        }
        _ => format!("{shown} cannot be read: {error}"),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unread)? {
        let name = entry.map_err(unread)?.file_name();
        let is_hidden = name.as_encoded_bytes().first() == Some(&b'.');
        if !is_hidden && Path::new(&name).extension() == Some(OsStr::new("patch")) {
            files.push(dir.join(name).into_os_string());
        }
    }
    if files.is_empty() {
        return Err(format!("{shown} holds no patch: no file in it is called *.patch"));
    }
    files.sort_unstable();
    Ok(files)
}

/// Uploads files and keeps the result of each.
struct Uploader<'a> {
    invocation: &'a Invocation,
    out: &'a mut Out,
    /// The number of files and of unreadable directories.
    all: usize,
    client: Option<Client>,
    /// The daemon's lines.
    lines: Vec<String>,
    files: Vec<Value>,
    /// The first failure and the number of failures. Its exit code becomes the worst.
    failed: Option<(Failure, usize)>,
}

impl<'a> Uploader<'a> {
    fn new(invocation: &'a Invocation, out: &'a mut Out, all: usize) -> Self {
        Self { invocation, out, all, client: None, lines: Vec::new(), files: Vec::new(), failed: None }
    }

    /// Uploads all files, as many at a time as fit a request, and reports the result.
    fn take(mut self, paths: &[OsString]) -> Result<(), Failure> {
        let mut paths = paths.to_vec();
        // Floors come last, the lowest first: one below another that is there is refused.
        if paths.len() > 1
            && let Ok(keys) = verify::trusted(self.invocation)
        {
            paths.sort_by_cached_key(|path| verify::floor_serial(path, &keys));
        }
        for some in paths.chunks(limits::UPLOAD_FILES) {
            let mut signed = Vec::new();
            for path in some {
                match Signed::open(path) {
                    Ok(file) => signed.push(file),
                    Err(failure) => self.refused(shown(path), failure)?,
                }
            }
            let mut rest = &signed[..];
            while !rest.is_empty() {
                let taken = self.send(rest).map_err(|failure| self.ending(failure))?;
                rest = &rest[taken..];
            }
        }
        self.end()
    }

    /// Sends some files; returns the number of files with a known result. The daemon
    /// takes one after the other, with a line for each, and stops at the first refused.
    fn send(&mut self, files: &[Signed]) -> Result<usize, Failure> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(&self.invocation.socket()?)?),
        };
        let request =
            Request::Upload { names: files.iter().map(|file| Text::truncated(&file.name)).collect() };
        let descriptors: Vec<RawFd> = files.iter().flat_map(Signed::descriptors).collect();
        let (mut taken, out) = (0, &mut *self.out);
        let asked = client.ask_with(&request, &descriptors, &mut |reply| {
            let Reply::Line(line) = reply else { return Ok(()) };
            out.line(&line)?;
            if let Some(file) = files.get(taken) {
                self.files.push(file_json(&file.name, true, &line.to_string()));
                taken += 1;
            }
            self.lines.push(line.to_string());
            Ok(())
        });
        match (asked, files.get(taken)) {
            (Ok(()), _) => Ok(files.len()),
            (Err(failure), Some(file)) if matches!(failure.exit, Exit::Refused | Exit::Verification) => {
                let is_repeated = |(first, _): &(Failure, usize)| first.message == failure.message;
                if taken == 0 && self.failed.as_ref().is_some_and(is_repeated) {
                    // The reason is not this file's: all others would fail the same way.
                    let message = failure.message + "; the remaining files were not tried";
                    return Err(Failure { message, ..Failure::silent(failure.exit) });
                }
                self.refused(file.name.clone(), failure)?;
                Ok(taken + 1)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// Reports a refused file.
    fn refused(&mut self, name: String, failure: Failure) -> Result<(), Failure> {
        self.files.push(file_json(&name, false, &failure.message));
        if self.all > 1 {
            let what = failure.message.strip_prefix(&format!("{name}: ")).unwrap_or(&failure.message);
            self.out.line(format_args!("{name}: FAILED: {what}"))?;
        }
        match &mut self.failed {
            none @ None => *none = Some((failure, 1)),
            Some((first, count)) => {
                *count += 1;
                if failure.exit == Exit::Verification {
                    first.exit = failure.exit;
                }
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        match self.failed.take() {
            None => {
                let (lines, files) = (self.lines.into_iter().map(Value::Text), self.files);
                self.out
                    .json(|| Value::object([("lines", Value::list(lines)), ("files", Value::list(files))]))?;
                Ok(())
            }
            Some((failure, _)) if self.all == 1 => Err(self.ending(failure)),
            Some((Failure { exit, message, .. }, count)) => {
                let rest = if count == self.all { "" } else { "; the others are in the repository" };
                let sentence = match count {
                    1 => format!("{message}{rest}"),
                    _ => format!("{count} of {} were not taken{rest}; the first: {message}", self.all),
                };
                Err(self.ending(Failure::new(exit, sentence)))
            }
        }
    }

    /// The final failure, with the results so far.
    fn ending(&mut self, failure: Failure) -> Failure {
        let files = Value::list(std::mem::take(&mut self.files));
        Failure { done: std::mem::take(&mut self.lines), more: vec![("files", files)], ..failure }
    }
}

fn file_json(name: &str, is_taken: bool, message: &str) -> Value {
    Value::object([
        ("file", Value::text(name)),
        ("taken", is_taken.into()),
        ("message", Value::text(message)),
    ])
}
