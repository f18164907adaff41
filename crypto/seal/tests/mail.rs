//! What is encrypted for mail, its recipient opens with software that knows nothing of Pli.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Read;
use std::time::SystemTime;

use pli_seal::{SealError, encrypt_to};
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::packet::{PKESK, SKESK};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::types::SymmetricAlgorithm;
use sequoia_openpgp::{Cert, KeyHandle, Profile};

/// Sequoia makes certificates at the real time, so this is when they are looked at.
#[expect(clippy::disallowed_methods, reason = "there is no hub here that gives the time")]
fn now() -> SystemTime {
    SystemTime::now()
}

struct Reader {
    cert: Cert,
    /// Whether the message has to be encrypted with version 2.
    version_2: bool,
}

impl VerificationHelper for Reader {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(Vec::new())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        match structure.into_iter().next() {
            Some(MessageLayer::Encryption { aead_algo, .. }) => {
                assert_eq!(aead_algo.is_some(), self.version_2);
                Ok(())
            }
            other => panic!("not encrypted: {other:?}"),
        }
    }
}

impl DecryptionHelper for Reader {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        _skesks: &[SKESK],
        sym_algo: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> sequoia_openpgp::Result<Option<Cert>> {
        for key in self.cert.keys().secret() {
            let mut pair = key.key().clone().into_keypair()?;
            for pkesk in pkesks {
                if pkesk.decrypt(&mut pair, sym_algo).is_some_and(|(algo, key)| decrypt(algo, &key)) {
                    return Ok(None);
                }
            }
        }
        Err(sequoia_openpgp::Error::InvalidOperation("no key".into()).into())
    }
}

fn certificate(profile: Profile) -> Cert {
    let builder = CertBuilder::general_purpose(Some("experte@example.org")).set_profile(profile).unwrap();
    builder.set_cipher_suite(CipherSuite::Cv25519).generate().unwrap().0
}

#[test]
fn each_recipient_gets_the_form_that_it_reads() {
    for (profile, version_2) in [(Profile::RFC4880, false), (Profile::RFC9580, true)] {
        let cert = certificate(profile);
        let public = cert.clone().strip_secret_key_material().armored().to_vec().unwrap();
        let content = "Content-Type: text/plain; charset=utf-8\r\n\r\nBonjour é\r\n".as_bytes();
        let text = encrypt_to(&public, now(), content).unwrap();
        assert!(text.starts_with("-----BEGIN PGP MESSAGE-----"), "{text}");
        assert!(text.lines().all(|line| line.len() < 78));
        let policy = StandardPolicy::new();
        let reader = Reader { cert, version_2 };
        let mut opened = Vec::new();
        let builder = DecryptorBuilder::from_bytes(&text).unwrap();
        let mut decryptor = builder.with_policy(&policy, None, reader).unwrap();
        decryptor.read_to_end(&mut opened).unwrap();
        assert_eq!(opened, content);
    }
}

#[test]
fn what_cannot_be_encrypted_to_is_refused() {
    let cert = certificate(Profile::RFC9580);
    let secret = cert.as_tsk().armored().to_vec().unwrap();
    for bytes in [&secret[..], b"", b"-----BEGIN PGP PUBLIC KEY BLOCK-----"] {
        assert!(matches!(encrypt_to(bytes, now(), b"x"), Err(SealError::Certificate(_))));
    }
}
