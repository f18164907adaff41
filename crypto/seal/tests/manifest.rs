//! The manifest: what it lists comes back, signed by the hub; anything else is refused.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Write;
use std::sync::OnceLock;

use pli_seal::{
    BLOCK, ContentDigest, DocumentKey, Filling, KeyRing, MANIFEST_MAX, Manifest, ManifestPart,
    ManifestSegment, Opening, Passphrase, SealError, SegmentRow, object_length, open_small, seal_small,
};
use sequoia_openpgp::crypto::{KeyPair, Password, SessionKey};
use sequoia_openpgp::packet::{Packet, Tag};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::stream::{ArbitraryWriter, Encryptor, LiteralWriter, Message, Signer};
use sequoia_openpgp::types::{AEADAlgorithm, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, PacketPile};

const PASSPHRASE: &str = "passe-partout 1789";

struct Hubs {
    secret: Vec<u8>,
    ours: KeyRing,
    rotated: KeyRing,
    other: KeyRing,
}

fn hubs() -> &'static Hubs {
    static HUBS: OnceLock<Hubs> = OnceLock::new();
    HUBS.get_or_init(|| {
        let passphrase = Passphrase::new(PASSPHRASE).unwrap();
        let make = |name| KeyRing::generate(name, &passphrase).unwrap();
        let (first, second, other) = (make("Pli"), make("Pli, nouvelle clef"), make("Un autre hub"));
        let open = |secrets: &[&Vec<u8>]| {
            let secrets: Vec<Vec<u8>> = secrets.iter().map(|secret| (*secret).clone()).collect();
            KeyRing::open(&secrets, &passphrase).unwrap()
        };
        Hubs {
            ours: open(&[&first]),
            rotated: open(&[&second, &first]),
            other: open(&[&other]),
            secret: first,
        }
    })
}

fn segment(name: &str, length: u64) -> ManifestSegment {
    let row =
        SegmentRow { length, object_length: object_length(length).unwrap(), salt: [7; 32], tag: [9; 16] };
    ManifestSegment::new(format!("segments/{name}"), &row)
}

fn manifest() -> Manifest {
    Manifest {
        version: 1,
        document: "0198f3c0-0000-7000-8000-000000000001".into(),
        deposit: "0198f3c0-0000-7000-8000-000000000002".into(),
        name: "Procédure n° 2026/114, tome Ⅱ.pdf".into(),
        media_type: "application/pdf".into(),
        size: 300,
        sha256: "00".repeat(32),
        created: 1_795_000_000_000_000,
        parts: vec![
            ManifestPart::new(None, vec![segment("a", 100), segment("b", 50)]),
            ManifestPart::new(Some(&DocumentKey::from_bytes(&[3; 32])), vec![segment("c", 150)]),
        ],
    }
}

fn key() -> DocumentKey {
    DocumentKey::random().unwrap()
}

fn seal(manifest: &Manifest, key: &DocumentKey) -> Vec<u8> {
    let hub = &hubs().ours;
    manifest.seal(key, hub, &[hub.current()]).unwrap()
}

#[test]
fn what_is_sealed_comes_back_with_the_keys_of_its_parts() {
    let key = key();
    let sealed = seal(&manifest(), &key);
    let (opened, keys) = Manifest::open(&sealed, &hubs().ours).unwrap();
    assert_eq!(opened, manifest());
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0].as_bytes(), key.as_bytes());
    assert_eq!(keys[1].as_bytes(), &[3; 32]);
    assert_eq!(opened.parts[0].segments[0].row().unwrap().salt, [7; 32]);
    let name = "tome".as_bytes();
    assert!(!sealed.windows(name.len()).any(|window| window == name));
}

