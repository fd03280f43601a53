//! Whether the kernel ended a process for want of memory, and how much there is.

use std::fmt;
use std::fs::File;
use std::io::Read;

/// The processes that the kernel, or the limit of a control group, has ended for want of memory
/// since boot. `None` before Linux 4.13, and where /proc is not mounted.
#[must_use]
pub fn kills() -> Option<u64> {
    field("/proc/vmstat", b"oom_kill ")
}

/// The memory that processes may still have without others ending for it, for a text.
pub struct Available;

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match field("/proc/meminfo", b"MemAvailable:") {
            Some(kib) => write!(f, "; {kib} KiB are available now"),
            None => Ok(()),
        }
    }
}

/// The number behind a name at the start of a line.
#[inline(never)]
fn field(path: &str, name: &[u8]) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let (mut buffer, mut filled) = ([0; 1024], 0);
    loop {
        let len = file.read(&mut buffer[filled..]).ok()?;
        if len == 0 {
            return None;
        }
        filled += len;
        let end = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut lines = buffer[..end].split(|byte| *byte == b'\n');
        if let Some(value) = lines.find_map(|line| line.strip_prefix(name)) {
            let value = str::from_utf8(value).ok()?;
            return value.trim().trim_end_matches("kB").trim_end().parse().ok();
        }
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_wherever_it_is() {
        let whole = std::fs::read_to_string("/proc/meminfo").unwrap();
        for line in whole.lines() {
            let (name, value) = line.split_once(':').unwrap();
            let value: u64 = value.trim().trim_end_matches(" kB").parse().unwrap();
            let found = field("/proc/meminfo", format!("{name}:").as_bytes()).unwrap();
            // Most of them change all the time.
            if name.ends_with("Total") || name == "Hugepagesize" {
                assert_eq!(found, value, "{line}");
            }
        }
        assert_eq!(field("/proc/meminfo", b"NoSuchField:"), None);
        assert_eq!(field("/proc/no-such-file", b"oom_kill "), None);
        // Far behind, after many a buffer.
        assert!(kills().is_some());
    }
}
