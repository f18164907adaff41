//! What Pli writes, Sequoia opens, and what Sequoia writes, Pli opens: at every boundary of a chunk, of a
//! block and of a segment. Sequoia is used as anybody would use it, through its streaming interfaces.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Write};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use pli_seal::{
    BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, KeyRing, LITERAL, Opening, Passphrase, Recipient,
    Sealed, content_of_blocks, object_length, open_message, open_packet, open_small, seal_small,
};
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use sequoia_openpgp::crypto::aead::{self, SEIPv2Schedule};
use sequoia_openpgp::crypto::{Password, SessionKey};
use sequoia_openpgp::packet::{PKESK, SKESK};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::serialize::stream::{Armorer, Encryptor, LiteralWriter, Message, padding::Padder};
use sequoia_openpgp::types::{AEADAlgorithm, DataFormat, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, KeyHandle, Packet, Profile};

const PASSPHRASE: &str = "correct horse battery staple";

/// One hub for all tests: deriving its keys with Argon2 takes a while.
fn hub() -> &'static (Vec<u8>, KeyRing) {
    static HUB: OnceLock<(Vec<u8>, KeyRing)> = OnceLock::new();
    HUB.get_or_init(|| {
        let passphrase = Passphrase::new(PASSPHRASE).unwrap();
        let secret = KeyRing::generate("Pli, greffe de Nanterre", &passphrase).unwrap();
        let ring = KeyRing::open(std::slice::from_ref(&secret), &passphrase).unwrap();
        (secret, ring)
    })
}

/// Bytes that differ everywhere, from a small generator with a fixed seed.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(length);
    content
}

fn seal(key: &DocumentKey, content: &[u8]) -> Sealed<Vec<u8>> {
    let mut filling = Filling::new();
    let mut rest = content;
    while !rest.is_empty() {
        if filling.room() == 0 {
            filling.add_block(vec![0; BLOCK]).unwrap();
        }
        rest = &rest[filling.put(rest)..];
    }
    filling.seal(key, &mut ContentDigest::new()).unwrap()
}

fn object(sealed: Sealed<Vec<u8>>) -> Vec<u8> {
    sealed.into_bytes().concat()
}

/// Decrypts a message as a recipient would who knows nothing of Pli.
struct Reader {
    cert: Cert,
    password: Password,
}

impl VerificationHelper for Reader {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(vec![self.cert.clone()])
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        let layers: Vec<_> = structure.into_iter().collect();
        assert!(matches!(
            layers.first(),
            Some(MessageLayer::Encryption {
                sym_algo: SymmetricAlgorithm::AES256,
                aead_algo: Some(AEADAlgorithm::OCB)
            })
        ));
        Ok(())
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
            for pkesk in pkesks {
                if pkesk.recipient() != Some(key.key().key_handle()) {
                    continue;
                }
                let mut key = key.key().clone();
                if !key.has_unencrypted_secret() {
                    key = key.decrypt_secret(&self.password)?;
                }
                let mut pair = key.into_keypair()?;
                if pkesk.decrypt(&mut pair, sym_algo).is_some_and(|(algo, key)| decrypt(algo, &key)) {
                    return Ok(None);
                }
            }
        }
        Err(sequoia_openpgp::Error::InvalidOperation("no key".into()).into())
    }
}

fn sequoia_opens(secret: &Cert, message: &[u8]) -> sequoia_openpgp::Result<Vec<u8>> {
    let policy = StandardPolicy::new();
    let reader = Reader { cert: secret.clone(), password: Password::from(PASSPHRASE) };
    let mut decryptor = DecryptorBuilder::from_bytes(message)?.with_policy(&policy, None, reader)?;
    let mut opened = Vec::new();
    decryptor.read_to_end(&mut opened)?;
    Ok(opened)
}

/// A certificate whose secret is not protected, so that a test may decrypt often.
fn reader_cert(profile: Profile) -> Cert {
    let (cert, _) = CertBuilder::general_purpose(Some("experte@example.org"))
        .set_profile(profile)
        .unwrap()
        .set_cipher_suite(CipherSuite::Cv25519)
        .generate()
        .unwrap();
    cert
}

