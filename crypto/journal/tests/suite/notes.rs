//! Notes, keys, checkpoints and offline proofs: published vectors, and hostile texts.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pli_journal::{
    Checkpoint, EXTENSIONS_MAX, Hash, NAME_MAX, NOTE_MAX, Note, NoteError, NoteSignature, ORIGIN_MAX,
    PROOF_MAX, Proof, ProofError, SIGNATURES_MAX, SigningKey, TLOG_PROOF_MAX, TlogProof, TreeHead,
    VerifierKey,
};
use zeroize::Zeroizing;

use crate::naive::Naive;

// The published test vectors of Go's golang.org/x/mod/sumdb/note.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER_LINE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
const ENOCH_LINE: &str = "\u{2014} EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=";

fn keys(texts: &[&str]) -> Vec<VerifierKey> {
    texts.iter().map(|text| VerifierKey::parse(text).unwrap()).collect()
}

fn peter() -> SigningKey {
    let seed: [u8; 32] = STANDARD.decode(PETER_SEED).unwrap().try_into().unwrap();
    SigningKey::from_seed("PeterNeumann", &Zeroizing::new(seed)).unwrap()
}

fn key(name: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(name, &Zeroizing::new([seed; 32])).unwrap()
}

fn note(lines: &[&str]) -> Vec<u8> {
    let mut note = format!("{TEXT}\n");
    for line in lines {
        note.push_str(line);
        note.push('\n');
    }
    note.into_bytes()
}

fn verified(note: &[u8], keys: &[VerifierKey]) -> Result<Vec<String>, NoteError> {
    let note = Note::parse(note)?;
    Ok(note.verify(keys)?.iter().map(|key| key.name().to_owned()).collect())
}

#[test]
fn the_published_note_is_signed_byte_for_byte_and_verifies() {
    let signed = Note::sign(TEXT, &peter()).unwrap();
    assert_eq!(signed.to_string().into_bytes(), note(&[PETER_LINE]));
    assert_eq!(peter().verifier_key().to_string(), PETER);
    assert_eq!(verified(&note(&[PETER_LINE]), &keys(&[PETER])), Ok(vec!["PeterNeumann".into()]));
    assert_eq!(verified(&note(&[ENOCH_LINE]), &keys(&[ENOCH])), Ok(vec!["EnochRoot".into()]));
}

#[test]
fn a_key_is_read_from_pkcs8_as_from_its_seed() {
    // RFC 8410, 7: version, algorithm 1.3.101.112, the seed as an octet string in an octet string.
    let mut der = hex::decode("302e020100300506032b657004220420").unwrap();
    der.extend(STANDARD.decode(PETER_SEED).unwrap());
    let key = SigningKey::from_pkcs8("PeterNeumann", &Zeroizing::new(der.clone())).unwrap();
    assert_eq!(key.verifier_key(), peter().verifier_key());
    for cut in 0..der.len() {
        assert!(SigningKey::from_pkcs8("PeterNeumann", &Zeroizing::new(der[..cut].to_vec())).is_err());
    }
    assert!(!format!("{key:?}").contains(&PETER_SEED[..8]));
    assert_eq!(format!("{key:?}"), "SigningKey(\"PeterNeumann+c74f20a3\")");
}