#[test]
fn an_empty_document_and_a_large_one_have_manifests_too() {
    let mut empty = manifest();
    empty.parts = vec![ManifestPart::new(None, Vec::new())];
    empty.size = 0;
    let sealed = seal(&empty, &key());
    assert_eq!(Manifest::open(&sealed, &hubs().ours).unwrap().0, empty);

    // A terabyte.
    let mut large = manifest();
    let length = 16 << 20;
    let segments: Vec<_> = (0..60_000).map(|index| segment(&format!("ab/{index:032x}"), length)).collect();
    large.size = length * segments.len() as u64;
    large.parts = vec![ManifestPart::new(None, segments)];
    let sealed = seal(&large, &key());
    assert!(sealed.len() < MANIFEST_MAX);
    assert_eq!(Manifest::open(&sealed, &hubs().ours).unwrap().0, large);
}

#[test]
fn a_document_is_recovered_from_its_manifest_and_objects_alone() {
    let hub = &hubs().ours;
    let keys = [key(), key()];
    let content: Vec<u8> = (0..500_000_u32).map(|i| (i / 3) as u8).collect();
    let mut digest = ContentDigest::new();
    let mut store = std::collections::HashMap::new();
    let mut parts = Vec::new();
    for (index, (key, content)) in keys.iter().zip(content.chunks(300_000)).enumerate() {
        let mut segments = Vec::new();
        for content in content.chunks(120_000) {
            let mut filling = Filling::new();
            filling.add_block(vec![0; BLOCK]).unwrap();
            assert_eq!(filling.put(content), content.len());
            let sealed = filling.seal(key, &mut digest).unwrap();
            let name = format!("segments/{}", store.len());
            segments.push(ManifestSegment::new(name.clone(), &sealed.row()));
            store.insert(name, sealed.into_bytes().concat());
        }
        parts.push(ManifestPart::new((index > 0).then_some(key), segments));
    }
    let listed =
        Manifest { size: content.len() as u64, sha256: hex::encode(digest.finalize()), parts, ..manifest() };
    let sealed = listed.seal(&keys[0], hub, &[hub.current()]).unwrap();

    let (found, keys) = Manifest::open(&sealed, hub).unwrap();
    let mut recovered = Vec::new();
    let mut digest = ContentDigest::new();
    for (part, key) in found.parts.iter().zip(&keys) {
        for segment in &part.segments {
            let row = segment.row().unwrap();
            let mut opening = Opening::new(key, &row, 0..row.length).unwrap();
            let ready = opening.feed(&store[&segment.object]).unwrap().unwrap();
            opening.finish().unwrap();
            digest.update(&ready);
            recovered.extend_from_slice(&ready);
        }
    }
    assert!(recovered == content);
    assert_eq!(hex::encode(digest.finalize()), found.sha256);
}

#[test]
fn rotation_replaces_the_wrapping_and_nothing_else() {
    let Hubs { ours, rotated, other, .. } = hubs();
    let key = key();
    let sealed = seal(&manifest(), &key);
    let front = key.wrap(&[ours.current()]).unwrap().len();
    let rewrapped = Manifest::rewrap(&sealed, rotated, &[rotated.current()]).unwrap();
    assert_ne!(rewrapped[..front], sealed[..front]);
    assert_eq!(rewrapped[rewrapped.len() - (sealed.len() - front)..], sealed[front..]);
    // The new ring opens it: the retired key still vouches for its signature.
    assert_eq!(Manifest::open(&rewrapped, rotated).unwrap().0, manifest());
    assert!(matches!(Manifest::open(&rewrapped, ours), Err(SealError::NotOurs)));
    assert!(matches!(Manifest::rewrap(&sealed, other, &[other.current()]), Err(SealError::NotOurs)));
    assert!(matches!(Manifest::rewrap(&sealed, rotated, &[]), Err(SealError::NoRecipient)));
    // A damaged manifest does not get a new wrapping that makes it look sound.
    let mut bad = sealed.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert!(Manifest::rewrap(&bad, rotated, &[rotated.current()]).is_err());
    assert!(Manifest::rewrap(&[&sealed[..], &[0]].concat(), rotated, &[rotated.current()]).is_err());
}

