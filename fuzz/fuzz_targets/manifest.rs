//! Manifests as hostile bytes: wrapped keys, signed packets, JSON. Nothing may panic, and nothing that the
//! hub did not sign may open. The hub's key is fixed so that a crash can be run again; it protects nothing.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pli_seal::{
    DocumentKey, KeyRing, Manifest, ManifestPart, ManifestSegment, Passphrase, SegmentRow, fuzzing,
    object_length,
};

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let passphrase = Passphrase::new("fuzz").expect("a passphrase");
    KeyRing::open(&[include_bytes!("hub.asc").to_vec()], &passphrase).expect("the fixed key")
});

static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let length = 1_000;
    let row = SegmentRow {
        length,
        object_length: object_length(length).expect("a segment"),
        salt: [1; 32],
        tag: [2; 16],
    };
    let manifest = Manifest {
        version: 1,
        document: "d".into(),
        deposit: "e".into(),
        name: "pièce.pdf".into(),
        media_type: "application/pdf".into(),
        size: length,
        sha256: "0".repeat(64),
        created: 1_795_000_000_000_000,
        parts: vec![ManifestPart::new(None, vec![ManifestSegment::new("segments/ab/cd".into(), &row)])],
    };
    manifest.seal(&DocumentKey::from_bytes(&[0x42; 32]), &RING, &[RING.current()]).expect("sealed")
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => {
            let _ = Manifest::open(data, &RING);
            let _ = Manifest::rewrap(data, &RING, &[RING.current()]);
            let _ = DocumentKey::unwrap(data, &RING);
        }
        1 => assert!(fuzzing::signed_manifest(data, &RING).is_err()),
        2 => fields(data),
        _ => altered(data),
    }
});

/// What is accepted must come back the same, and seal.
fn fields(json: &[u8]) {
    if let Ok(manifest) = fuzzing::manifest_fields(json) {
        let key = DocumentKey::from_bytes(&[0x42; 32]);
        let sealed = manifest.seal(&key, &RING, &[RING.current()]).expect("what is valid can be sealed");
        assert_eq!(Manifest::open(&sealed, &RING).expect("and opened").0, manifest);
    }
}

fn altered(data: &[u8]) {
    let mut bad = SEALED.clone();
    for edit in data.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0] & 0x0F, edit[1]]));
        if edit[0] & 0x80 == 0 {
            if let Some(octet) = bad.get_mut(at) {
                *octet ^= edit[2];
            }
        } else {
            bad.truncate(at);
        }
    }
    match Manifest::open(&bad, &RING) {
        // The wrapped key in front is not signed: rotation replaces it. What it leads to is.
        Ok((manifest, keys)) => {
            assert_eq!(manifest, Manifest::open(&SEALED, &RING).expect("the true one").0);
            assert_eq!(keys[0].as_bytes(), &[0x42; 32]);
        }
        Err(_) => assert_ne!(bad, *SEALED),
    }
}
