//! Answers of timestamp authorities as hostile bytes. Nothing may panic; an altered answer is refused, or says
//! what the true one says. `timestamp.tsr` was made by `openssl ts` under the authority of
//! `timestamp-root.pem`, whose keys are gone.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pli_signature::{Certificate, TimestampRequest, TimestampToken};

const DATA: &[u8] = b"signature value";
const ANSWER: &[u8] = include_bytes!("timestamp.tsr");

static REQUEST: LazyLock<TimestampRequest> =
    LazyLock::new(|| TimestampRequest::new(DATA, [7; 16]).expect("a request"));

static ANCHORS: LazyLock<Vec<Certificate>> =
    LazyLock::new(|| Certificate::from_pem(include_str!("timestamp-root.pem")).expect("the fixed authority"));

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 3 {
        0 => {
            let _ = REQUEST.read(data, &ANCHORS);
        }
        1 => {
            let _ = TimestampToken::verify(data, DATA, &ANCHORS);
        }
        _ => check(&altered(data)),
    }
});

fn altered(data: &[u8]) -> Vec<u8> {
    let mut bytes = ANSWER.to_vec();
    for edit in data.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0] & 0x0F, edit[1]]));
        if edit[0] & 0x80 == 0 {
            if let Some(octet) = bytes.get_mut(at) {
                *octet ^= edit[2];
            }
        } else {
            bytes.truncate(at);
        }
    }
    bytes
}

fn check(bytes: &[u8]) {
    match REQUEST.read(bytes, &ANCHORS) {
        Ok(token) => {
            let expected = REQUEST.read(ANSWER, &ANCHORS).expect("the true one");
            assert_eq!((token.time(), token.authority()), (expected.time(), expected.authority()));
        }
        Err(_) => assert_ne!(bytes, ANSWER),
    }
}
