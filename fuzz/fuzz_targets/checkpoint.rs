//! Notes, checkpoints, keys and proofs as hostile texts, and true ones that were altered. Nothing may panic, what
//! is read has one form, and nothing that the log did not sign may open.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pli_journal::{
    Checkpoint, Frontier, Hash, Note, NoteSignature, Proof, TlogProof, TreeHead, VerifierKey,
    verify_consistency, verify_inclusion,
};

const ORIGIN: &str = "pli.example.org/journal";
const SIZE: u64 = 21;

/// A true proof for leaf 20 of 21, as `TlogProof` writes it. Its key is fixed so that a crash can be run again.
static TRUE: LazyLock<(TlogProof, Vec<u8>, [VerifierKey; 1])> = LazyLock::new(|| {
    let key = pli_journal::SigningKey::from_seed(ORIGIN, &[0x42; 32].into()).expect("a key");
    let mut frontier = Frontier::new();
    (0..SIZE).for_each(|index| frontier.push(leaf(index)).expect("a small tree"));
    // 21 is 16, 4 and 1: the way up from the last leaf is by the other two.
    let perfect = |from: u64, to: u64| {
        let mut frontier = Frontier::new();
        (from..to).for_each(|index| frontier.push(leaf(index)).expect("a small tree"));
        frontier.head().root
    };
    let proof = Proof::new(vec![perfect(16, 20), perfect(0, 16)]).expect("a short proof");
    let checkpoint = Checkpoint::new(ORIGIN, frontier.head()).expect("a checkpoint");
    let checkpoint = checkpoint.sign(&key).expect("signed");
    let proof = TlogProof { index: SIZE - 1, proof, checkpoint, extra: None };
    let keys = [key.verifier_key()];
    proof.verify(&leaf(SIZE - 1), ORIGIN, &keys).expect("it is true");
    (proof.clone(), proof.to_string().into_bytes(), keys)
});

fn leaf(index: u64) -> Hash {
    Hash::leaf(&index.to_be_bytes())
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => texts(data),
        1 => altered(data),
        2 => proofs(data),
        _ => {
            // A text of the fuzzer's choice under the one signature there is.
            let mut note = data.to_vec();
            let line = TRUE.0.checkpoint.signatures()[0].to_string();
            note.extend_from_slice(format!("\n{line}\n").as_bytes());
            if let Ok((checkpoint, _)) = Checkpoint::open(&note, ORIGIN, &TRUE.2) {
                assert_eq!(checkpoint.text(), TRUE.0.checkpoint.text());
            }
        }
    }
});

/// What is read is written again byte for byte, and nobody signed it.
fn texts(data: &[u8]) {
    if let Ok(note) = Note::parse(data) {
        assert_eq!(note.to_string().as_bytes(), data);
        assert!(note.verify(&TRUE.2).is_err() || note.text() == TRUE.0.checkpoint.text());
        let mut more = note.clone();
        for signature in note.signatures() {
            if more.add(signature.clone()).is_ok() {
                assert_eq!(Note::parse(more.to_string().as_bytes()).expect("read again"), more);
            }
        }
    }
    if let Ok(proof) = TlogProof::parse(data) {
        assert_eq!(proof.to_string().as_bytes(), data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.text(), text);
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(signature) = NoteSignature::parse(text) {
        assert_eq!(signature.to_string(), text);
    }
}

/// The true proof with octets exchanged, cut or added as the input says.
fn altered(data: &[u8]) {
    let (proof, text, keys) = &*TRUE;
    let mut bad = text.clone();
    for edit in data.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % (bad.len() + 1);
        match edit[0] >> 6 {
            0 => {
                if let Some(octet) = bad.get_mut(at) {
                    *octet ^= edit[3];
                }
            }
            1 => bad.insert(at, edit[3]),
            2 => drop(bad.drain(at..(at + usize::from(edit[3])).min(bad.len()))),
            _ => bad.truncate(at),
        }
    }
    let Ok(read) = TlogProof::parse(&bad) else { return };
    if let Ok(checkpoint) = read.verify(&leaf(SIZE - 1), ORIGIN, keys) {
        // Signatures of others, and the extra data, may stand beside what is true.
        assert_eq!((read.index, &read.proof), (proof.index, &proof.proof));
        assert_eq!(checkpoint.text(), proof.checkpoint.text());
    }
    for other in 0..SIZE - 1 {
        assert!(read.verify(&leaf(other), ORIGIN, keys).is_err());
    }
}

/// Any hashes, as proofs for any sizes, to roots that are leaves: they do not lead there.
fn proofs(data: &[u8]) {
    let Some((numbers, hashes)) = data.split_first_chunk::<16>() else { return };
    let (first, second) = numbers.split_at(8);
    let number = |octets: &[u8]| octets.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
    let (first, second) = (number(first), number(second));
    let Ok(proof) = Proof::from_bytes(hashes) else { return };
    assert_eq!(proof.to_bytes(), hashes);
    let head = TreeHead { size: second, root: leaf(second) };
    assert!(verify_inclusion(&leaf(first), first, &head, &proof).is_err());
    let old = TreeHead { size: first, root: leaf(first) };
    if first != second {
        assert!(verify_consistency(&old, &head, &proof).is_err());
    }
}
