//! Opens a stream session's connection to a host, and closes it at once.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::PingRow;

/// How long a host may take to accept.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time from one look to the next.
const LOOK: Duration = Duration::from_micros(50);
/// The code of a host that accepted nothing and refused nothing.
pub const SILENT: &str = "session-silent";

/// Connects to where a host accepts sessions. Returns the time that it took, in microseconds.
///
/// # Errors
/// Why not: a code for scripts, and in words.
pub fn open(row: &PingRow) -> Result<u32, (&'static str, String)> {
    let began = Instant::now();
    match connect(row, began) {
        Ok(()) => Ok(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => ("session-refused", "refused".to_owned()),
            io::ErrorKind::TimedOut => (SILENT, "no answer in 3 s".to_owned()),
            _ => ("session-failed", error.to_string()),
        }),
    }
}

fn connect(row: &PingRow, began: Instant) -> io::Result<()> {
    let stream = begin(row)?;
    while !is_open(&stream) {
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        if began.elapsed() >= PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(not(feature = "tipc"))]
fn begin(row: &PingRow) -> io::Result<mio::net::TcpStream> {
    use std::net::SocketAddr;

    let address = row.address.raw();
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let address: SocketAddr =
        format!("{address}:{}", row.port).parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    mio::net::TcpStream::connect(address)
}

#[cfg(not(feature = "tipc"))]
fn is_open(stream: &mio::net::TcpStream) -> bool {
    stream.peer_addr().is_ok()
}

#[cfg(feature = "tipc")]
fn begin(row: &PingRow) -> io::Result<crate::tipc::Stream> {
    use crate::tipc::address::Destination;

    let node = u32::from_str_radix(row.address.raw(), 16).map_err(|_| io::ErrorKind::InvalidInput)?;
    let to = Destination::Service { service_type: row.port, instance: node, domain: node };
    crate::tipc::Stream::connect(&to)
}

#[cfg(feature = "tipc")]
fn is_open(stream: &crate::tipc::Stream) -> bool {
    stream.peer().is_ok()
}

/// Where a host accepts sessions, for people who open firewalls.
#[must_use]
pub fn door(row: &PingRow) -> String {
    match cfg!(feature = "tipc") {
        true => format!("the session service of node {}", row.address),
        false => format!("TCP port {} of {}", row.port, row.address),
    }
}
