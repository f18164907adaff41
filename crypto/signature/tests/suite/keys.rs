//! Keys and certificates made by OpenSSL: which make a seal and which are refused.

use std::path::Path;
use std::process::Command;

use pli_api::Time;
use pli_signature::{Certificate, SealKey, SignatureError, development_seal};
use zeroize::Zeroizing;

use crate::NOW;
use crate::authority::run;

/// A self-signed certificate and its key, in PEM.
pub(crate) fn openssl(kind: &[&str], usage: &str) -> (String, Zeroizing<String>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    run(Command::new("openssl").args(["genpkey", "-quiet", "-out"]).arg(at("key")).args(kind));
    run(Command::new("openssl")
        .args(["req", "-x509", "-days", "36500", "-subj", "/O=Essai/CN=Cachet", "-key"])
        .arg(at("key"))
        .args(["-addext", &format!("keyUsage={usage}"), "-out"])
        .arg(at("certificate")));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    (read(&at("certificate")), Zeroizing::new(read(&at("key"))))
}

pub(crate) const P_256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub(crate) const P_384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub(crate) const RSA_3072: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"];

#[test]
fn p256_p384_and_rsa_3072_make_a_seal() {
    for kind in [P_256, P_384, RSA_3072] {
        let (certificate, key) = openssl(kind, "critical,nonRepudiation");
        let seal = SealKey::from_pem(&certificate, &key).unwrap();
        assert_eq!(seal.certificate().subject(), "CN=Cachet,O=Essai");
        assert!(!format!("{seal:?}").contains("PRIVATE"));
    }
}

#[test]
fn other_keys_are_refused() {
    let refused = |kind: &[&str]| {
        let (certificate, key) = openssl(kind, "digitalSignature");
        SealKey::from_pem(&certificate, &key).unwrap_err()
    };
    let short = refused(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    assert_eq!(short, SignatureError::Key("RSA of less than 3,072 bits"));
    let curve = refused(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    assert_eq!(curve, SignatureError::Key("neither P-256 nor P-384"));
    assert_eq!(refused(&["-algorithm", "ED25519"]), SignatureError::Key("neither ECDSA nor RSA"));
}

#[test]
fn the_key_of_another_certificate_is_refused() {
    for kind in [P_256, P_384, RSA_3072] {
        let (certificate, _) = openssl(kind, "digitalSignature");
        let (_, other) = openssl(kind, "digitalSignature");
        assert_eq!(SealKey::from_pem(&certificate, &other).unwrap_err(), SignatureError::KeyMismatch);
    }
    let (certificate, _) = openssl(P_256, "digitalSignature");
    let (_, other) = openssl(RSA_3072, "digitalSignature");
    assert!(matches!(SealKey::from_pem(&certificate, &other), Err(SignatureError::Key(_))));
}

#[test]
fn a_certificate_that_may_not_sign_is_refused() {
    let (certificate, key) = openssl(P_256, "keyEncipherment");
    assert!(matches!(SealKey::from_pem(&certificate, &key), Err(SignatureError::Certificate(_))));
}

#[test]
fn an_encrypted_key_and_a_certificate_in_its_place_are_refused() {
    let (certificate, key) = openssl(P_256, "digitalSignature");
    let encrypted = Zeroizing::new(key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    assert!(matches!(SealKey::from_pem(&certificate, &encrypted), Err(SignatureError::Key(_))));
    let swapped = Zeroizing::new(certificate.clone());
    assert!(matches!(SealKey::from_pem(&certificate, &swapped), Err(SignatureError::Key(_))));
    assert!(SealKey::from_pem("", &key).is_err());
}

#[test]
fn a_chain_out_of_order_is_refused() {
    let development = development_seal(NOW, 30).unwrap();
    assert_eq!(SealKey::from_pem(&development.certificates, &development.key).unwrap().chain().len(), 2);
    let stranger = development_seal(NOW, 30).unwrap().authority;
    let with_stranger = development.certificates.clone() + &stranger;
    assert!(matches!(
        SealKey::from_pem(&with_stranger, &development.key),
        Err(SignatureError::Certificate(_))
    ));
}

#[test]
fn openssl_reads_the_development_seal() {
    let development = development_seal(NOW, 30).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.pem");
    std::fs::write(&path, &development.certificates).unwrap();
    std::fs::write(folder.path().join("authority.pem"), &development.authority).unwrap();
    let text =
        run(Command::new("openssl").args(["x509", "-noout", "-text", "-nameopt", "utf8", "-in"]).arg(&path));
    for expected in [
        "CN=Pli – cachet de développement",
        "Digital Signature, Non Repudiation",
        "Not Before: Nov 27 22:59:33 2026 GMT",
        "prime256v1",
    ] {
        assert!(text.contains(expected), "{expected} is missing:\n{text}");
    }
    let verified = run(Command::new("openssl")
        .args(["verify", "-attime", "1795900000", "-CAfile"])
        .arg(folder.path().join("authority.pem"))
        .arg(&path));
    assert!(verified.ends_with("OK\n"), "{verified}");
    let seal = Certificate::from_pem(&development.certificates).unwrap().remove(0);
    assert_eq!((seal.not_before(), seal.not_after()), (NOW, NOW.plus_seconds(30 * 86_400)));
    assert!(development_seal(Time::from_micros(i64::MAX), 1).is_err());
}
