//! The hub's keys and the certificates of recipients: which are accepted, which open what, and that no
//! secret is ever printed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use pli_seal::{
    DocumentKey, KeyRing, Manifest, ManifestPart, Part, Passphrase, Recipient, SealError, open_message,
    seal_small,
};
use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder, CipherSuite, SubkeyRevocationBuilder};
use sequoia_openpgp::crypto::{Password, S2K, SessionKey};
use sequoia_openpgp::packet::key::SecretKeyMaterial;
use sequoia_openpgp::packet::pkesk::{PKESK3, PKESK6};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::{Serialize, SerializeInto};
use sequoia_openpgp::types::{KeyFlags, PublicKeyAlgorithm, ReasonForRevocation, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, Packet, Profile};

const PASSPHRASE: &str = "passe-partout 1789";

/// Sequoia makes certificates at the real time, so this is when they are looked at.
#[expect(clippy::disallowed_methods, reason = "there is no hub here that gives the time")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE).unwrap()
}

/// The secret keys of two hubs, made once.
fn secrets() -> &'static [Vec<u8>; 2] {
    static SECRETS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    SECRETS.get_or_init(|| {
        ["Pli, hub A", "Pli, hub B"].map(|name| KeyRing::generate(name, &passphrase()).unwrap())
    })
}

fn ring(secrets: &[&Vec<u8>]) -> KeyRing {
    let secrets: Vec<Vec<u8>> = secrets.iter().map(|secret| (*secret).clone()).collect();
    KeyRing::open(&secrets, &passphrase()).unwrap()
}

fn builder() -> CertBuilder<'static> {
    CertBuilder::new()
        .set_profile(Profile::RFC9580)
        .unwrap()
        .set_cipher_suite(CipherSuite::Cv25519)
        .add_userid("greffe@example.org")
}

fn public(cert: &Cert) -> Vec<u8> {
    cert.armored().to_vec().unwrap()
}

fn refusal(bytes: &[u8], at: SystemTime) -> &'static str {
    match Recipient::parse(bytes, at) {
        Err(SealError::Certificate(reason)) => reason,
        Err(other) => unreachable!("{other}"),
        Ok(accepted) => unreachable!("accepted: {accepted:?}"),
    }
}

#[test]
fn the_hub_key_is_version_6_and_every_secret_is_protected_by_argon2() {
    let cert = Cert::from_bytes(&secrets()[0]).unwrap();
    assert_eq!(cert.fingerprint().as_bytes().len(), 32);
    let policy = StandardPolicy::new();
    assert_eq!(cert.primary_key().key().pk_algo(), PublicKeyAlgorithm::Ed25519);
    let mut count = 0;
    for key in cert.keys().secret() {
        count += 1;
        match key.key().secret() {
            SecretKeyMaterial::Encrypted(encrypted) => {
                assert!(matches!(encrypted.s2k(), S2K::Argon2 { t: 3, p: 4, m: 16, .. }));
                assert!(encrypted.aead_algo().is_some());
            }
            SecretKeyMaterial::Unencrypted(_) => unreachable!("a secret is not protected"),
        }
    }
    assert_eq!(count, 3);
    let valid = cert.with_policy(&policy, None).unwrap();
    assert!(valid.primary_key().key_expiration_time().is_none());
    assert!(!valid.primary_key().for_signing());
    let signing: Vec<_> = valid.keys().for_signing().collect();
    let encryption: Vec<_> = valid.keys().for_storage_encryption().for_transport_encryption().collect();
    assert_eq!((valid.keys().count(), signing.len(), encryption.len()), (3, 1, 1));
    assert_eq!(signing[0].key().pk_algo(), PublicKeyAlgorithm::Ed25519);
    assert_eq!(encryption[0].key().pk_algo(), PublicKeyAlgorithm::X25519);
}

#[test]
fn the_published_certificate_has_no_secret() {
    let ring = ring(&[&secrets()[0]]);
    let cert = Cert::from_bytes(&ring.certificate().unwrap()).unwrap();
    assert!(!cert.is_tsk());
    assert_eq!(vec![cert.fingerprint().to_hex()], ring.fingerprints());
    assert_eq!(ring.current().fingerprint(), cert.fingerprint().to_hex());
    let parsed = Recipient::parse(&ring.certificate().unwrap(), now()).unwrap();
    assert_eq!(parsed.fingerprint(), ring.current().fingerprint());
}

