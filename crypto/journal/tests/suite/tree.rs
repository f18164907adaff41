//! Roots, tiles and proofs, against the definition and against published vectors.

use std::collections::HashMap;

use pli_journal::{
    Edge, Frontier, HASH, Hash, PROOF_MAX, Proof, TILE_BYTES, TILE_WIDTH, TileId, TileSet, TreeError,
    TreeHead, consistency_proof, consistency_tiles, inclusion_proof, inclusion_tiles, root, root_tiles,
    verify_consistency, verify_inclusion,
};

use crate::naive::{Naive, Seeded, Table};

/// The reference tree of Certificate Transparency.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn reference() -> (Table, Vec<Hash>) {
    let leaves: Vec<Hash> = LEAVES.iter().map(|leaf| Hash::leaf(&hex::decode(leaf).unwrap())).collect();
    (Table::of(&leaves, &[1]).0, leaves)
}

fn reference_head(size: u64) -> TreeHead {
    let root = hex::decode(ROOTS[size as usize - 1]).unwrap().try_into().unwrap();
    TreeHead { size, root: Hash::from_bytes(root) }
}

fn listed(proof: &Proof) -> Vec<String> {
    proof.hashes().iter().map(Hash::to_string).collect()
}

#[test]
fn the_reference_tree_has_its_known_roots() {
    assert_eq!(
        TreeHead::empty().root.to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let (table, _) = reference();
    for size in 1..=8 {
        assert_eq!(root(size, &table.fetch(&root_tiles(size))), Ok(reference_head(size).root), "size {size}");
    }
}

#[test]
fn the_reference_tree_has_its_known_inclusion_proofs() {
    let (table, leaves) = reference();
    let known: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (index, size, hashes) in known {
        let tiles = table.fetch(&inclusion_tiles(index, size).unwrap());
        let proof = inclusion_proof(index, size, &tiles).unwrap();
        assert_eq!(listed(&proof), hashes, "leaf {index} of {size}");
        verify_inclusion(&leaves[index as usize], index, &reference_head(size), &proof).unwrap();
    }
}

#[test]
fn the_reference_tree_has_its_known_consistency_proofs() {
    let (table, _) = reference();
    let known: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, new, hashes) in known {
        let tiles = table.fetch(&consistency_tiles(old, new).unwrap());
        let proof = consistency_proof(old, new, &tiles).unwrap();
        assert_eq!(listed(&proof), hashes, "from {old} to {new}");
        verify_consistency(&reference_head(old), &reference_head(new), &proof).unwrap();
    }
}

/// One proof from the planned tiles alone, against the definition, and verified.
fn included(table: &Table, naive: &mut Naive, index: usize, size: usize) {
    let tiles = table.fetch(&inclusion_tiles(index as u64, size as u64).unwrap());
    let proof = inclusion_proof(index as u64, size as u64, &tiles).unwrap();
    assert_eq!(proof.hashes(), naive.path(index, 0, size), "leaf {index} of {size}");
    let head = naive.head(size);
    verify_inclusion(&naive.leaves[index], index as u64, &head, &proof).unwrap();
}

fn consistent(table: &Table, naive: &mut Naive, old: usize, new: usize) {
    let tiles = table.fetch(&consistency_tiles(old as u64, new as u64).unwrap());
    let proof = consistency_proof(old as u64, new as u64, &tiles).unwrap();
    let defined = if old == 0 { Vec::new() } else { naive.subproof(old, 0, new, true) };
    assert_eq!(proof.hashes(), defined, "from {old} to {new}");
    let (old, new) = (naive.head(old), naive.head(new));
    verify_consistency(&old, &new, &proof).unwrap();
}

#[test]
fn every_root_and_every_proof_up_to_300_leaves_is_as_defined() {
    const SIZE: usize = 300;
    let mut naive = Naive::new(SIZE);
    let (table, _) = Table::of(&naive.leaves, &[1]);
    let mut frontier = Frontier::new();
    for size in 0..=SIZE {
        let head = naive.head(size);
        assert_eq!(frontier.head(), head);
        // The tiles of the last tree serve all that came before it.
        assert_eq!(root(size as u64, &table.fetch(&root_tiles(size as u64))), Ok(head.root), "size {size}");
        for other in 0..=size {
            if other < size {
                included(&table, &mut naive, other, size);
            }
            consistent(&table, &mut naive, other, size);
        }
        if let Some(leaf) = naive.leaves.get(size) {
            frontier.push(*leaf).unwrap();
        }
    }
}