/// Sequoia makes certificates at the real time, so this is when they are looked at.
#[expect(clippy::disallowed_methods, reason = "there is no hub here that gives the time")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn recipient(cert: &Cert) -> Recipient {
    Recipient::parse(&cert.armored().to_vec().unwrap(), now()).unwrap()
}

/// Content lengths around every edge of the format.
fn lengths() -> Vec<usize> {
    let chunk = CHUNK - LITERAL;
    let block = content_of_blocks(1);
    let full = content_of_blocks(16);
    let mut lengths = vec![1, 2, 15, 16, 17, 4095, 4096, 4097];
    for edge in [chunk, chunk + CHUNK, chunk + 2 * CHUNK, block, block + CHUNK, content_of_blocks(2), full] {
        lengths.extend([edge - 1, edge, edge + 1]);
    }
    lengths.extend([CHUNK, CHUNK + 1, 16 << 20, (16 << 20) - 1, (16 << 20) + 1]);
    lengths
}

#[test]
fn sequoia_opens_segments_of_every_length() {
    let cert = reader_cert(Profile::RFC9580);
    let key = DocumentKey::random().unwrap();
    let wrapped = key.wrap(&[hub().1.current(), recipient(&cert)]).unwrap();
    let all = content((16 << 20) + 1);
    for length in lengths() {
        let sealed = seal(&key, &all[..length]);
        assert_eq!(Some(sealed.object_length), object_length(length as u64));
        let object = object(sealed);
        let opened = sequoia_opens(&cert, &[&wrapped[..], &object].concat()).unwrap();
        assert!(opened == all[..length], "content of {length} bytes");
        assert!(open_small(&key, &object).unwrap() == all[..length]);
    }
}

#[test]
fn sequoia_opens_small_packets_even_empty_ones() {
    let cert = reader_cert(Profile::RFC9580);
    let key = DocumentKey::random().unwrap();
    let wrapped = key.wrap(&[recipient(&cert)]).unwrap();
    for length in [0, 1, 100, CHUNK - LITERAL, CHUNK, 3 * CHUNK] {
        let content = content(length);
        let sealed = seal_small(&key, &content).unwrap();
        assert!(open_small(&key, &sealed).unwrap() == content);
        assert!(sequoia_opens(&cert, &[&wrapped[..], &sealed].concat()).unwrap() == content);
    }
}

#[test]
fn sequoia_opens_with_the_hub_key_that_pli_made() {
    let (secret, ring) = hub();
    let cert = Cert::from_bytes(secret).unwrap();
    let key = DocumentKey::random().unwrap();
    let message =
        [key.wrap(&[ring.current()]).unwrap(), object(seal(&key, b"Un exemplaire de la copie"))].concat();
    assert_eq!(sequoia_opens(&cert, &message).unwrap(), b"Un exemplaire de la copie");
}

#[test]
fn an_older_certificate_of_version_4_opens_too() {
    let cert = reader_cert(Profile::RFC4880);
    let key = DocumentKey::random().unwrap();
    let message = [key.wrap(&[recipient(&cert)]).unwrap(), object(seal(&key, b"ancien"))].concat();
    assert_eq!(sequoia_opens(&cert, &message).unwrap(), b"ancien");
}

/// Seals with Sequoia's own encryptor, under a session key and without PKESK.
fn sequoia_seals(key: &DocumentKey, mode: AEADAlgorithm, content: &[u8], pad: bool) -> Vec<u8> {
    let mut packet = Vec::new();
    let message = Message::new(&mut packet);
    let session_key = SessionKey::from(&key.as_bytes()[..]);
    let message = Encryptor::with_session_key(message, SymmetricAlgorithm::AES256, session_key)
        .unwrap()
        .aead_algo(mode)
        .build()
        .unwrap();
    let message = if pad { Padder::new(message).build().unwrap() } else { message };
    let mut literal = LiteralWriter::new(message)
        .format(DataFormat::Binary)
        .filename("procès-verbal.pdf")
        .unwrap()
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap()
        .build()
        .unwrap();
    literal.write_all(content).unwrap();
    literal.finalize().unwrap();
    packet
}