#[test]
fn a_wrong_passphrase_and_an_empty_one_are_refused() {
    let wrong = Passphrase::new("passe-partout 1790").unwrap();
    assert!(matches!(KeyRing::open(&secrets()[..1], &wrong), Err(SealError::Passphrase)));
    assert!(matches!(Passphrase::new(""), Err(SealError::Passphrase)));
    assert!(matches!(Passphrase::from_file_content("\r\n"), Err(SealError::Passphrase)));
}

#[test]
fn a_passphrase_file_may_end_in_a_line_break() {
    for content in [PASSPHRASE.to_owned(), format!("{PASSPHRASE}\n"), format!("{PASSPHRASE}\r\n")] {
        let passphrase = Passphrase::from_file_content(content).unwrap();
        KeyRing::open(&secrets()[..1], &passphrase).unwrap();
    }
    let spaced = Passphrase::from_file_content(format!("{PASSPHRASE} \n")).unwrap();
    assert!(matches!(KeyRing::open(&secrets()[..1], &spaced), Err(SealError::Passphrase)));
}

#[test]
fn a_retired_key_opens_what_was_wrapped_to_it_and_rotation_rewraps() {
    let [old, new] = secrets();
    let before = ring(&[old]);
    let after = ring(&[new, old]);
    let only_new = ring(&[new]);
    assert_eq!(after.fingerprints().len(), 2);
    assert_eq!(after.current().fingerprint(), only_new.fingerprints()[0]);

    let key = DocumentKey::random().unwrap();
    let wrapped = key.wrap(&[before.current()]).unwrap();
    assert_eq!(DocumentKey::unwrap(&wrapped, &after).unwrap().as_bytes(), key.as_bytes());
    assert!(matches!(DocumentKey::unwrap(&wrapped, &only_new), Err(SealError::NotOurs)));
    let rewrapped = DocumentKey::unwrap(&wrapped, &after).unwrap().wrap(&[after.current()]).unwrap();
    assert_eq!(DocumentKey::unwrap(&rewrapped, &only_new).unwrap().as_bytes(), key.as_bytes());
    assert!(matches!(DocumentKey::unwrap(&rewrapped, &before), Err(SealError::NotOurs)));

    let both = key.wrap(&[before.current(), after.current()]).unwrap();
    for ring in [&before, &after, &only_new] {
        assert_eq!(DocumentKey::unwrap(&both, ring).unwrap().as_bytes(), key.as_bytes());
    }
    assert!(matches!(key.wrap(&[]), Err(SealError::NoRecipient)));
}

#[test]
fn altered_wrappings_are_refused() {
    let ring = ring(&[&secrets()[0]]);
    let key = DocumentKey::random().unwrap();
    let wrapped = key.wrap(&[ring.current()]).unwrap();
    for bit in 0..wrapped.len() * 8 {
        let mut bad = wrapped.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(DocumentKey::unwrap(&bad, &ring).is_err(), "bit {bit}");
    }
    for length in 0..wrapped.len() {
        assert!(DocumentKey::unwrap(&wrapped[..length], &ring).is_err(), "cut to {length}");
    }
    // The same packet under a legacy header, found by fuzzing: one wrapping has one form.
    let mut legacy = wrapped.clone();
    legacy[0] = 0x84;
    assert!(matches!(DocumentKey::unwrap(&legacy, &ring), Err(SealError::Damaged(Part::WrappedKey))));
    let trailing = [&wrapped[..], &[0]].concat();
    assert!(matches!(
        DocumentKey::unwrap(&trailing, &ring),
        Err(SealError::Damaged(Part::Trailing) | SealError::Damaged(Part::Header))
    ));
    let crowd = wrapped.repeat(2_000);
    assert!(matches!(DocumentKey::unwrap(&crowd, &ring), Err(SealError::Limit(_))));
}

