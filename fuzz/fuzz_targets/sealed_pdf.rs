//! PDF files as hostile bytes: what is read of them, sealed or not. Nothing may panic; what can be sealed can be
//! verified; an altered sealed file is refused, or says what the true one says. The seal is fixed so that a
//! crash can be run again; it protects nothing. `sealed.pdf` was sealed with it and timestamped by `openssl ts`.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pli_api::Time;
use pli_signature::{Certificate, Level, SealKey, Statement, Trust, fuzzing, prepare, verify};

const NOW: Time = Time::from_micros(1_795_820_373_000_000);
const NAME: &str = "recu.json";
const SEALED: &[u8] = include_bytes!("sealed.pdf");

static SEAL: LazyLock<SealKey> = LazyLock::new(|| {
    let key = zeroize::Zeroizing::new(include_str!("seal-key.pem").to_owned());
    SealKey::from_pem(include_str!("seal.pem"), &key).expect("the fixed seal")
});

static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust {
    seals: vec![SEAL.certificate().clone()],
    timestamps: Certificate::from_pem(include_str!("timestamp-root.pem")).expect("the fixed authority"),
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => fuzzing::pdf(data),
        1 => seal(data),
        2 => fuzzing::pdf(&altered(data)),
        _ => check(&altered(data)),
    }
});

fn seal(data: &[u8]) {
    if let Ok(prepared) = prepare(data, &SEAL, Level::BaselineB, &Statement::default(), NOW) {
        let sealed =
            prepared.sign().and_then(|signed| signed.finish()).expect("what is prepared can be signed");
        assert_eq!(verify(&sealed, &TRUST).expect("and verified").claimed_time(), NOW);
    }
}

fn altered(data: &[u8]) -> Vec<u8> {
    let mut bytes = SEALED.to_vec();
    for edit in data.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]]));
        if edit[2] == 0 {
            bytes.truncate(at);
        } else if let Some(octet) = bytes.get_mut(at) {
            *octet ^= edit[2];
        }
    }
    bytes
}

fn check(bytes: &[u8]) {
    let Ok(found) = verify(bytes, &TRUST) else {
        assert_ne!(bytes, SEALED);
        return;
    };
    let expected = verify(SEALED, &TRUST).expect("the true one");
    assert_eq!(found.signer(), expected.signer());
    assert_eq!(found.claimed_time(), expected.claimed_time());
    assert_eq!(found.timestamp().map(|token| token.time()), expected.timestamp().map(|token| token.time()));
    assert_eq!(found.attachment(NAME, 100), expected.attachment(NAME, 100));
}
