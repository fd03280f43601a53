//! Keys and signatures made with the minisign program, as a patch's maker does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A key pair without a password, in a directory.
pub struct Signer {
    secret: PathBuf,
    /// The base64 line that goes into `trusted_keys`.
    pub public: String,
}

impl Signer {
    /// Makes a key pair called `name` in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let (secret, public) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pub")));
        minisign(&["-G", "-W", "-f"], &[("-p", &public), ("-s", &secret)]);
        let public = std::fs::read_to_string(public).unwrap();
        Self { secret, public: public.lines().nth(1).unwrap().to_string() }
    }

    /// Signs `file`; returns the contents of `file.minisig`.
    pub fn sign(&self, file: &Path) -> Vec<u8> {
        minisign(&["-S", "-H"], &[("-s", &self.secret), ("-m", file)]);
        std::fs::read(signature_path(file)).unwrap()
    }

    /// Signs `file` with comments of the maker's, in any bytes.
    pub fn sign_with_comments(&self, file: &Path, untrusted: &[u8], trusted: &[u8]) -> Vec<u8> {
        let [untrusted, trusted] = [untrusted, trusted].map(|text| Path::new(OsStr::from_bytes(text)));
        let paths = [("-s", &*self.secret), ("-m", file), ("-c", untrusted), ("-t", trusted)];
        minisign(&["-S", "-H"], &paths);
        std::fs::read(signature_path(file)).unwrap()
    }

    /// Signs `file` as minisign did before 0.10.
    pub fn sign_legacy(&self, file: &Path) -> Vec<u8> {
        minisign(&["-S", "-l"], &[("-s", &self.secret), ("-m", file)]);
        std::fs::read(signature_path(file)).unwrap()
    }
}

/// The path of a file's minisign signature.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

fn minisign(flags: &[&str], paths: &[(&str, &Path)]) {
    let mut command = Command::new("minisign");
    command.args(flags);
    for (flag, path) in paths {
        command.arg(flag).arg(path);
    }
    let output = command.stdin(Stdio::null()).output().expect("minisign must be installed: make setup");
    assert!(output.status.success(), "minisign: {}", String::from_utf8_lossy(&output.stderr));
}