#[test]
fn wrappings_of_other_kinds_are_refused() {
    let ring = ring(&[&secrets()[0]]);
    let cert = Cert::from_bytes(&ring.certificate().unwrap()).unwrap();
    let policy = StandardPolicy::new();
    let valid = cert.keys().with_policy(&policy, None).for_storage_encryption().next().unwrap();
    let serialize = |packet: Packet| {
        let mut bytes = Vec::new();
        packet.serialize(&mut bytes).unwrap();
        bytes
    };
    // A key of another cipher's length.
    let short = SessionKey::new(16).unwrap();
    let wrapped = serialize(PKESK6::for_recipient(&short, valid.key()).unwrap().into());
    assert!(matches!(DocumentKey::unwrap(&wrapped, &ring), Err(SealError::Damaged(Part::WrappedKey))));
    // Without a named recipient.
    let long = SessionKey::new(32).unwrap();
    let mut hidden = PKESK6::for_recipient(&long, valid.key()).unwrap();
    hidden.set_recipient(None);
    assert!(matches!(DocumentKey::unwrap(&serialize(hidden.into()), &ring), Err(SealError::NotOurs)));
    // Version 3, which belongs to the older encrypted packet.
    let old = builder().set_profile(Profile::RFC4880).unwrap().add_storage_encryption_subkey();
    let old = old.generate().unwrap().0;
    let old_key = old.keys().with_policy(&policy, None).for_storage_encryption().next().unwrap();
    let version_3 = PKESK3::for_recipient(SymmetricAlgorithm::AES256, &long, old_key.key()).unwrap();
    assert!(matches!(
        DocumentKey::unwrap(&serialize(version_3.into()), &ring),
        Err(SealError::Damaged(Part::WrappedKey))
    ));
}

#[test]
fn certificates_that_can_encrypt_are_accepted_armored_and_binary() {
    let now = now();
    let transport = builder().add_transport_encryption_subkey().generate().unwrap().0;
    let storage = builder().add_storage_encryption_subkey().generate().unwrap().0;
    let old = CertBuilder::general_purpose(Some("a@example.org")).generate().unwrap().0;
    for cert in [transport, storage, old] {
        let recipient = Recipient::parse(&public(&cert), now).unwrap();
        assert_eq!(recipient.fingerprint(), cert.fingerprint().to_hex());
        Recipient::parse(&cert.to_vec().unwrap(), now).unwrap();
        assert!(!DocumentKey::random().unwrap().wrap(&[recipient]).unwrap().is_empty());
    }
}

#[test]
fn certificates_without_a_usable_encryption_key_are_refused() {
    let now = now();
    let year = Duration::from_secs(365 * 86_400);
    let can_encrypt = builder().add_storage_encryption_subkey();

    assert_eq!(
        refusal(&public(&builder().add_signing_subkey().generate().unwrap().0), now),
        "no usable encryption key"
    );
    assert_eq!(refusal(b"", now), "not one OpenPGP certificate");
    assert_eq!(refusal(b"-----BEGIN CERTIFICATE-----", now), "not one OpenPGP certificate");

    let cert = can_encrypt.generate().unwrap().0;
    assert_eq!(refusal(&cert.as_tsk().armored().to_vec().unwrap(), now), "it contains a secret key");
    let two = [cert.to_vec().unwrap(), cert.to_vec().unwrap()].concat();
    let other = builder().add_storage_encryption_subkey().generate().unwrap().0;
    let both = [cert.to_vec().unwrap(), other.to_vec().unwrap()].concat();
    assert!(Recipient::parse(&two, now).is_err());
    assert!(Recipient::parse(&both, now).is_err());
    assert!(matches!(Recipient::parse(&vec![b' '; 2 << 20], now), Err(SealError::Limit(_))));

    // Expired certificate, and before its time.
    let short = builder().add_storage_encryption_subkey().set_validity_period(year).generate().unwrap().0;
    Recipient::parse(&public(&short), now + year / 2).unwrap();
    assert_eq!(refusal(&public(&short), now + year * 2), "expired or not yet valid");
    assert_eq!(refusal(&public(&short), now - year), "no valid self-signature at this time");

    // Expired subkey in a certificate that lives on.
    let flags = KeyFlags::empty().set_storage_encryption();
    let subkey = builder().add_subkey(flags, year, None).generate().unwrap().0;
    Recipient::parse(&public(&subkey), now).unwrap();
    assert_eq!(refusal(&public(&subkey), now + year * 2), "no usable encryption key");
}

