//! Tokens made by OpenSSL and by pyHanko: the right ones accepted, each kind of wrong one refused for its reason.

use pli_api::Time;
use pli_signature::{SignatureError, TimestampError, TimestampRequest, TimestampToken};

use crate::authority::{Authority, Usage, run};

const AT: &str = "2026-11-27T22:59:33+00:00";

fn request() -> TimestampRequest {
    TimestampRequest::new(b"signature value", [7; 16]).unwrap()
}

fn reason(error: &SignatureError) -> &TimestampError {
    match error {
        SignatureError::Timestamp(reason) => reason,
        other => panic!("{other}"),
    }
}

fn signature_reason(error: &SignatureError) -> &SignatureError {
    match reason(error) {
        TimestampError::Signature(reason) => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn openssl_reads_the_request_and_its_token_is_accepted() {
    let authority = Authority::new(Usage::Right);
    let request = request();
    let answer = authority.openssl(request.der());
    let shown = run(std::process::Command::new("openssl")
        .args(["ts", "-query", "-text", "-in"])
        .arg(authority.path("request")));
    assert!(shown.contains("Hash Algorithm: sha256"), "{shown}");
    assert!(shown.contains("Certificate required: yes"), "{shown}");

    let token = request.read(&answer, authority.anchors()).unwrap();
    assert_eq!(*token.authority(), authority.own);
    // After 2026-11-01: the clock is that of the machine. The configuration asks for milliseconds.
    assert!(token.time() > Time::from_micros(1_793_000_000_000_000));
    // The authority itself may be the anchor.
    request.read(&answer, std::slice::from_ref(&authority.own)).unwrap();
    let again = TimestampToken::verify(token.der(), b"signature value", authority.anchors()).unwrap();
    assert_eq!(again, token);
}

#[test]
fn a_token_of_pyhanko_is_accepted_at_its_time() {
    let authority = Authority::new(Usage::Right);
    let token = request().read(&authority.pyhanko(request().der(), AT), authority.anchors()).unwrap();
    assert_eq!(token.time().seconds(), 1_795_820_373);
}

#[test]
fn an_authority_that_is_not_trusted_is_refused() {
    let authority = Authority::new(Usage::Right);
    let other = Authority::new(Usage::Right);
    let answer = authority.openssl(request().der());
    for anchors in [vec![], vec![other.root.clone(), other.own.clone()]] {
        let error = request().read(&answer, &anchors).unwrap_err();
        assert_eq!(*signature_reason(&error), SignatureError::Untrusted);
    }
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let authority = Authority::new(Usage::Right);
    let anchors = [authority.root.clone()];
    let other_nonce = TimestampRequest::new(b"signature value", [8; 16]).unwrap();
    let error = request().read(&authority.openssl(other_nonce.der()), &anchors).unwrap_err();
    assert_eq!(*reason(&error), TimestampError::Nonce);
    let other_data = TimestampRequest::new(b"another value", [7; 16]).unwrap();
    let answer = authority.openssl(other_data.der());
    let error = request().read(&answer, &anchors).unwrap_err();
    assert_eq!(*reason(&error), TimestampError::Imprint);
    let token = other_data.read(&answer, &anchors).unwrap();
    let error = TimestampToken::verify(token.der(), b"signature value", &anchors).unwrap_err();
    assert_eq!(*reason(&error), TimestampError::Imprint);
}

#[test]
fn a_certificate_that_is_not_an_authoritys_is_refused() {
    for usage in [Usage::NotCritical, Usage::AndMail, Usage::Absent] {
        let authority = Authority::new(usage);
        let answer = authority.pyhanko(request().der(), AT);
        let error = request().read(&answer, authority.anchors()).unwrap_err();
        assert_eq!(*reason(&error), TimestampError::Purpose);
    }
}

#[test]
fn an_authority_whose_certificate_was_over_is_refused() {
    let authority = Authority::valid(Usage::Right, 2020, 2025);
    let anchors = [authority.root.clone()];
    let error = request().read(&authority.pyhanko(request().der(), AT), &anchors).unwrap_err();
    assert_eq!(*signature_reason(&error), SignatureError::NotValidThen);
    // In its time it was good.
    request().read(&authority.pyhanko(request().der(), "2024-12-31T23:59:59+00:00"), &anchors).unwrap();
}

#[test]
fn a_refusal_says_its_status() {
    // PKIStatus 2 (rejection), no text, PKIFailureInfo bit 2 (badRequest).
    let answer = [0x30, 9, 0x30, 7, 0x02, 1, 2, 0x03, 2, 5, 0x20];
    let error = request().read(&answer, &[]).unwrap_err();
    assert_eq!(*reason(&error), TimestampError::Refused { status: 2, failure: vec![2] });
}

/// Flips bits all over an answer. Whatever is still accepted must say the same.
#[test]
fn a_damaged_answer_is_refused_or_says_the_same() {
    let authority = Authority::new(Usage::Right);
    let anchors = [authority.root.clone()];
    let answer = authority.openssl(request().der());
    let token = request().read(&answer, &anchors).unwrap();
    let mut accepted = 0;
    for at in 0..answer.len() {
        for bit in [1, 0x20] {
            let mut bad = answer.clone();
            bad[at] ^= bit;
            if let Ok(found) = request().read(&bad, &anchors) {
                assert_eq!(
                    (found.time(), found.authority()),
                    (token.time(), token.authority()),
                    "octet {at}"
                );
                accepted += 1;
            }
        }
    }
    // The root's certificate beside the signer's is the only large piece that nothing depends on.
    assert!(accepted <= 2 * (authority.root.der().len() + 64), "{accepted}");
    for length in 0..answer.len() {
        assert!(request().read(&answer[..length], &anchors).is_err(), "cut at {length}");
    }
    assert!(request().read(&[&answer[..], &[0]].concat(), &anchors).is_err());
}
