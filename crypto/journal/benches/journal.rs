//! How fast the log proves, grows and is checked: one core, everything in memory.
//!
//! Run with `cargo bench -p pli-journal`. Every figure is the median of rounds, by the time this thread was on a
//! core. The raw figures hash the same bytes and build nothing: what no implementation on this SHA-256 can pass.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::hint::black_box;
use std::time::Instant;

use pli_journal::{
    Edge, Hash, TileSet, TreeHead, Verifier, consistency_proof, consistency_tiles, inclusion_proof,
    inclusion_tiles, root_tiles, verify_consistency, verify_inclusion,
};
use sha2::{Digest as _, Sha256};

const ROUNDS: usize = 7;
/// Bytes in a leaf: about an event of the journal as JSON.
const LEAF: usize = 300;
/// Leaves between two checkpoints when all are verified.
const BETWEEN: u64 = 1_000;
/// Proofs in one measurement.
const PROOFS: u64 = 1_000;

/// Nanoseconds that this thread has been on a core. Linux only; elsewhere the clock has to do.
fn on_core() -> Option<u64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    times.split(' ').next()?.parse().ok()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    let before = on_core();
    work();
    match (before, on_core()) {
        (Some(before), Some(after)) if after > before => (after - before) as f64 / 1e9,
        _ => start.elapsed().as_secs_f64(),
    }
}

fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds).map(|_| seconds(&mut work)).collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