#[test]
fn revoked_certificates_and_subkeys_are_refused_from_then_on() {
    let now = now();
    let cert = builder().add_storage_encryption_subkey().generate().unwrap().0;
    let mut signer = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeySuperseded, b"")
        .unwrap()
        .build(&mut signer, &cert, None)
        .unwrap();
    let revoked = cert.clone().insert_packets([revocation]).unwrap().0;
    assert_eq!(refusal(&public(&revoked), now + Duration::from_secs(5)), "revoked");

    let subkey = cert.keys().subkeys().next().unwrap();
    let revocation = SubkeyRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"")
        .unwrap()
        .build(&mut signer, &cert, subkey.key(), None)
        .unwrap();
    let revoked = cert.clone().insert_packets([revocation]).unwrap().0;
    assert_eq!(refusal(&public(&revoked), now), "no usable encryption key");
}

#[test]
fn secret_keys_that_cannot_serve_are_refused() {
    let refused =
        |bytes: Vec<u8>| matches!(KeyRing::open(&[bytes], &passphrase()), Err(SealError::Certificate(_)));
    let password = Some(Password::from(PASSPHRASE));
    let tsk = |cert: &Cert| cert.as_tsk().armored().to_vec().unwrap();
    // Unprotected.
    let bare = builder().add_signing_subkey().add_storage_encryption_subkey().generate().unwrap().0;
    assert!(refused(tsk(&bare)));
    // Public.
    assert!(refused(public(&bare)));
    // Signs only, encrypts only.
    let signs = builder().set_password(password.clone()).add_signing_subkey().generate().unwrap().0;
    assert!(refused(tsk(&signs)));
    let encrypts =
        builder().set_password(password.clone()).add_storage_encryption_subkey().generate().unwrap().0;
    assert!(refused(tsk(&encrypts)));
    // A key that another tool made, protected its own way, serves.
    let foreign = builder()
        .set_password(password)
        .add_signing_subkey()
        .add_storage_encryption_subkey()
        .generate()
        .unwrap()
        .0;
    KeyRing::open(&[tsk(&foreign)], &passphrase()).unwrap();
    // None, and one twice.
    assert!(matches!(KeyRing::open(&[], &passphrase()), Err(SealError::Certificate(_))));
    let twice = [secrets()[0].clone(), secrets()[0].clone()];
    assert!(matches!(KeyRing::open(&twice, &passphrase()), Err(SealError::Certificate(_))));
}

#[test]
fn messages_to_somebody_else_are_not_ours() {
    let [a, b] = secrets();
    let (a, b) = (ring(&[a]), ring(&[b]));
    let key = DocumentKey::random().unwrap();
    let message = [key.wrap(&[a.current()]).unwrap(), seal_small(&key, b"x").unwrap()].concat();
    assert!(matches!(open_message(&message, &b, 100), Err(SealError::NotOurs)));
    assert_eq!(open_message(&message, &a, 100).unwrap().1, b"x");
}

#[test]
fn nothing_secret_is_printed() {
    let key = DocumentKey::from_bytes(&[0xAB; 32]);
    let part = ManifestPart::new(Some(&key), Vec::new());
    let manifest = Manifest {
        version: 1,
        document: String::new(),
        deposit: String::new(),
        name: "canari.pdf".to_owned(),
        media_type: String::new(),
        size: 0,
        sha256: String::new(),
        created: 0,
        parts: vec![part],
    };
    let ring = ring(&[&secrets()[0]]);
    let mut filling = pli_seal::Filling::new();
    filling.add_block(vec![0; pli_seal::BLOCK]).unwrap();
    filling.put(b"canari");
    let printed =
        format!("{key:?} {:?} {manifest:?} {ring:?} {:?} {filling:?}", passphrase(), ring.current());
    for secret in ["abab", "ABAB", "171", PASSPHRASE, "passe", "canari", "99, 97"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