#[test]
fn random_proofs_of_large_trees_are_as_defined() {
    let mut random = Seeded(2026);
    for _ in 0..4 {
        let size = 1_000 + random.below(140_000);
        let mut naive = Naive::new(size);
        let (table, head) = Table::of(&naive.leaves, &[random.below(900) + 1, random.below(9_000) + 1, 256]);
        assert_eq!(head, naive.head(size));
        for _ in 0..60 {
            let small = random.below(size) + 1;
            let smaller = random.below(small);
            for at in [small, size] {
                included(&table, &mut naive, smaller, at);
                consistent(&table, &mut naive, smaller, at);
            }
        }
    }
}

/// The tiles of a tree, by their definition in C2SP tlog-tiles.
fn defined(naive: &mut Naive) -> HashMap<TileId, Vec<u8>> {
    let size = naive.leaves.len();
    let mut tiles = HashMap::new();
    for level in 0..3 {
        let span = TILE_WIDTH.pow(level);
        for n in 0..size / span {
            let id = TileId { level: level as u8, index: (n / TILE_WIDTH) as u64 };
            let hash = naive.mth(n * span, (n + 1) * span);
            tiles.entry(id).or_insert_with(Vec::new).extend_from_slice(hash.as_bytes());
        }
    }
    tiles
}

#[test]
fn tiles_are_as_defined_however_the_leaves_came() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 3_000, 65_535, 65_536, 65_537, 70_000] {
        let mut naive = Naive::new(size);
        let defined = defined(&mut naive);
        for batches in [&[70_000][..], &[255], &[256], &[257, 1], &[700, 3_000]] {
            let (table, head) = Table::of(&naive.leaves, batches);
            assert_eq!(head, naive.head(size));
            assert!(table.0 == defined, "{size} leaves in batches of {batches:?}");
        }
    }
}

#[test]
fn the_tiles_of_70_000_leaves_are_those_of_the_specification() {
    let (table, _) = Table::of(&Naive::new(70_000).leaves, &[70_000]);
    let width = |level, index| table.0.get(&TileId { level, index }).map(|bytes| bytes.len() / HASH);
    assert!((0..273).all(|index| width(0, index) == Some(256)));
    assert_eq!(
        [width(0, 273), width(1, 0), width(1, 1), width(2, 0)],
        [Some(112), Some(256), Some(17), Some(1)]
    );
    assert_eq!(table.0.len(), 273 + 4);
}

#[test]
fn an_append_writes_only_what_has_changed() {
    let leaves = Naive::new(65_537).leaves;
    let mut edge = Edge::empty();
    let mut written = |from: usize, to: usize| {
        let appended = edge.append(&leaves[from..to]).unwrap();
        let tiles = appended.tiles.iter().map(|tile| (tile.id.level, tile.id.index, tile.bytes.len() / HASH));
        tiles.collect::<Vec<_>>()
    };
    assert_eq!(written(0, 0), []);
    assert_eq!(written(0, 255), [(0, 0, 255)]);
    assert_eq!(written(255, 256), [(0, 0, 256), (1, 0, 1)]);
    assert_eq!(written(256, 257), [(0, 1, 1)]);
    assert_eq!(written(257, 258), [(0, 1, 2)]);
    assert_eq!(written(258, 520), [(0, 1, 256), (0, 2, 8), (1, 0, 2)]);
    let filled = written(520, 65_535);
    assert_eq!(filled.first(), Some(&(0, 2, 256)));
    assert_eq!(filled[filled.len() - 2..], [(0, 255, 255), (1, 0, 255)]);
    assert_eq!(written(65_535, 65_536), [(0, 255, 256), (1, 0, 256), (2, 0, 1)]);
    assert_eq!(written(65_536, 65_537), [(0, 256, 1)]);
}

#[test]
fn proofs_at_the_edges_of_tiles_are_as_defined() {
    let edges =
        [1, 2, 128, 129, 255, 256, 257, 511, 512, 513, 65_279, 65_280, 65_281, 65_535, 65_536, 65_537];
    let mut naive = Naive::new(65_537);
    let (table, _) = Table::of(&naive.leaves, &[4_096]);
    for size in edges {
        for other in edges.into_iter().filter(|other| *other <= size) {
            included(&table, &mut naive, other - 1, size);
            consistent(&table, &mut naive, other, size);
        }
    }
}

#[test]
fn a_proof_reads_a_handful_of_tiles_however_long_the_log() {
    for (size, most) in [(10_000_000, 5), (1 << 32, 8), (u64::MAX, 15)] {
        let mut random = Seeded(size);
        for _ in 0..2_000 {
            let index = random.next() % size;
            assert!(inclusion_tiles(index, size).unwrap().len() <= most);
            assert!(consistency_tiles(index, size).unwrap().len() <= most);
        }
    }
}

