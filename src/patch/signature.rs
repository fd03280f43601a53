//! Verifies the detached, prehashed minisign signatures of patch files.
//!
//! One pass over the file computes both hashes: BLAKE3, which identifies the patch from
//! then on, and BLAKE2b, which is signed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};

use ed25519_compact::{PublicKey, Signature};

use super::PatchError;
use crate::config::minisign_key::{base64, public_key};
use crate::limits;
use crate::types::{Hash, Text};

/// minisign's id of a key, displayed as minisign displays it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // minisign prints the number, so the last byte comes first.
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// The public keys whose signatures are accepted.
#[derive(Clone, Debug)]
pub struct TrustedKeys(Vec<(KeyId, PublicKey)>);

impl TrustedKeys {
    /// Reads public keys, each the base64 line of a minisign public key file.
    ///
    /// # Errors
    /// [`SignatureError::BadKey`]: a line is not such a key.
    pub fn parse(lines: &[String]) -> Result<Self, SignatureError> {
        let key = |line: &String| {
            let key = public_key(line.trim()).map(|(id, key)| (KeyId(id), PublicKey::new(key)));
            key.ok_or_else(|| SignatureError::BadKey { line: line.escape_debug().take(80).collect() })
        };
        lines.iter().map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// A file with a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedFile {
    /// BLAKE3 of the whole file.
    pub hash: Hash,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// The signer's comment, which is signed as well. What of it is not UTF-8 is replaced,
    /// and a tab by a space.
    pub trusted_comment: Text<256>,
}

/// Why a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// A line among the trusted keys is not a minisign public key.
    BadKey {
        /// The line.
        line: String,
    },
    /// The signature file is not a minisign signature, or is too long for one.
    NotASignature,
    /// The signature is over the file and not over its hash: checking it would need the
    /// whole file in memory.
    Legacy,
    /// The signature is by a key that is not trusted.
    UnknownKey {
        /// The signature's key.
        signed_by: KeyId,
        /// The trusted keys.
        trusted: Vec<KeyId>,
    },
    /// The signature is by a trusted key, but not over these bytes.
    Altered {
        /// The key.
        signed_by: KeyId,
    },
    /// The file is larger than [`limits::PATCH_FILE_BYTES`].
    TooLarge,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadKey { line } => write!(
                f,
                "\"{line}\" is not a minisign public key; \
                 take the second line of the .pub file that `minisign -G` wrote"
            ),
            Self::NotASignature => {
                f.write_str("its signature file is not a minisign signature: sign with `minisign -S -H`")
            }
            Self::Legacy => f.write_str("its signature is of the legacy kind: sign again with `minisign -H`"),
            Self::UnknownKey { signed_by, trusted } => {
                write!(f, "it is signed with the key {signed_by}, which is not trusted here; trusted: ")?;
                if trusted.is_empty() {
                    f.write_str("none")?;
                }
                for (at, key) in trusted.iter().enumerate() {
                    write!(f, "{}{key}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Altered { signed_by } => write!(
                f,
                "the signature of key {signed_by} does not hold: \
                 the file or its signature was altered, or they do not belong together; \
                 copy both again, or sign the file again"
            ),
            Self::TooLarge => {
                write!(f, "it is larger than {} bytes: make several patches of it", limits::PATCH_FILE_BYTES)
            }
        }
    }
}

impl std::error::Error for SignatureError {}

/// A signature by a trusted key that has not been checked against the file yet.
pub struct Claim<'k> {
    key: &'k PublicKey,
    signed_by: KeyId,
    /// Over the hash of the file.
    signature: Signature,
    trusted_comment: Vec<u8>,
    /// Over the signature and the comment.
    global_signature: Signature,
}

impl<'k> Claim<'k> {
    /// Parses a `.minisig` file and finds its key.
    ///
    /// # Errors
    /// [`SignatureError`]: it is not a signature, a legacy one, or by an unknown key.
    pub fn parse(signature: &[u8], keys: &'k TrustedKeys) -> Result<Self, SignatureError> {
        if signature.len() > limits::SIGNATURE_BYTES {
            return Err(SignatureError::NotASignature);
        }
        let parts = Parts::read(signature).ok_or(SignatureError::NotASignature)?;
        let signed_by = KeyId(parts.key_id);
        // The id only selects the key; the signature is checked with it.
        let Some((_, key)) = keys.0.iter().find(|(id, _)| *id == signed_by) else {
            let trusted = keys.0.iter().map(|(id, _)| *id).collect();
            return Err(SignatureError::UnknownKey { signed_by, trusted });
        };
        if !parts.is_prehashed {
            return Err(SignatureError::Legacy);
        }
        let Parts { signature, trusted_comment, global_signature, .. } = parts;
        Ok(Self { key, signed_by, signature, trusted_comment: trusted_comment.to_vec(), global_signature })
    }

