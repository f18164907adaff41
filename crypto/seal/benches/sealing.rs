//! How fast sealing and opening are, beside what bounds them: one core, one segment after the other.
//!
//! Run with `cargo bench -p pli-seal`. Every figure is in MB/s (10^6 bytes of content) and is the median
//! of interleaved rounds, by the time this thread was on a core. The raw figures are OpenSSL's AES-256-OCB
//! and the faster of OpenSSL's and sha2's SHA-256, over the same memory, in pieces of 64 KiB, doing nothing
//! else.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use pli_seal::{BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, Opening, Sealed, TAG, content_of_blocks};
use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::packet::{PKESK, SKESK};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, MessageStructure, VerificationHelper,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::stream::{Encryptor, LiteralWriter, Message};
use sequoia_openpgp::types::{AEADAlgorithm, SymmetricAlgorithm};
use sequoia_openpgp::{Cert, KeyHandle};
use sha2::{Digest, Sha256};

const ROUNDS: usize = 15;
/// Segments in one measurement.
const SEGMENTS: usize = 8;
/// What the network and the store hand over at a time.
const PIECE: usize = 64 << 10;

/// A block that goes back to its pool, as the gateway's do.
struct Lent {
    block: Vec<u8>,
    pool: Pool,
}

type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.block
    }
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.block
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.lock().unwrap().push(std::mem::take(&mut self.block));
    }
}

fn lend(pool: &Pool) -> Lent {
    let block = pool.lock().unwrap().pop().unwrap_or_else(|| vec![0; BLOCK]);
    Lent { block, pool: Arc::clone(pool) }
}

struct RawOcb {
    context: CipherCtx,
    nonce: u64,
}

impl RawOcb {
    fn new() -> Self {
        let mut context = CipherCtx::new().unwrap();
        context.encrypt_init(Some(Cipher::aes_256_ocb()), None, None).unwrap();
        context.set_iv_length(15).unwrap();
        context.encrypt_init(None, Some(&[7; 32]), None).unwrap();
        Self { context, nonce: 0 }
    }

    fn run(&mut self, buffer: &mut [u8]) {
        for piece in buffer.chunks_exact_mut(CHUNK + TAG) {
            self.nonce += 1;
            let mut nonce = [0; 15];
            nonce[7..].copy_from_slice(&self.nonce.to_be_bytes());
            self.context.encrypt_init(None, None, Some(&nonce)).unwrap();
            let done = self.context.cipher_update_inplace(piece, CHUNK).unwrap();
            self.context.cipher_final(&mut piece[done..]).unwrap();
            self.context.tag(&mut piece[CHUNK..]).unwrap();
        }
    }
}

fn raw_sha256_openssl(buffer: &[u8]) {
    let mut sha256 = openssl::sha::Sha256::new();
    for piece in buffer.chunks(CHUNK) {
        sha256.update(piece);
    }
    black_box(sha256.finish());
}

fn raw_sha256_sha2(buffer: &[u8]) {
    let mut sha256 = Sha256::new();
    for piece in buffer.chunks(CHUNK) {
        sha256.update(piece);
    }
    black_box(sha256.finalize());
}

fn pli_seal(key: &DocumentKey, content: &[u8], pool: &Pool) -> Sealed<Lent> {
    let mut filling = Filling::new();
    for piece in content.chunks(PIECE) {
        let mut rest = piece;
        while !rest.is_empty() {
            if filling.room() == 0 {
                filling.add_block(lend(pool)).unwrap();
            }
            rest = &rest[filling.put(rest)..];
        }
    }
    filling.seal(key, &mut ContentDigest::new()).unwrap()
}

fn sequoia_seal(key: &DocumentKey, content: &[u8], sink: impl Write + Send + Sync) {
    let session_key = SessionKey::from(&key.as_bytes()[..]);
    let message = Encryptor::with_session_key(Message::new(sink), SymmetricAlgorithm::AES256, session_key)
        .unwrap()
        .aead_algo(AEADAlgorithm::OCB)
        .build()
        .unwrap();
    let mut literal = LiteralWriter::new(message).build().unwrap();
    let mut sha256 = Sha256::new();
    for piece in content.chunks(PIECE) {
        sha256.update(piece);
        literal.write_all(piece).unwrap();
    }
    literal.finalize().unwrap();
    black_box(sha256.finalize());
}

/// Gives the session key to Sequoia, without any public-key operation.
struct GiveKey<'a>(&'a DocumentKey);

impl VerificationHelper for GiveKey<'_> {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(Vec::new())
    }

    fn check(&mut self, _structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        Ok(())
    }
}

impl DecryptionHelper for GiveKey<'_> {
    fn decrypt(
        &mut self,
        _pkesks: &[PKESK],
        _skesks: &[SKESK],
        _algo: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> sequoia_openpgp::Result<Option<Cert>> {
        decrypt(None, &SessionKey::from(&self.0.as_bytes()[..]));
        Ok(None)
    }
}