/// The leaf of this index, whose bytes are spread over it.
fn leaf(index: u64, content: &mut [u8; LEAF]) {
    for (i, word) in content.chunks_mut(8).enumerate() {
        let mixed = (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(i as u32) ^ i as u64;
        word.copy_from_slice(&mixed.to_le_bytes()[..word.len()]);
    }
}

/// Numbers below `below` that follow no order.
fn scattered(below: u64) -> impl Iterator<Item = u64> {
    (1..=PROOFS).map(move |i| i.wrapping_mul(0xD6E8_FEB8_6659_FD93) % below)
}

/// A set of just these tiles, as rows would be fetched for one question.
fn fetched(
    ids: &[pli_journal::TileId],
    all: &std::collections::HashMap<pli_journal::TileId, Vec<u8>>,
) -> TileSet {
    let mut tiles = TileSet::new();
    for id in ids {
        tiles.insert(*id, all[id].clone()).unwrap();
    }
    tiles
}

fn proofs(size: u64, rounds: usize) {
    let mut edge = Edge::empty();
    let mut all = std::collections::HashMap::new();
    let mut hashes = Vec::new();
    let mut next = 0_u64;
    while next < size {
        hashes.clear();
        hashes.extend((next..size.min(next + 65_536)).map(|index| Hash::leaf(&index.to_be_bytes())));
        next += hashes.len() as u64;
        all.extend(edge.append(&hashes).unwrap().tiles.into_iter().map(|tile| (tile.id, tile.bytes)));
    }
    let head = edge.head();
    println!("\n{size} leaves in {} tiles", all.len());

    let (mut read, mut most, mut bytes) = (0, 0, 0);
    for index in scattered(size) {
        let ids = inclusion_tiles(index, size).unwrap();
        read += ids.len();
        most = most.max(ids.len());
        bytes += ids.iter().map(|id| all[id].len()).sum::<usize>();
    }
    let count = PROOFS as f64;
    println!(
        "{:<44} {:>10.2} most {most}, {:.0} bytes",
        "inclusion: tiles read",
        read as f64 / count,
        bytes as f64 / count
    );
    let time = median(rounds, || {
        for index in scattered(size) {
            let tiles = fetched(&inclusion_tiles(index, size).unwrap(), &all);
            black_box(inclusion_proof(index, size, &tiles).unwrap());
        }
    });
    println!("{:<44} {:>10.1} µs", "inclusion: plan, take tiles, prove", time / count * 1e6);
    let made: Vec<_> = scattered(size)
        .map(|index| {
            let tiles = fetched(&inclusion_tiles(index, size).unwrap(), &all);
            (index, Hash::leaf(&index.to_be_bytes()), inclusion_proof(index, size, &tiles).unwrap())
        })
        .collect();
    let time = median(rounds, || {
        for (index, leaf, proof) in &made {
            verify_inclusion(leaf, *index, &head, proof).unwrap();
        }
    });
    println!("{:<44} {:>10.1} µs", "inclusion: verify", time / count * 1e6);

    let (mut read, mut most) = (0, 0);
    for old in scattered(size) {
        let ids = consistency_tiles(old, size).unwrap();
        read += ids.len();
        most = most.max(ids.len());
    }
    println!("{:<44} {:>10.2} most {most}", "consistency: tiles read", read as f64 / count);
    let time = median(rounds, || {
        for old in scattered(size) {
            let tiles = fetched(&consistency_tiles(old, size).unwrap(), &all);
            black_box(consistency_proof(old, size, &tiles).unwrap());
        }
    });
    println!("{:<44} {:>10.1} µs", "consistency: plan, take tiles, prove", time / count * 1e6);
    let old = scattered(size).find(|old| *old > 0).unwrap();
    let tiles = fetched(&root_tiles(old), &all);
    let old = TreeHead { size: old, root: pli_journal::root(old, &tiles).unwrap() };
    let tiles = fetched(&consistency_tiles(old.size, size).unwrap(), &all);
    let proof = consistency_proof(old.size, size, &tiles).unwrap();
    let time = median(rounds, || {
        for _ in 0..PROOFS {
            verify_consistency(&old, &head, &proof).unwrap();
        }
    });
    println!("{:<44} {:>10.1} µs", "consistency: verify", time / count * 1e6);

    appends(&head, &fetched(&root_tiles(size), &all), rounds);
}

fn appends(head: &TreeHead, tiles: &TileSet, rounds: usize) {
    let opening = median(rounds, || {
        for _ in 0..PROOFS {
            black_box(Edge::open(head, tiles).unwrap());
        }
    });
    println!("{:<44} {:>10.1} µs", "append: open the edge", opening / PROOFS as f64 * 1e6);
    for batch in [1, 100, 1_000] {
        let leaves: Vec<Hash> = (0..batch as u64).map(|i| Hash::leaf(&i.to_be_bytes())).collect();
        let (times, mut written) = (1_000 / batch.min(1_000), 0);
        // Each batch goes onto what the one before it left, as in a job that runs for a while.
        let time = median(rounds, || {
            let mut edge = Edge::open(head, tiles).unwrap();
            written = 0;
            for _ in 0..times {
                written += edge.append(&leaves).unwrap().tiles.len();
            }
        });
        let time = (time - opening / PROOFS as f64).max(0.0);
        println!(
            "{:<44} {:>10.2} µs a leaf, {:.2} tiles written a batch",
            format!("append: batches of {batch}"),
            time / (times * batch) as f64 * 1e6,
            written as f64 / times as f64
        );
    }
}

fn verification(leaves: u64, rounds: usize) {
    let mut content = [0; LEAF];
    let mut edge = Edge::empty();
    let (mut heads, mut hashes) = (Vec::new(), Vec::new());
    let mut next = 0_u64;
    while next < leaves {
        hashes.clear();
        for index in next..leaves.min(next + BETWEEN) {
            leaf(index, &mut content);
            hashes.push(Hash::leaf(&content));
        }
        next += hashes.len() as u64;
        edge.append(&hashes).unwrap();
        heads.push(edge.head());
    }

    let making = median(rounds, || {
        for index in 0..leaves {
            leaf(index, &mut content);
            black_box(&content);
        }
    });
    // The same bytes in the same pieces, and each node's bytes: n leaves have n - 1 nodes.
    let raw = median(rounds, || {
        for index in 0..leaves {
            leaf(index, &mut content);
            black_box(Sha256::digest(content));
        }
    }) - making;
    let raw_nodes = median(rounds, || {
        let mut node = [1_u8; 65];
        for _ in 1..leaves {
            let hash = Sha256::digest(node);
            node[1..33].copy_from_slice(&hash);
        }
        black_box(node);
    });
    let verified = median(rounds, || {
        let mut verifier = Verifier::new();
        for head in &heads {
            while verifier.position() < head.size {
                let index = verifier.position();
                leaf(index, &mut content);
                verifier.leaf(index, Some(Hash::leaf(&content)), None).unwrap();
            }
            verifier.check(head).unwrap();
        }
        let verified = verifier.finish().unwrap();
        assert_eq!((verified.head, verified.checkpoints), (heads[heads.len() - 1], heads.len() as u64));
    }) - making;

    println!("\nverifying {leaves} leaves of {LEAF} bytes, a checkpoint every {BETWEEN}");
    println!("{:<44} {:>10.0} ms", "raw SHA-256 of the leaves", raw * 1e3);
    println!("{:<44} {:>10.0} ms", "raw SHA-256 of leaves and nodes", (raw + raw_nodes) * 1e3);
    println!(
        "{:<44} {:>10.0} ms, {:.2} million leaves a second",
        "Pli: verify",
        verified * 1e3,
        leaves as f64 / verified / 1e6
    );
    println!("{:<44} {:>10.2}", "verify / raw of leaves", verified / raw);
    println!("{:<44} {:>10.2}", "verify / raw of leaves and nodes", verified / (raw + raw_nodes));
}

fn main() {
    // `cargo test --benches` runs this too: small and once is enough to see that it works.
    let full = std::env::args().any(|argument| argument == "--bench");
    let (rounds, many, some) = if full { (ROUNDS, 10_000_000, 1_000_000) } else { (1, 70_000, 10_000) };
    println!("journal: one core, median of {rounds} rounds");
    proofs(many, rounds);
    verification(some, rounds);
}