#[test]
fn an_edge_that_is_not_the_trees_is_refused() {
    let naive = Naive::new(600);
    let (table, head) = Table::of(&naive.leaves, &[600]);
    let ids = root_tiles(head.size);
    let last = TileId { level: 0, index: 2 };
    assert_eq!(ids, [last, TileId { level: 1, index: 0 }]);
    assert!(Edge::open(&head, &table.fetch(&ids)).is_ok());

    assert_eq!(Edge::open(&head, &table.fetch(&ids[1..])).unwrap_err(), TreeError::MissingTile(last));

    for width in [87, 89] {
        let mut tiles = table.fetch(&ids);
        let mut bytes = table.0[&last].clone();
        bytes.resize(width * HASH, 0);
        tiles.insert(last, bytes).unwrap();
        assert_eq!(Edge::open(&head, &tiles).unwrap_err(), TreeError::Width { id: last, width, needed: 88 });
    }

    for id in &ids {
        let mut tiles = table.fetch(&ids);
        let mut bytes = table.0[id].clone();
        bytes[0] ^= 1;
        tiles.insert(*id, bytes).unwrap();
        assert_eq!(Edge::open(&head, &tiles).unwrap_err(), TreeError::Root { expected: head });
    }
}

#[test]
fn tiles_that_are_short_or_missing_are_named() {
    let naive = Naive::new(600);
    let (table, _) = Table::of(&naive.leaves, &[600]);
    let ids = inclusion_tiles(300, 600).unwrap();
    for id in &ids {
        let others: Vec<_> = ids.iter().copied().filter(|other| other != id).collect();
        assert_eq!(inclusion_proof(300, 600, &table.fetch(&others)), Err(TreeError::MissingTile(*id)));
    }
    let short = TileId { level: 0, index: 2 };
    let mut tiles = table.fetch(&ids);
    tiles.insert(short, &table.0[&short][..87 * HASH]).unwrap();
    assert_eq!(inclusion_proof(300, 600, &tiles), Err(TreeError::Width { id: short, width: 87, needed: 88 }));
}

#[test]
fn bytes_that_are_not_hashes_make_no_tile() {
    let id = TileId { level: 0, index: 0 };
    let mut tiles = TileSet::new();
    for length in [0, 1, 31, 33, TILE_BYTES - 1, TILE_BYTES + 1, TILE_BYTES + HASH] {
        assert_eq!(tiles.insert(id, vec![0; length]), Err(TreeError::Length { id, length }));
    }
    assert!(tiles.is_empty());
    tiles.insert(id, vec![0; TILE_BYTES]).unwrap();
    assert_eq!(tiles.len(), 1);
}

#[test]
fn what_is_not_in_the_tree_has_no_proof() {
    let tiles = TileSet::new();
    for (index, size) in [(0, 0), (1, 1), (5, 5), (6, 5), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        assert_eq!(inclusion_tiles(index, size), Err(TreeError::Outside { index, size }));
        assert_eq!(inclusion_proof(index, size, &tiles), Err(TreeError::Outside { index, size }));
    }
    for (old, new) in [(1, 0), (u64::MAX, u64::MAX - 1)] {
        assert_eq!(consistency_tiles(old, new), Err(TreeError::Shrunk { old, new }));
        assert_eq!(consistency_proof(old, new, &tiles), Err(TreeError::Shrunk { old, new }));
    }
}

/// The largest tree there can be: its edge is 255 hashes at each of eight levels, whatever lies left of them.
#[test]
fn the_largest_tree_proves_its_last_leaf_and_grows_no_more() {
    const SIZE: u64 = u64::MAX;
    let ids = root_tiles(SIZE);
    assert_eq!(ids.len(), 8);
    let mut tiles = TileSet::new();
    for id in &ids {
        let hashes = (0..255_u8).map(|i| Hash::leaf(&[id.level, i]));
        tiles.insert(*id, hashes.flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>()).unwrap();
    }
    let head = TreeHead { size: SIZE, root: root(SIZE, &tiles).unwrap() };
    let mut edge = Edge::open(&head, &tiles).unwrap();
    assert_eq!(edge.head(), head);
    assert_eq!(edge.append(&[Hash::empty()]).unwrap_err(), TreeError::Full);
    assert_eq!(edge.head(), head);
    assert!(edge.append(&[]).unwrap().tiles.is_empty());

    let last = Hash::leaf(&[0, 254]);
    let proof = inclusion_proof(SIZE - 1, SIZE, &tiles).unwrap();
    assert_eq!(proof.hashes().len(), 63);
    verify_inclusion(&last, SIZE - 1, &head, &proof).unwrap();
    assert!(verify_inclusion(&last, SIZE - 2, &head, &proof).is_err());

    let old = TreeHead { size: SIZE - 1, root: root(SIZE - 1, &tiles).unwrap() };
    let proof = consistency_proof(old.size, SIZE, &tiles).unwrap();
    verify_consistency(&old, &head, &proof).unwrap();
    assert!(proof.hashes().len() <= PROOF_MAX);
}
