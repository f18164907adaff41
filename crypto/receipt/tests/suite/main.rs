//! Receipts before and after sealing: what other people's programs read and judge, and every kind of damage.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../../../signature/tests/suite/authority.rs"]
#[expect(dead_code, reason = "the suite of pli-signature uses the rest")]
mod authority;
mod damage;
mod judges;
mod pages;
#[path = "../../examples/sample.rs"]
#[expect(dead_code, reason = "its main is for the command line")]
mod sample;

use pli_api::Time;
use pli_receipt::Receipt;
use pli_signature::{Certificate, Level, SealKey, Statement, Trust, development_seal, prepare};

/// 27 November 2026, 22:59:33 UTC.
pub(crate) const NOW: Time = Time::from_micros(1_795_820_373_000_000);

/// A seal with what verifiers need.
pub(crate) struct Seal {
    pub(crate) key: SealKey,
    pub(crate) authority: String,
    pub(crate) trust: Trust,
}

/// Valid for as long as timestamps of the machine's clock need.
pub(crate) fn seal() -> Seal {
    let development = development_seal(Time::from_micros(1_600_000_000_000_000), u16::MAX).unwrap();
    Seal {
        key: SealKey::from_pem(&development.certificates, &development.key).unwrap(),
        trust: Trust {
            seals: Certificate::from_pem(&development.authority).unwrap(),
            timestamps: Vec::new(),
        },
        authority: development.authority,
    }
}

pub(crate) fn sealed(receipt: &Receipt, seal: &Seal) -> Vec<u8> {
    let statement = Statement { name: receipt.issuer.clone(), reason: receipt.title.clone() };
    let pdf = receipt.render().unwrap();
    let prepared = prepare(&pdf, &seal.key, Level::BaselineB, &statement, NOW).unwrap();
    prepared.sign().unwrap().finish().unwrap()
}

/// Sealed with a timestamp of `openssl ts`.
pub(crate) fn stamped(receipt: &Receipt, seal: &Seal, authority: &authority::Authority) -> Vec<u8> {
    let pdf = receipt.render().unwrap();
    let prepared = prepare(&pdf, &seal.key, Level::BaselineT, &Statement::default(), NOW).unwrap();
    let mut signed = prepared.sign().unwrap();
    let request = signed.timestamp_request([9; 16]).unwrap();
    let token = request.read(&authority.openssl(request.der()), authority.anchors()).unwrap();
    signed.add_timestamp(&token).unwrap();
    signed.finish().unwrap()
}