#[test]
fn any_flipped_bit_and_any_cut_is_refused() {
    let sealed = seal(&manifest(), &key());
    // One bit of each octet; every bit of a wrapping and of a packet is flipped in other tests.
    for bit in (0..sealed.len()).map(|octet| octet * 8 + octet % 8) {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::open(&bad, &hubs().ours).is_err(), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(Manifest::open(&sealed[..length], &hubs().ours).is_err(), "cut to {length}");
    }
    for extra in [&[0][..], &sealed, &[0xC0 | 21, 1, 0]] {
        assert!(Manifest::open(&[&sealed[..], extra].concat(), &hubs().ours).is_err());
    }
    assert!(matches!(Manifest::open(&vec![0; MANIFEST_MAX + 1], &hubs().ours), Err(SealError::Limit(_))));
}

#[test]
fn another_hubs_signature_is_refused() {
    let Hubs { ours, other, .. } = hubs();
    let sealed = manifest().seal(&key(), other, &[ours.current(), other.current()]).unwrap();
    Manifest::open(&sealed, other).unwrap();
    assert!(matches!(Manifest::open(&sealed, ours), Err(SealError::Manifest("not signed by the hub"))));
}

/// The hub's signing key, as only its thief has it.
fn signer() -> KeyPair {
    static SIGNER: OnceLock<KeyPair> = OnceLock::new();
    let open = || {
        let cert = Cert::from_bytes(&hubs().secret).unwrap();
        let policy = StandardPolicy::new();
        let key = cert.keys().with_policy(&policy, None).for_signing().secret().next().unwrap().key().clone();
        key.decrypt_secret(&Password::from(PASSPHRASE)).unwrap().into_keypair().unwrap()
    };
    SIGNER.get_or_init(open).clone()
}

fn literal(message: Message<'_>, content: &[u8]) {
    let mut literal = LiteralWriter::new(message).build().unwrap();
    literal.write_all(content).unwrap();
    literal.finalize().unwrap();
}

fn sign(json: &[u8]) -> Vec<u8> {
    let mut signed = Vec::new();
    literal(Signer::new(Message::new(&mut signed), signer()).unwrap().build().unwrap(), json);
    signed
}

/// Seals any packets as a manifest is sealed. The packet itself is what `seal_small` would write, but
/// that its plaintext is not a literal; so it is written with the library's own parts.
fn seal_packets(packets: &[u8]) -> Vec<u8> {
    use openssl::cipher::Cipher;
    use openssl::cipher_ctx::CipherCtx;
    assert!(packets.len() <= 65_536, "one chunk");
    let hub = &hubs().ours;
    let key = key();
    let salt = [5; 32];
    let associated = [0xD2, 2, 9, 2, 10];
    let mut derived = [0; 39];
    let mut hkdf = openssl::pkey_ctx::PkeyCtx::new_id(openssl::pkey::Id::HKDF).unwrap();
    hkdf.derive_init().unwrap();
    hkdf.set_hkdf_md(openssl::md::Md::sha256()).unwrap();
    hkdf.set_hkdf_key(key.as_bytes()).unwrap();
    hkdf.set_hkdf_salt(&salt).unwrap();
    hkdf.add_hkdf_info(&associated).unwrap();
    hkdf.derive(Some(&mut derived)).unwrap();
    let run = |index: u64, associated: &[u8], plain: &[u8]| {
        let mut context = CipherCtx::new().unwrap();
        context.encrypt_init(Some(Cipher::aes_256_ocb()), None, None).unwrap();
        context.set_iv_length(15).unwrap();
        let nonce = [&derived[32..], &index.to_be_bytes()].concat();
        context.encrypt_init(None, Some(&derived[..32]), Some(&nonce)).unwrap();
        context.cipher_update(associated, None).unwrap();
        let mut sealed = Vec::new();
        context.cipher_update_vec(plain, &mut sealed).unwrap();
        context.cipher_final_vec(&mut sealed).unwrap();
        let mut tag = [0; 16];
        context.tag(&mut tag).unwrap();
        sealed.extend_from_slice(&tag);
        sealed
    };
    let chunk = run(0, &associated, packets);
    let length = (packets.len() as u64).to_be_bytes();
    let end = run(1, &[&associated[..], &length].concat(), &[]);
    let body = [&associated[1..], &salt, &chunk, &end].concat();
    let mut sealed = key.wrap(&[hub.current()]).unwrap();
    sealed.extend_from_slice(&[0xD2, 0xFF]);
    sealed.extend_from_slice(&(body.len() as u32).to_be_bytes());
    sealed.extend_from_slice(&body);
    sealed
}