#[test]
fn pli_opens_what_sequoia_seals_in_both_modes() {
    let key = DocumentKey::random().unwrap();
    let all = content((16 << 20) + 1);
    let mut lengths = lengths();
    // Sequoia's chunks are 4 KiB and the literal header in front varies: every length around them.
    lengths.extend((4096 - 64)..(4096 + 8));
    lengths.push(0);
    for mode in [AEADAlgorithm::OCB, AEADAlgorithm::GCM] {
        for length in &lengths {
            let packet = sequoia_seals(&key, mode, &all[..*length], false);
            let opened = open_packet(&key, &packet, 32 << 20).unwrap();
            assert!(opened == all[..*length], "{mode} content of {length} bytes");
        }
    }
    let packet = sequoia_seals(&key, AEADAlgorithm::OCB, &all[..100_000], true);
    assert!(open_packet(&key, &packet, 1 << 20).unwrap() == all[..100_000], "padded");
}

/// A packet with chunks of any size, which Sequoia's streaming interface does not offer.
fn sequoia_seals_in_chunks_of(octet: u8, mode: AEADAlgorithm, key: &DocumentKey, content: &[u8]) -> Vec<u8> {
    let chunk = 1 << (octet + 6);
    let salt = [octet; 32];
    let session_key = SessionKey::from(&key.as_bytes()[..]);
    let algorithm = SymmetricAlgorithm::AES256;
    let schedule = SEIPv2Schedule::new(&session_key, algorithm, mode, chunk, &salt).unwrap();
    let mut sealed = Vec::new();
    let mut encryptor = aead::Encryptor::new(algorithm, mode, chunk, schedule, &mut sealed).unwrap();
    encryptor.write_all(&[0xCB, 0xFF]).unwrap();
    encryptor.write_all(&(content.len() as u32 + 6).to_be_bytes()).unwrap();
    encryptor.write_all(b"b\0\0\0\0\0").unwrap();
    encryptor.write_all(content).unwrap();
    encryptor.finalize().unwrap();
    let mut packet = vec![0xD2, 0xFF];
    packet.extend_from_slice(&(sealed.len() as u32 + 36).to_be_bytes());
    packet.extend_from_slice(&[2, 9, mode.into(), octet]);
    packet.extend_from_slice(&salt);
    packet.extend_from_slice(&sealed);
    packet
}

#[test]
fn pli_opens_chunks_of_every_size() {
    let key = DocumentKey::random().unwrap();
    let all = content((4 << 20) + 100);
    for mode in [AEADAlgorithm::OCB, AEADAlgorithm::GCM] {
        for octet in 0..=16 {
            let chunk = 1_usize << (octet + 6);
            for length in [0, 1, chunk - 13, chunk - 12, chunk - 11, chunk, 2 * chunk - 12, 3 * chunk + 5] {
                let content = &all[..length.min(all.len())];
                let packet = sequoia_seals_in_chunks_of(octet, mode, &key, content);
                assert!(open_packet(&key, &packet, 8 << 20).unwrap() == content, "{mode} {octet} {length}");
                let mut bad = packet.clone();
                let last = bad.len() - 17;
                bad[last] ^= 1;
                assert!(open_packet(&key, &bad, 8 << 20).is_err());
            }
        }
        let mut packet = sequoia_seals_in_chunks_of(16, mode, &key, &all[..100]);
        packet[9] = 17;
        assert!(open_packet(&key, &packet, 8 << 20).is_err());
    }
    // Our own parameters, written by Sequoia: it is our own form, byte for byte.
    let packet = sequoia_seals_in_chunks_of(10, AEADAlgorithm::OCB, &key, &all[..200_000]);
    assert!(open_small(&key, &packet).unwrap() == all[..200_000]);
}

