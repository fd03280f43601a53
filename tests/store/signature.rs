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
        assert!(verified.trusted_comment.as_str().contains("file:x.patch"));
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