fn sequoia_open(key: &DocumentKey, sealed: &[u8], buffer: &mut [u8]) {
    let policy = StandardPolicy::new();
    let mut decryptor =
        DecryptorBuilder::from_bytes(sealed).unwrap().with_policy(&policy, None, GiveKey(key)).unwrap();
    let mut sha256 = Sha256::new();
    loop {
        let taken = decryptor.read(buffer).unwrap();
        if taken == 0 {
            break;
        }
        sha256.update(&buffer[..taken]);
    }
    black_box(sha256.finalize());
}

/// Nanoseconds that this thread has been on a core: on a machine that does other things as well, the
/// clock on the wall would count those too. Linux only; elsewhere the clock has to do.
fn on_core() -> Option<u64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    times.split(' ').next()?.parse().ok()
}

/// One thing that is measured: its name and its rates.
struct Measured {
    name: &'static str,
    rates: Vec<f64>,
}

impl Measured {
    fn new(name: &'static str) -> Self {
        Self { name, rates: Vec::new() }
    }

    fn time(&mut self, bytes: usize, mut work: impl FnMut()) {
        let start = Instant::now();
        let on_core = on_core();
        for _ in 0..SEGMENTS {
            work();
        }
        let seconds = match (on_core, self::on_core()) {
            (Some(before), Some(after)) if after > before => (after - before) as f64 / 1e9,
            _ => start.elapsed().as_secs_f64(),
        };
        self.rates.push((bytes * SEGMENTS) as f64 / seconds / 1e6);
    }

    fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }
}

fn main() {
    // `cargo test --benches` runs this too: one round is enough to see that it works.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let length = content_of_blocks(16);
    let content: Vec<u8> =
        (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u8).collect();
    let key = DocumentKey::random().unwrap();
    let pool = Pool::default();

    let sealed = pli_seal(&key, &content, &pool);
    let row = sealed.row();
    let pli_object = sealed.into_bytes().concat();
    let mut sequoia_object = Vec::new();
    sequoia_seal(&key, &content, &mut sequoia_object);
    let mut raw = vec![0; 256 * (CHUNK + TAG)];
    let mut buffer = vec![0; PIECE];
    let mut object = Vec::with_capacity(2 * length);
    let mut ocb = RawOcb::new();

    let mut raw_ocb = Measured::new("raw AES-256-OCB (OpenSSL)");
    let mut raw_openssl = Measured::new("raw SHA-256 (OpenSSL)");
    let mut raw_sha2 = Measured::new("raw SHA-256 (sha2)");
    let mut both = Measured::new("raw OCB, then raw SHA-256");
    let mut pli_sealing = Measured::new("Pli: receive, hash, seal");
    let mut sequoia_sealing = Measured::new("Sequoia: hash, encrypt");
    let mut pli_opening = Measured::new("Pli: open, hash");
    let mut sequoia_opening = Measured::new("Sequoia: decrypt, hash");

    for _ in 0..rounds {
        raw_ocb.time(length, || ocb.run(&mut raw));
        raw_openssl.time(length, || raw_sha256_openssl(&content));
        raw_sha2.time(length, || raw_sha256_sha2(&content));
        let faster =
            if raw_sha2.median() > raw_openssl.median() { raw_sha256_sha2 } else { raw_sha256_openssl };
        both.time(length, || {
            ocb.run(&mut raw);
            faster(&content);
        });
        pli_sealing.time(length, || {
            black_box(pli_seal(&key, &content, &pool).into_bytes());
        });
        sequoia_sealing.time(length, || {
            // Both leave the object in memory that is used again.
            object.clear();
            sequoia_seal(&key, &content, &mut object);
        });
        pli_opening.time(length, || {
            let mut opening = Opening::new(&key, &row, 0..row.length).unwrap();
            let mut sha256 = Sha256::new();
            for piece in pli_object.chunks(PIECE) {
                sha256.update(opening.feed(piece).unwrap().unwrap_or_default());
            }
            opening.finish().unwrap();
            black_box(sha256.finalize());
        });
        sequoia_opening.time(length, || sequoia_open(&key, &sequoia_object, &mut buffer));
    }

    println!("sealing: segments of {length} bytes, one core, median of {rounds} rounds, MB/s");
    for measured in [
        &raw_ocb,
        &raw_openssl,
        &raw_sha2,
        &both,
        &pli_sealing,
        &sequoia_sealing,
        &pli_opening,
        &sequoia_opening,
    ] {
        println!("{:<28} {:>8.0}", measured.name, measured.median());
    }
    // What no implementation that hashes and then encrypts can pass, Sequoia's own rate given.
    println!("{:<28} {:>8.2}", "raw in sequence / Sequoia", both.median() / sequoia_sealing.median());
    let ratio = |name: &str, a: &Measured, b: &Measured, goal: f64| {
        let ratio = a.median() / b.median();
        println!("{name:<28} {ratio:>8.2}   goal {goal:.1}{}", if ratio < goal { "   MISSED" } else { "" });
    };
    ratio("sealing / raw in sequence", &pli_sealing, &both, 0.7);
    ratio("sealing / Sequoia", &pli_sealing, &sequoia_sealing, 2.0);
    ratio("opening / raw in sequence", &pli_opening, &both, 0.7);
    ratio("opening / Sequoia", &pli_opening, &sequoia_opening, 2.0);
}