#[test]
fn pli_opens_a_message_that_sequoia_wrote_to_the_hub() {
    let ring = &hub().1;
    let cert = Cert::from_bytes(&ring.certificate().unwrap()).unwrap();
    let other = reader_cert(Profile::RFC9580);
    let policy = StandardPolicy::new();
    let recipients: Vec<_> = [&other, &cert]
        .into_iter()
        .flat_map(|cert| cert.keys().with_policy(&policy, None).supported().for_transport_encryption())
        .collect();
    let mut written = Vec::new();
    let message = Message::new(&mut written);
    let message = Encryptor::for_recipients(message, recipients).build().unwrap();
    let mut literal = LiteralWriter::new(message).build().unwrap();
    literal.write_all(b"De la part du laboratoire").unwrap();
    literal.finalize().unwrap();
    let (key, opened) = open_message(&written, ring, 1 << 20).unwrap();
    assert_eq!(opened, b"De la part du laboratoire");
    assert_eq!(sequoia_opens(&other, &written).unwrap(), opened);
    // The same packet under a wrapping of ours.
    let packet = [key.wrap(&[ring.current()]).unwrap(), seal_small(&key, &opened).unwrap()].concat();
    assert_eq!(open_message(&packet, ring, 1 << 20).unwrap().1, opened);
}

#[test]
fn sequoia_refuses_what_was_altered_just_as_pli_does() {
    let cert = reader_cert(Profile::RFC9580);
    let key = DocumentKey::random().unwrap();
    let wrapped = key.wrap(&[recipient(&cert)]).unwrap();
    let good = object(seal(&key, &content(CHUNK * 2)));
    for at in [12, 60, CHUNK + 10, good.len() - 20, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(sequoia_opens(&cert, &[&wrapped[..], &bad].concat()).is_err());
        assert!(open_small(&key, &bad).is_err());
        assert!(open_packet(&key, &bad, 1 << 20).is_err());
    }
}

#[test]
fn armored_message_is_readable_by_sequoia() {
    let cert = reader_cert(Profile::RFC9580);
    let key = DocumentKey::random().unwrap();
    let message = [key.wrap(&[recipient(&cert)]).unwrap(), seal_small(&key, b"armure").unwrap()].concat();
    let mut armored = Vec::new();
    let mut writer = Armorer::new(Message::new(&mut armored)).build().unwrap();
    writer.write_all(&message).unwrap();
    writer.finalize().unwrap();
    assert_eq!(sequoia_opens(&cert, &armored).unwrap(), b"armure");
}

#[test]
fn opened_by_the_row_as_by_sequoia() {
    let key = DocumentKey::random().unwrap();
    let all = content(16 << 20);
    for length in lengths().into_iter().filter(|length| *length <= all.len()) {
        let sealed = seal(&key, &all[..length]);
        let row = sealed.row();
        let object = object(sealed);
        let mut opening = Opening::new(&key, &row, 0..row.length).unwrap();
        assert_eq!(opening.object_range(), 0..object.len() as u64);
        let mut opened = Vec::new();
        for piece in object.chunks(1 << 20) {
            opened.extend(opening.feed(piece).unwrap().unwrap_or_default());
        }
        opening.finish().unwrap();
        assert!(opened == all[..length]);
    }
}

#[test]
fn wrapping_is_ordinary_pkesk_version_6() {
    let cert = reader_cert(Profile::RFC9580);
    let key = DocumentKey::random().unwrap();
    let wrapped = key.wrap(&[hub().1.current(), recipient(&cert)]).unwrap();
    let packets = sequoia_openpgp::PacketPile::from_bytes(&wrapped).unwrap();
    let packets: Vec<_> = packets.children().collect();
    assert_eq!(packets.len(), 2);
    assert!(packets.iter().all(|packet| matches!(packet, Packet::PKESK(PKESK::V6(_)))));
}