#[test]
fn signatures_of_unknown_keys_are_kept_and_ignored() {
    let both = note(&[PETER_LINE, ENOCH_LINE]);
    assert_eq!(verified(&both, &keys(&[PETER])), Ok(vec!["PeterNeumann".into()]));
    assert_eq!(verified(&both, &keys(&[ENOCH])), Ok(vec!["EnochRoot".into()]));
    assert_eq!(verified(&both, &keys(&[ENOCH, PETER])), Ok(vec!["PeterNeumann".into(), "EnochRoot".into()]));
    let parsed = Note::parse(&both).unwrap();
    assert_eq!(parsed.to_string().into_bytes(), both);
    assert_eq!(parsed.signatures()[1].name(), "EnochRoot");
    assert_eq!(parsed.signatures()[1].key_id(), [0xaf, 0x0c, 0xfe, 0x78]);
    // A timestamped cosignature (C2SP tlog-cosignature), of a type that is not verified here.
    let witness = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
    let mut signed = Note::parse(&note(&[PETER_LINE])).unwrap();
    signed.add(NoteSignature::parse(witness).unwrap()).unwrap();
    assert_eq!(signed.to_string().into_bytes(), note(&[PETER_LINE, witness]));
    assert!(signed.verify(&keys(&[PETER])).is_ok());
    // Nor one that shares its name, or its id, with a known key.
    let others = [
        PETER_LINE.replace("PeterNeumann", "PeterNeuman"),
        PETER_LINE.replace("x08go/", "x08gp/"),
        "\u{2014} PeterNeumann AAAAAAA=".to_owned(),
    ];
    for other in &others {
        assert_eq!(verified(&note(&[other]), &keys(&[PETER])), Err(NoteError::Unsigned));
        assert_eq!(verified(&note(&[other, PETER_LINE]), &keys(&[PETER])), Ok(vec!["PeterNeumann".into()]));
    }
}

#[test]
fn a_bad_signature_of_a_known_key_refuses_the_note_whatever_others_say() {
    let bad = PETER_LINE.replace("ZJku", "ZJkv");
    let short = "\u{2014} PeterNeumann x08go/Y=";
    for lines in
        [&[bad.as_str()][..], &[&bad, ENOCH_LINE], &[ENOCH_LINE, &bad], &[PETER_LINE, &bad], &[short]]
    {
        assert_eq!(
            verified(&note(lines), &keys(&[PETER, ENOCH])),
            Err(NoteError::Signature("PeterNeumann+c74f20a3".into())),
        );
    }
    assert_eq!(verified(&note(&[&bad, ENOCH_LINE]), &keys(&[ENOCH])), Ok(vec!["EnochRoot".into()]));
}

#[test]
fn any_bit_of_text_or_signature_that_changes_refuses_the_note() {
    let good = note(&[PETER_LINE]);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(verified(&bad, &keys(&[PETER])).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(verified(&good[..length], &keys(&[PETER])).is_err());
    }
}

#[test]
fn two_known_keys_of_one_name_and_id_are_an_error_and_not_a_guess() {
    // Ids are 32 bits: among some 100,000 keys, two share theirs.
    let mut seen = HashMap::new();
    let pair = (0_u64..).find_map(|i| {
        let mut public = [0; 32];
        public[..8].copy_from_slice(&i.to_be_bytes());
        let key = VerifierKey::new("example.org/a", &public).unwrap();
        seen.insert(key.id(), key.clone()).map(|other| [other, key])
    });
    let pair = pair.unwrap();
    let line = STANDARD.encode([&pair[0].id()[..], &[0; 64]].concat());
    let named = note(&[&format!("\u{2014} example.org/a {line}")]);
    let label = format!("example.org/a+{}", hex::encode(pair[0].id()));
    assert_eq!(verified(&named, &pair), Err(NoteError::Ambiguous(label)));
    // Where neither is named, nor where the same key is known twice, there is nothing to guess.
    let [first, second] = pair;
    let known = [first, second, peter().verifier_key(), peter().verifier_key()];
    assert_eq!(verified(&note(&[PETER_LINE]), &known), Ok(vec!["PeterNeumann".into()]));
    assert_eq!(verified(&note(&[PETER_LINE]), &[]), Err(NoteError::Unsigned));
}