    /// Begins the pass over the file's bytes.
    #[must_use]
    pub fn begin(&self) -> Pass<'_> {
        let (signed, content) = self.begin_halves();
        Pass { signed, content }
    }

    /// Begins the pass in two halves, each of which takes all of the file's bytes: for two threads.
    #[must_use]
    pub fn begin_halves(&self) -> (Signed, Content<'_>) {
        let content = Content { claim: self, hasher: blake3::Hasher::new(), size_bytes: 0 };
        (Signed(blake2b_simd::State::new()), content)
    }

    /// Begins the pass over a file, if its size, where it has one, allows that: what is too large is neither
    /// read nor copied first.
    ///
    /// # Errors
    /// [`SignatureError::TooLarge`]: the file is larger than a patch file may be.
    pub fn begin_file(&self, file: &File) -> Result<Pass<'_>, SignatureError> {
        let is_too_large = file.metadata().is_ok_and(|file| file.len() > limits::PATCH_FILE_BYTES);
        if is_too_large { Err(SignatureError::TooLarge) } else { Ok(self.begin()) }
    }

    /// Whether the signature holds for a file with this hash, and its comment is the
    /// signer's.
    fn holds(&self, signed: &blake2b_simd::Hash) -> bool {
        let with_comment = [self.signature.as_slice(), &self.trusted_comment].concat();
        self.key.verify(signed.as_bytes(), &self.signature).is_ok()
            && self.key.verify(with_comment, &self.global_signature).is_ok()
    }
}

/// The parts of a `.minisig` file: two comments, each followed by a line of base64. The
/// comments are bytes: minisign takes them as the maker's terminal has them.
struct Parts<'s> {
    is_prehashed: bool,
    key_id: [u8; 8],
    signature: Signature,
    trusted_comment: &'s [u8],
    global_signature: Signature,
}

impl<'s> Parts<'s> {
    fn read(file: &'s [u8]) -> Option<Self> {
        let mut lines =
            file.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let (_untrusted, first) = (lines.next()?, base64(lines.next()?)?);
        let trusted_comment = lines.next()?.strip_prefix(b"trusted comment: ")?;
        let global_signature = Signature::from_slice(&base64(lines.next()?)?).ok()?;
        let (algorithm, rest) = first.split_first_chunk::<2>()?;
        let (key_id, signature) = rest.split_first_chunk::<8>()?;
        Some(Self {
            is_prehashed: match algorithm {
                b"ED" => true,
                b"Ed" => false,
                _ => return None,
            },
            key_id: *key_id,
            signature: Signature::from_slice(signature).ok()?,
            trusted_comment,
            global_signature,
        })
    }
}

/// One pass over a file's bytes, which computes both hashes.
pub struct Pass<'c> {
    signed: Signed,
    content: Content<'c>,
}

impl Pass<'_> {
    /// Adds the next bytes of the file.
    ///
    /// # Errors
    /// [`SignatureError::TooLarge`]: the file is larger than a patch file may be.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), SignatureError> {
        self.content.update(bytes)?;
        self.signed.update(bytes);
        Ok(())
    }

    /// Checks the signature after the last byte.
    ///
    /// # Errors
    /// [`SignatureError::Altered`]: it does not match.
    pub fn finish(self) -> Result<VerifiedFile, SignatureError> {
        self.content.finish(self.signed)
    }
}

/// The half of a pass that computes the hash which is signed. It takes five times as long as the other, and is
/// sequential.
pub struct Signed(blake2b_simd::State);

impl Signed {
    /// Adds the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// The half of a pass that computes the hash by which the file is known.
pub struct Content<'c> {
    claim: &'c Claim<'c>,
    hasher: blake3::Hasher,
    size_bytes: u64,
}

impl Content<'_> {
    /// Adds the next bytes of the file.
    ///
    /// # Errors
    /// [`SignatureError::TooLarge`]: the file is larger than a patch file may be.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), SignatureError> {
        self.size_bytes += bytes.len() as u64;
        if self.size_bytes > limits::PATCH_FILE_BYTES {
            return Err(SignatureError::TooLarge);
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// Checks the signature after the last byte; `signed` has had all of them, too.
    ///
    /// # Errors
    /// [`SignatureError::Altered`]: it does not match.
    pub fn finish(self, signed: Signed) -> Result<VerifiedFile, SignatureError> {
        if !self.claim.holds(&signed.0.finalize()) {
            return Err(SignatureError::Altered { signed_by: self.claim.signed_by });
        }
        Ok(VerifiedFile {
            hash: Hash(*self.hasher.finalize().as_bytes()),
            size_bytes: self.size_bytes,
            // minisign separates its parts by tabs.
            trusted_comment: Text::truncated(
                &String::from_utf8_lossy(&self.claim.trusted_comment).replace('\t', " "),
            ),
        })
    }
}