fn refused(packets: &[u8]) -> SealError {
    Manifest::open(&seal_packets(packets), &hubs().ours).unwrap_err()
}

#[test]
fn packets_other_than_one_signed_literal_are_refused() {
    let json = serde_json::to_vec(&manifest()).unwrap();
    let good = sign(&json);
    assert_eq!(Manifest::open(&seal_packets(&good), &hubs().ours).unwrap().0, manifest());

    // Not signed.
    let mut bare = Vec::new();
    literal(Message::new(&mut bare), &json);
    assert!(matches!(refused(&bare), SealError::Manifest(_)));
    let hub = &hubs().ours;
    let key = key();
    let small = [key.wrap(&[hub.current()]).unwrap(), seal_small(&key, &json).unwrap()].concat();
    assert!(matches!(Manifest::open(&small, hub), Err(SealError::Manifest(_))));
    // Signed twice.
    let mut twice = Vec::new();
    let message = Signer::new(Message::new(&mut twice), signer()).unwrap().build().unwrap();
    literal(Signer::new(message, signer()).unwrap().build().unwrap(), &json);
    assert!(matches!(refused(&twice), SealError::Manifest(_)));
    // Signed by somebody else as well.
    let packets: Vec<Packet> = PacketPile::from_bytes(&good).unwrap().into_children().collect();
    assert_eq!(packets.len(), 3);
    // A literal exchanged under the signature, a signature alone, two messages, marker and padding.
    let other = sign(&serde_json::to_vec(&Manifest { size: 1, ..manifest() }).unwrap());
    let pieces = |bytes: &[u8]| -> Vec<Vec<u8>> {
        use sequoia_openpgp::serialize::SerializeInto;
        let packets = PacketPile::from_bytes(bytes).unwrap();
        packets.children().map(|packet| packet.to_vec().unwrap()).collect()
    };
    let (good_pieces, other_pieces) = (pieces(&good), pieces(&other));
    let exchanged = [&good_pieces[0][..], &other_pieces[1], &good_pieces[2]].concat();
    assert!(matches!(refused(&exchanged), SealError::Manifest("not signed by the hub")));
    assert!(Manifest::open(&seal_packets(&good_pieces.concat()), hub).is_ok(), "the pieces are right");
    refused(&good_pieces[2]);
    refused(&good_pieces[..2].concat());
    refused(&good_pieces[1..].concat());
    refused(&[&good[..], &good].concat());
    refused(&[&[0xC0 | 10, 3, b'P', b'G', b'P'], &good[..]].concat());
    refused(&[&good[..], &[0xC0 | 21, 1, 0]].concat());
    refused(&[&good[..], &[0]].concat());
    refused(&[0]);
    // Encrypted once more inside.
    let session_key = SessionKey::new(32).unwrap();
    let mut nested = Vec::new();
    let message =
        Encryptor::with_session_key(Message::new(&mut nested), SymmetricAlgorithm::AES256, session_key)
            .unwrap()
            .aead_algo(AEADAlgorithm::OCB)
            .build()
            .unwrap();
    literal(message, &json);
    refused(&nested);
    // An unknown packet.
    let mut unknown = Vec::new();
    let mut writer = ArbitraryWriter::new(Message::new(&mut unknown), Tag::Private(60)).unwrap();
    writer.write_all(&json).unwrap();
    writer.finalize().unwrap();
    refused(&unknown);
}