#[test]
fn hostile_notes_are_refused() {
    let signature = &PETER_LINE[4..];
    let bad: &[&str] = &[
        "",
        "\n",
        "\n\n",
        "\n\n\n",
        TEXT,
        &format!("{TEXT}\n"),
        &format!("{TEXT}\n\n"),
        &format!("{TEXT}{PETER_LINE}\n"),
        &format!("{TEXT}\n{PETER_LINE}"),
        &format!("{TEXT}\n{PETER_LINE}\n\n"),
        &format!("{TEXT}\n{PETER_LINE}\nUnexpected line.\n"),
        &format!("{TEXT}\r\n{PETER_LINE}\n"),
        &format!("{TEXT}\n{PETER_LINE}\r\n"),
        &format!("{TEXT}\t\n\n{PETER_LINE}\n"),
        &format!("\u{1}{TEXT}\n{PETER_LINE}\n"),
        &format!("{TEXT}\0\n\n{PETER_LINE}\n"),
        &format!("{TEXT}\n- {signature}\n"),
        &format!("{TEXT}\n\u{2013} {signature}\n"),
        &format!("{TEXT}\n\u{2014}{signature}\n"),
        &format!("{TEXT}\n\u{2014}  {signature}\n"),
        &format!("{TEXT}\n {PETER_LINE}\n"),
        &format!("{TEXT}\n{PETER_LINE} \n"),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("PeterNeumann", "Peter Neumann")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("PeterNeumann", "Peter\u{a0}Neumann")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("PeterNeumann", "Peter\u{2003}Neumann")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("PeterNeumann", "Peter+Neumann")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("PeterNeumann", "")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("PeterNeumann", &"n".repeat(NAME_MAX + 1))),
        // Base 64 has one form: its own alphabet, padded, no bits left over.
        &format!("{TEXT}\n{}\n", PETER_LINE.replace('/', "_")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace('=', "")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace('=', "==")),
        &format!("{TEXT}\n{}\n", PETER_LINE.replace("AM=", "AN=")),
        &format!("{TEXT}\n\u{2014} PeterNeumann \n"),
        &format!("{TEXT}\n\u{2014} PeterNeumann x08gow==\n"),
        &format!("{TEXT}\n\u{2014} PeterNeumann\n"),
    ];
    for text in bad {
        assert!(matches!(Note::parse(text.as_bytes()), Err(NoteError::Note(_))), "{text:?}");
    }
    let mut not_utf8 = note(&[PETER_LINE]);
    not_utf8[0] = 0xff;
    assert_eq!(Note::parse(&not_utf8), Err(NoteError::Note("not UTF-8")));
}

#[test]
fn a_text_may_hold_empty_lines_and_the_last_one_ends_it() {
    let text = format!("a\n\n\n{PETER_LINE}\n");
    let mut signed = Note::sign(text.clone(), &peter()).unwrap();
    signed.sign_also(&key("example.org/autre", 9)).unwrap();
    let parsed = Note::parse(signed.to_string().as_bytes()).unwrap();
    assert_eq!(parsed, signed);
    assert_eq!(parsed.text(), text);
    assert_eq!(verified(signed.to_string().as_bytes(), &keys(&[PETER])), Ok(vec!["PeterNeumann".into()]));
}

#[test]
fn a_text_that_is_no_notes_is_not_signed() {
    for text in ["", "abc", "a\tb\n", "a\r\n", "\u{0}\n"] {
        assert!(matches!(Note::sign(text, &peter()), Err(NoteError::Note(_))), "{text:?}");
    }
    assert!(matches!(Note::sign("a".repeat(NOTE_MAX) + "\n", &peter()), Err(NoteError::Limit(_))));
    // With its signature it would be longer than anyone reads.
    assert!(matches!(Note::sign("a".repeat(NOTE_MAX - 9) + "\n", &peter()), Err(NoteError::Limit(_))));
}

