//! Signatures made by stock minisign, accepted or refused.

use std::fs::{self, File};

use thimble::patch::signature::{TrustedKeys, verify};
use thimble::types::Hash;

use crate::support::Scratch;
use crate::support::sign::Signer;

#[test]
fn only_a_trusted_prehashed_signature_over_these_bytes_is_accepted() {
    let scratch = Scratch::new("signature");
    let [trusted, stranger] = ["trusted", "stranger"].map(|name| Signer::new(&scratch, name));
    let keys = TrustedKeys::parse(&[stranger.public.clone(), trusted.public.clone()]).unwrap();
    let one_key = TrustedKeys::parse(std::slice::from_ref(&trusted.public)).unwrap();
    let path = scratch.join("x.patch");
    let content = vec![7; 300_000];
    fs::write(&path, &content).unwrap();

    let signature = trusted.sign(&path);
    for keys in [&keys, &one_key] {
        let verified = verify(&mut File::open(&path).unwrap(), &signature, keys).unwrap();
        assert_eq!(verified.hash, Hash(*blake3::hash(&content).as_bytes()));
        assert_eq!(verified.size_bytes, 300_000);
        assert!(verified.trusted_comment.raw().contains("file:x.patch"));
    }

    let refusal = |signature: &[u8]| {
        let refused = verify(&mut File::open(&path).unwrap(), signature, &one_key).unwrap_err();
        assert!(refused.is_verification());
        refused.to_string()
    };
    assert!(refusal(&stranger.sign(&path)).contains("which is not trusted here"));
    assert!(refusal(&trusted.sign_legacy(&path)).contains("sign again with `minisign -H`"));
    assert!(refusal(b"").contains("not a minisign signature"));
    fs::write(&path, &content[1..]).unwrap();
    assert!(refusal(&signature).contains("does not hold"));
}

/// minisign signs comments of up to 4,077 bytes, as they come from the terminal.
#[test]
fn comments_as_long_as_minisign_makes_and_in_any_bytes_verify() {
    let scratch = Scratch::new("comments");
    let signer = Signer::new(&scratch, "maker");
    let keys = TrustedKeys::parse(std::slice::from_ref(&signer.public)).unwrap();
    let path = scratch.join("x.patch");
    fs::write(&path, "content").unwrap();
    let verify = |signature: &[u8]| verify(&mut File::open(&path).unwrap(), signature, &keys);
    let latin: Vec<u8> = b"gepr\xfcft \xff".to_vec();
    for (untrusted, trusted) in [(900, vec![b't'; 4_077]), (1, vec![0xff; 4_077]), (900, latin)] {
        let signature = signer.sign_with_comments(&path, &vec![b'u'; untrusted], &trusted);
        assert!(signature.len() <= thimble::limits::SIGNATURE_BYTES);
        let verified = verify(&signature).unwrap();
        let begins = String::from_utf8_lossy(&trusted[..6]).into_owned();
        assert!(verified.trusted_comment.raw().starts_with(&begins), "{}", verified.trusted_comment);
        // The comment is signed as it is.
        let at = signature.windows(trusted.len()).position(|window| window == trusted).unwrap();
        let mut altered = signature.clone();
        altered[at + trusted.len() - 1] ^= 1;
        assert!(verify(&altered).unwrap_err().to_string().contains("does not hold"));
    }
}
