//! Where the metrics go: to standard output, into the file that a collector reads, or to a
//! scraper that asks over HTTP.
//!
//! A collector takes what it finds in the file for what is so now, and a scraper calls a
//! node up that answers. So both get a text also where the daemon cannot be reached: one
//! with `thimble_up` 0 and nothing else. Standard output gets nothing then.
//!
//! Why no HTTP in the daemon: it would open a port, and keep connections of strangers, in
//! the process that holds the keys. Whatever listens (systemd, inetd) starts this command
//! for a connection, which is its standard input and output.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::client::Client;
use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::metrics::MetricsWriter;
use super::out::Out;
use super::status_report::StatusReport;
use crate::json::Value;

/// A request's head may be this long. What is longer is answered, and not read to its end.
const REQUEST_BYTES: usize = 16 * 1024;

const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
    Connection: close\r\n\r\n";

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\n\
    Content-Type: text/plain\r\n\
    Connection: close\r\n\r\n\
    Only GET /metrics is here.\n";

/// `thimble metrics [-o FILE | --http]`
pub fn metrics(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let file = invocation.value("output").map(Path::new);
    let is_http = invocation.has("http");
    if file.is_some() && is_http || out.is_json() && (file.is_some() || is_http) {
        return Err(invocation.usage("metrics takes one of --json, --http and -o FILE"));
    }
    if is_http && !is_for_metrics(&mut io::stdin())? {
        return Ok(out.made(NOT_FOUND)?);
    }
    let report = invocation.socket().and_then(|socket| StatusReport::ask(&mut Client::connect(&socket)?));
    let mut writer = MetricsWriter::of(report.as_ref().ok(), out.is_json());
    writer.text.push_str("# EOF\n");
    if is_http {
        out.made(FOUND)?;
        // The scraper has its answer: an exit code would tell nobody.
        return Ok(out.text(&writer.text)?);
    }
    if let Some(file) = file {
        let text = out.style().visible(&writer.text, true);
        replace(file, &text).map_err(|error| {
            let sentence = format!(
                "{} cannot be written: {error}; its directory must exist, and be one that this user may write to",
                file.display()
            );
            Failure::new(Exit::Refused, sentence)
        })?;
        return report.map(drop);
    }
    report?;
    out.text(&writer.text)?;
    out.json(|| Value::object([("metrics", Value::List(writer.samples))]))?;
    Ok(())
}

/// Reads the head of a request, to its end: what is not read when a connection is closed
/// has the system reset it, and the answer may be lost. True for `GET /metrics`.
///
/// # Errors
/// Those of the connection.
fn is_for_metrics(connection: &mut dyn Read) -> io::Result<bool> {
    let mut head = vec![0; REQUEST_BYTES];
    let mut len = 0;
    let is_end = |four: &[u8]| four == b"\r\n\r\n" || four.ends_with(b"\n\n");
    while len < head.len() && !head[..len].windows(4).any(is_end) {
        match connection.read(&mut head[len..])? {
            0 => break,
            read => len += read,
        }
    }
    Ok([b"GET /metrics ", b"GET /metrics?"].iter().any(|start| head.starts_with(*start)))
}

/// Replaces a file, or makes it: whoever reads it finds the old text or the new one.
/// Nothing is synced: after a power cut the next run replaces what there is.
///
/// # Errors
/// The system's. The old file is still there, and none is left beside it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    // What a run that was killed has left. Where others may write to the directory, it may
    // be a link: it is removed, never followed.
    let _ = fs::remove_file(&beside);
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_to_the_end_of_its_head_and_only_metrics_are_found() {
        // It comes byte by byte.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let len = self.0.len().min(1).min(to.len());
                self.0.read(&mut to[..len])
            }
        }
        let asks = |head: &str| {
            let mut connection = Slow(head.as_bytes());
            let found = is_for_metrics(&mut connection).unwrap();
            assert_eq!(is_for_metrics(&mut head.as_bytes()).unwrap(), found, "at once");
            (found, connection.0.len())
        };
        assert_eq!(asks("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nmore"), (true, 4));
        assert_eq!(asks("GET /metrics?x=1 HTTP/1.0\n\nmore"), (true, 4));
        assert_eq!(asks("GET /metrics/more HTTP/1.1\r\n\r\n"), (false, 0));
        assert_eq!(asks("GET / HTTP/1.1\r\n\r\n"), (false, 0));
        assert_eq!(asks("POST /metrics HTTP/1.1\r\n\r\n"), (false, 0));
        assert_eq!(asks("GET /metrics"), (false, 0), "cut short");
        assert_eq!(asks("\u{fffd}\n\n"), (false, 0));
        assert_eq!(asks(""), (false, 0));
        let long = ["GET /metrics HTTP/1.1\r\nX: ", &"y".repeat(20_000), "\r\n\r\n"].concat();
        assert_eq!(asks(&long), (true, long.len() - 16 * 1024));
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_link_beside_it_is_not_followed() {
        let dir = std::env::temp_dir().join(format!("thimble-scrape-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let (path, beside, other) = (dir.join("a.prom"), dir.join("a.prom.new"), dir.join("other"));
        fs::write(&other, "other").unwrap();
        std::os::unix::fs::symlink(&other, &beside).unwrap();
        replace(&path, "first").unwrap();
        let held = File::open(&path).unwrap();
        replace(&path, "second").unwrap();
        let old = io::read_to_string(held).unwrap();
        let new = fs::read_to_string(&path).unwrap();
        let others = fs::read_to_string(&other).unwrap();
        assert_eq!((&*old, &*new, &*others), ("first", "second", "other"));
        // A directory cannot be replaced by a file.
        fs::create_dir(dir.join("b.prom")).unwrap();
        assert!(replace(&dir.join("b.prom"), "third").is_err());
        let left = fs::read_dir(&dir).unwrap().count();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(left, 3, "a file is left beside");
    }
}