#[test]
fn notes_have_limits_and_sixteen_large_signatures_are_within_them() {
    let large = STANDARD.encode(vec![7; 4 + 5_000]);
    let lines: Vec<String> = (0..16).map(|i| format!("\u{2014} witness.example/{i} {large}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain([PETER_LINE]).collect();
    assert!(verified(&note(&lines), &keys(&[PETER])).is_ok());
    assert!(verified(&note(&vec![PETER_LINE; SIGNATURES_MAX]), &keys(&[PETER])).is_ok());
    let many = Note::parse(&note(&vec![PETER_LINE; SIGNATURES_MAX + 1]));
    assert_eq!(many, Err(NoteError::Limit("signatures on a note")));
    assert_eq!(Note::parse(&vec![b'\n'; NOTE_MAX + 1]), Err(NoteError::Limit("bytes in a note")));
}

#[test]
fn a_second_signature_by_the_same_key_replaces_the_first() {
    let mut signed = Note::sign(TEXT, &peter()).unwrap();
    signed.sign_also(&peter()).unwrap();
    assert_eq!(signed.to_string().into_bytes(), note(&[PETER_LINE]));
    for i in 1..SIGNATURES_MAX {
        signed.sign_also(&key("example.org/a", i as u8)).unwrap();
    }
    assert_eq!(signed.sign_also(&key("example.org/a", 0)), Err(NoteError::Limit("signatures on a note")));
    assert!(Note::parse(signed.to_string().as_bytes()).is_ok());
}

#[test]
fn keys_that_are_mangled_are_refused() {
    // As the reference implementation tests it: every part of the text, and every character but one.
    for start in 0..PETER.len() {
        for end in start..=PETER.len() {
            if (start, end) != (0, PETER.len()) {
                assert!(VerifierKey::parse(&PETER[start..end]).is_err());
            }
        }
    }
    for at in 0..PETER.len() {
        let mut bytes = PETER.as_bytes().to_vec();
        bytes[at] += 1;
        assert!(VerifierKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err());
    }
    for bad in [
        // Of the wrong length, of an unknown type: with ids to match.
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(VerifierKey::parse(bad).is_err(), "{bad}");
    }
    for name in ["", "a b", "a+b", "a\nb", "a\u{0}b", "a\u{3000}b", &"n".repeat(NAME_MAX + 1)] {
        assert!(matches!(VerifierKey::new(name, &[1; 32]), Err(NoteError::Key(_))), "{name:?}");
        assert!(matches!(SigningKey::from_seed(name, &Zeroizing::new([1; 32])), Err(NoteError::Key(_))));
    }
}

const ORIGIN: &str = "pli.example.org/journal";

fn checkpoint() -> Checkpoint {
    Checkpoint::new(ORIGIN, Naive::new(7).head(7)).unwrap()
}

#[test]
fn the_published_checkpoint_is_read_and_written_alike() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint = Checkpoint::parse(text).unwrap();
    assert_eq!(checkpoint.origin(), "example.com/behind-the-sofa");
    assert_eq!(checkpoint.head().size, 20_852_163);
    assert_eq!(
        checkpoint.head().root.to_string(),
        "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    );
    assert_eq!(checkpoint.text(), text);
}

#[test]
fn a_checkpoint_is_signed_and_opened() {
    let (log, witness) = (key(ORIGIN, 1), key("witness.example/w", 2));
    let checkpoint = checkpoint().with_extension("extension « é »").unwrap();
    let mut note = checkpoint.sign(&log).unwrap();
    note.sign_also(&witness).unwrap();
    let note = note.to_string();
    let (opened, read) = Checkpoint::open(note.as_bytes(), ORIGIN, &[log.verifier_key()]).unwrap();
    assert_eq!(opened, checkpoint);
    assert_eq!(opened.extensions(), ["extension « é »"]);
    assert_eq!(read.verify(&[witness.verifier_key()]).unwrap(), [&witness.verifier_key()]);

    let open = |note: &str, origin: &str, key: &SigningKey| {
        Checkpoint::open(note.as_bytes(), origin, &[key.verifier_key()]).map(|(checkpoint, _)| checkpoint)
    };
    assert_eq!(open(&note, "pli.example.org/autre", &log), Err(NoteError::Origin));
    assert_eq!(open(&note, ORIGIN, &key(ORIGIN, 3)), Err(NoteError::Unsigned));
    assert!(matches!(open(&note.replace("\n7\n", "\n8\n"), ORIGIN, &log), Err(NoteError::Signature(_))));
}

#[test]
fn a_checkpoint_signed_by_the_old_and_the_new_key_opens_with_either() {
    let (old, new) = (key(ORIGIN, 1), key(ORIGIN, 2));
    let mut note = checkpoint().sign(&old).unwrap();
    note.sign_also(&new).unwrap();
    for key in [&old, &new] {
        let keys = [key.verifier_key()];
        assert!(Checkpoint::open(note.to_string().as_bytes(), ORIGIN, &keys).is_ok());
    }
}

#[test]
fn hostile_checkpoints_are_refused() {
    let root = STANDARD.encode([5; 32]);
    let bad: &[&str] = &[
        "",
        "\n",
        "a\n1\n",
        &format!("a\n1\n{root}"),
        &format!("\n1\n{root}\n"),
        &format!("a\n\n{root}\n"),
        &format!("a\n01\n{root}\n"),
        &format!("a\n00\n{root}\n"),
        &format!("a\n+1\n{root}\n"),
        &format!("a\n-1\n{root}\n"),
        &format!("a\n 1\n{root}\n"),
        &format!("a\n1 \n{root}\n"),
        &format!("a\n0x1\n{root}\n"),
        &format!("a\n\u{661}\n{root}\n"),
        &format!("a\n18446744073709551616\n{root}\n"),
        &format!("a\n99999999999999999999999\n{root}\n"),
        &format!("a\n1\n{root}=\n"),
        &format!("a\n1\n{}\n", root.replace('=', "")),
        &format!("a\n1\n{}\n", root.replace("U=", "V=")),
        &format!("a\n1\n{}\n", STANDARD.encode([5; 31])),
        &format!("a\n1\n{}\n", STANDARD.encode([5; 33])),
        &format!("a\n1\n{root}\n\n"),
        &format!("a\n1\n{root}\n\nextension\n"),
        &format!("a\n1\n{root}\nextension\n\n"),
        &format!("a\n1\n{root}\nextension\t\n"),
        &format!("a\r\n1\r\n{root}\r\n"),
        &format!("{}\n1\n{root}\n", "a".repeat(ORIGIN_MAX + 1)),
        // An empty tree has one root, and it is not this one.
        &format!("a\n0\n{root}\n"),
    ];
    for text in bad {
        assert!(matches!(Checkpoint::parse(text), Err(NoteError::Checkpoint(_))), "{text:?}");
    }
    let many = format!("a\n1\n{root}\n{}", "e\n".repeat(EXTENSIONS_MAX));
    assert_eq!(Checkpoint::parse(&many).unwrap().text(), many);
    assert_eq!(Checkpoint::parse(&(many + "e\n")), Err(NoteError::Limit("extension lines of a checkpoint")));
    assert!(Checkpoint::parse(&format!("a\n{}\n{root}\n", u64::MAX)).is_ok());
    let empty = Checkpoint::new("a", TreeHead::empty()).unwrap();
    assert_eq!(empty.text(), "a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
}

#[test]
fn a_line_cannot_smuggle_another_into_a_checkpoint() {
    let head = Naive::new(1).head(1);
    for origin in ["", "a\n999", "a\rb", "a\tb", &"a".repeat(ORIGIN_MAX + 1)] {
        assert!(Checkpoint::new(origin, head).is_err(), "{origin:?}");
    }
    for line in ["", "a\n\n\u{2014} b", "a\u{0}"] {
        assert!(checkpoint().with_extension(line).is_err(), "{line:?}");
    }
}

fn proof(index: usize, size: usize) -> (TlogProof, Hash, SigningKey) {
    let mut naive = Naive::new(size);
    let log = key(ORIGIN, 1);
    let checkpoint = Checkpoint::new(ORIGIN, naive.head(size)).unwrap().sign(&log).unwrap();
    let path = Proof::new(naive.path(index, 0, size)).unwrap();
    let proof = TlogProof { index: index as u64, proof: path, checkpoint, extra: None };
    (proof, naive.leaves[index], log)
}

#[test]
fn a_proof_is_written_read_and_checked_away_from_the_log() {
    for (index, size, extra) in
        [(0, 1, None), (3, 7, Some(b"reste".to_vec())), (4_999, 5_000, Some(Vec::new()))]
    {
        let (mut proof, leaf, log) = proof(index, size);
        proof.extra = extra;
        let text = proof.to_string();
        let read = TlogProof::parse(text.as_bytes()).unwrap();
        assert_eq!(read, proof);
        let keys = [log.verifier_key()];
        let checkpoint = read.verify(&leaf, ORIGIN, &keys).unwrap();
        assert_eq!(checkpoint.head().size, size as u64);
        assert_eq!(read.verify(&Hash::leaf(b"autre"), ORIGIN, &keys), Err(ProofError::Root));
        assert_eq!(read.verify(&leaf, "autre", &keys), Err(ProofError::Note(NoteError::Origin)));
        let others = [key(ORIGIN, 2).verifier_key()];
        assert_eq!(read.verify(&leaf, ORIGIN, &others), Err(ProofError::Note(NoteError::Unsigned)));
    }
    let (proof, _, _) = proof(0, 2);
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n"), "{text}");
    assert!(text.contains(&format!("\n\n{ORIGIN}\n2\n")), "{text}");
}

#[test]
fn a_proof_with_any_bit_flipped_proves_nothing() {
    let (mut proof, leaf, log) = proof(3, 7);
    proof.extra = Some(b"reste".to_vec());
    let (good, keys) = (proof.to_string().into_bytes(), [log.verifier_key()]);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = TlogProof::parse(&bad)
            && read.verify(&leaf, ORIGIN, &keys).is_ok()
        {
            // The extra data are the one thing that nothing vouches for.
            assert_ne!(read.extra, proof.extra);
            assert_eq!(
                (read.index, read.proof, read.checkpoint),
                (3, proof.proof.clone(), proof.checkpoint.clone())
            );
        }
    }
}

#[test]
fn hostile_proofs_are_refused() {
    let (proof, _, _) = proof(3, 7);
    let good = proof.to_string();
    let hash = STANDARD.encode([5; 32]);
    let first = "c2sp.org/tlog-proof@v1\n";
    let bad = [
        String::new(),
        first.into(),
        format!("{first}index 3\n"),
        good.replace("@v1", "@v2"),
        good.replace("index 3", "index 03"),
        good.replace("index 3", "index -3"),
        good.replace("index 3", "index 18446744073709551616"),
        good.replace("index 3", "index  3"),
        good.replace("index 3\n", ""),
        good.replace("index 3", "extra ?\nindex 3"),
        good.replace("index 3", "extra YQ==\nextra YQ==\nindex 3"),
        good.replace("index 3", "index 3\nindex 3"),
        good.replace("index 3", "index 3\nAAAA"),
        good.replace("index 3", &format!("index 3{}", format!("\n{hash}").repeat(PROOF_MAX))),
        good.replace('\n', "\r\n"),
    ];
    for text in bad {
        assert!(matches!(TlogProof::parse(text.as_bytes()), Err(ProofError::Malformed(_))), "{text:?}");
    }
    assert!(matches!(
        TlogProof::parse(good.trim_end().as_bytes()),
        Err(ProofError::Note(NoteError::Note(_)))
    ));
    let limit = Err(ProofError::Note(NoteError::Limit("bytes in a proof")));
    assert_eq!(TlogProof::parse(&vec![b'a'; TLOG_PROOF_MAX + 1]), limit);
}
