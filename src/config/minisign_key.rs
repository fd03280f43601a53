//! Minisign's text form of keys and signatures: lines of base64.

/// The bytes of a public key: its algorithm, its id, the key.
const KEY_BYTES: usize = 2 + 8 + 32;

/// Reads a public key from its base64 line: its id and the key.
pub(crate) fn public_key(line: &str) -> Option<([u8; 8], [u8; 32])> {
    let bytes: [u8; KEY_BYTES] = base64(line.as_bytes())?.try_into().ok()?;
    let (algorithm, rest) = bytes.split_first_chunk::<2>()?;
    let (id, key) = rest.split_first_chunk::<8>()?;
    matches!(algorithm, b"Ed" | b"ED").then_some((*id, key.try_into().ok()?))
}

/// Decodes base64 with its padding.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (groups, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    for (at, group) in groups.iter().enumerate() {
        let pads = group.iter().rev().take_while(|digit| **digit == b'=').count();
        if pads > 2 || (pads > 0 && at + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0u32;
        for digit in group.iter().take(4 - pads) {
            bits = bits << 6 | u32::from(value(*digit)?);
        }
        let [_, decoded @ ..] = (bits << (6 * pads)).to_be_bytes();
        let (decoded, spare) = decoded.split_at(3 - pads);
        if spare.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(decoded);
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_in_its_one_form() {
        let cases: [(&str, &[u8]); 6] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("+/+/", b"\xfb\xff\xbf"),
        ];
        for (text, bytes) in cases {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "====", "Z===", "Zm9v\n", "Zm-_", "Z=g="] {
            assert_eq!(base64(bad.as_bytes()), None, "{bad}");
        }
    }
}