#[test]
fn json_that_is_not_exactly_the_fields_is_refused() {
    let json = serde_json::to_value(manifest()).unwrap();
    let refused = |json: &serde_json::Value| {
        matches!(refused(&sign(&serde_json::to_vec(json).unwrap())), SealError::Manifest(_))
    };
    let mut unknown = json.clone();
    unknown["comment"] = "x".into();
    assert!(refused(&unknown));
    let mut unknown = json.clone();
    unknown["parts"][0]["segments"][0]["sha256"] = "x".into();
    assert!(refused(&unknown));
    for field in ["version", "document", "name", "size", "sha256", "created", "parts"] {
        let mut missing = json.clone();
        missing.as_object_mut().unwrap().remove(field);
        assert!(refused(&missing), "{field}");
    }
    for (pointer, value) in [
        ("/version", 2.into()),
        ("/size", 301.into()),
        ("/size", (-300).into()),
        ("/sha256", "0".repeat(63).into()),
        ("/sha256", "A".repeat(64).into()),
        ("/created", (-1).into()),
        ("/created", i64::MAX.into()),
        ("/name", "x".repeat(5_000).into()),
        ("/parts", serde_json::json!([])),
        ("/parts/0/key", "00".repeat(32).into()),
        ("/parts/1/key", serde_json::Value::Null),
        ("/parts/1/key", "00".repeat(31).into()),
        ("/parts/0/segments/0/salt", "07".into()),
        ("/parts/0/segments/0/tag", "zz".repeat(16).into()),
        ("/parts/0/segments/0/length", 99.into()),
        ("/parts/0/segments/0/length", 0.into()),
        ("/parts/0/segments/0/object_length", 1.into()),
        ("/parts/0/segments/0/object", "".into()),
        ("/parts/0/segments/0/object", "segments/b".into()),
        ("/parts/0/segments/0/object", "segments/c".into()),
    ] {
        let mut wrong = json.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        assert!(refused(&wrong), "{pointer}");
    }
    let text = serde_json::to_string(&json).unwrap();
    for wrong in [
        format!("{text} {text}"),
        text.replacen("\"version\":1", "\"version\":1,\"version\":1", 1),
        text[..text.len() - 1].to_owned(),
        "[".repeat(100_000 / 2),
        String::new(),
    ] {
        assert_ne!(wrong, text);
        let wrong = &wrong.as_bytes()[..wrong.len().min(60_000)];
        assert!(matches!(self::refused(&sign(wrong)), SealError::Manifest(_)));
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_not_sealed() {
    let hub = &hubs().ours;
    let refused = |manifest: Manifest| {
        matches!(manifest.seal(&key(), hub, &[hub.current()]), Err(SealError::Manifest(_)))
    };
    assert!(refused(Manifest { version: 0, ..manifest() }));
    assert!(refused(Manifest { size: 299, ..manifest() }));
    assert!(refused(Manifest { parts: Vec::new(), ..manifest() }));
    assert!(refused(Manifest { sha256: "AB".repeat(32), ..manifest() }));
    assert!(matches!(manifest().seal(&key(), hub, &[]), Err(SealError::NoRecipient)));
}

#[test]
fn a_clock_that_was_wrong_hides_no_document() {
    // Completed before the hub's key existed (a rotation meanwhile, or a clock set back), or far in the
    // future (a clock set forward): the manifest opens all the same.
    for created in [0, 1, 1_000_000_000_000_000, 4_000_000_000_000_000, 4_294_967_295_000_000] {
        let manifest = Manifest { created, ..manifest() };
        let sealed = seal(&manifest, &key());
        assert_eq!(Manifest::open(&sealed, &hubs().ours).unwrap().0, manifest, "created at {created}");
    }
}

#[test]
fn a_segment_or_a_digest_state_is_not_a_manifest() {
    let hub = &hubs().ours;
    let key = key();
    let front = key.wrap(&[hub.current()]).unwrap();
    let state = ContentDigest::new().save(&key).unwrap();
    for packet in [state, seal_small(&key, &[0; 70_000]).unwrap(), Vec::new()] {
        assert!(Manifest::open(&[&front[..], &packet].concat(), hub).is_err());
    }
    // Nor a manifest a segment.
    let sealed = seal(&manifest(), &key);
    assert!(open_small(&key, &sealed[front.len()..]).is_err());
}