/// Checks a whole file against its signature, in one pass from its first byte, and
/// rewinds the file.
///
/// # Errors
/// [`PatchError`]: the file could not be read, or the signature was refused.
pub fn verify(file: &mut File, signature: &[u8], keys: &TrustedKeys) -> Result<VerifiedFile, PatchError> {
    let claim = Claim::parse(signature, keys)?;
    let mut pass = claim.begin_file(file)?;
    file.rewind().map_err(PatchError::Io)?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => pass.update(&buffer[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PatchError::Io(error)),
        }
    }
    let verified = pass.finish()?;
    file.rewind().map_err(PatchError::Io)?;
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==";
    const PREHASHED: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==";

    fn keys() -> TrustedKeys {
        TrustedKeys::parse(&[KEY.to_string()]).unwrap()
    }

    fn refusal(signature: &[u8], keys: &TrustedKeys) -> String {
        Claim::parse(signature, keys).err().unwrap().to_string()
    }

    #[test]
    fn a_signature_is_valid_over_its_bytes_in_any_pieces() {
        let keys = keys();
        let claim = Claim::parse(PREHASHED.as_bytes(), &keys).unwrap();
        let mut pass = claim.begin();
        pass.update(b"te").unwrap();
        pass.update(b"st").unwrap();
        let verified = pass.finish().unwrap();
        assert_eq!(verified.hash, Hash(*blake3::hash(b"test").as_bytes()));
        assert_eq!(verified.size_bytes, 4);
        assert_eq!(verified.trusted_comment.raw(), "timestamp:1556193335 file:test");
    }

    #[test]
    fn a_file_is_refused_for_its_size_before_it_is_read() {
        let keys = keys();
        let claim = Claim::parse(PREHASHED.as_bytes(), &keys).unwrap();
        let path = std::env::temp_dir().join(format!("thimble-signature-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        // All of it is a hole.
        file.set_len(limits::PATCH_FILE_BYTES).unwrap();
        assert!(claim.begin_file(&file).is_ok());
        file.set_len(limits::PATCH_FILE_BYTES + 1).unwrap();
        assert_eq!(claim.begin_file(&file).err(), Some(SignatureError::TooLarge));
    }

    #[test]
    fn altered_bytes_and_an_altered_comment_are_refused() {
        let keys = keys();
        let altered = PREHASHED.replace("file:test", "file:tesT");
        for (signature, bytes) in [(PREHASHED, &b"tesT"[..]), (altered.as_str(), b"test")] {
            let claim = Claim::parse(signature.as_bytes(), &keys).unwrap();
            let mut pass = claim.begin();
            pass.update(bytes).unwrap();
            let refusal = pass.finish().unwrap_err();
            assert!(refusal.to_string().contains("E7620F1842B4E81F does not hold"), "{refusal}");
        }
    }

    #[test]
    fn a_legacy_signature_says_how_to_sign_again() {
        assert!(refusal(LEGACY.as_bytes(), &keys()).contains("sign again with `minisign -H`"));
    }

    #[test]
    fn an_unknown_key_is_named_beside_the_trusted_ones() {
        let none = TrustedKeys::parse(&[]).unwrap();
        let said = refusal(PREHASHED.as_bytes(), &none);
        assert!(said.contains("key E7620F1842B4E81F, which is not trusted here; trusted: none"), "{said}");
        let other = TrustedKeys::parse(&[KEY.replace("RWQf", "RWQe")]).unwrap();
        let said = refusal(PREHASHED.as_bytes(), &other);
        assert!(said.ends_with("trusted: E7620F1842B4E81E"), "{said}");
    }

    #[test]
    fn anything_but_a_signature_or_a_key_is_refused() {
        for bad in [&b""[..], b"untrusted comment: x\n", &[0xff; 100], &[b'a'; 2000]] {
            assert!(refusal(bad, &keys()).contains("not a minisign signature"));
        }
        for bad in ["", "RWQ", "untrusted comment: minisign public key", &KEY[1..]] {
            let refused = TrustedKeys::parse(&[bad.to_string()]).unwrap_err();
            assert!(refused.to_string().contains("is not a minisign public key"), "{refused}");
        }
    }
}
