//! Proofs that are not what they say.

use pli_journal::{HASH, Hash, PROOF_MAX, Proof, ProofError, TreeHead, verify_consistency, verify_inclusion};

use crate::naive::{Naive, sides};

const SIZE: usize = 36;

/// All that is one step away from these hashes: one dropped, one added, two exchanged.
fn reshaped(hashes: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..=hashes.len() {
        for added in hashes.iter().copied().chain([Hash::empty()]) {
            let mut longer = hashes.to_vec();
            longer.insert(at, added);
            all.push(longer);
        }
        if at < hashes.len() {
            let mut shorter = hashes.to_vec();
            shorter.remove(at);
            all.push(shorter);
            for other in at + 1..hashes.len() {
                let mut swapped = hashes.to_vec();
                swapped.swap(at, other);
                all.push(swapped);
            }
        }
    }
    all
}

/// What is said of hashes that are not the good ones.
fn refusal(hashes: &[Hash], good: &[Hash]) -> Result<(), ProofError> {
    Err(if hashes.len() == good.len() { ProofError::Root } else { ProofError::Length })
}

/// The same hashes with each bit flipped in turn.
fn flipped(hashes: &[Hash]) -> impl Iterator<Item = Vec<Hash>> {
    (0..hashes.len() * HASH * 8).map(|bit| {
        let mut bytes = Proof::new(hashes.to_vec()).unwrap().to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Proof::from_bytes(&bytes).unwrap().hashes().to_vec()
    })
}

fn flip(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Hash::from_bytes(bytes)
}

#[test]
fn an_inclusion_proof_with_a_hash_dropped_added_or_exchanged_is_refused() {
    let mut naive = Naive::new(SIZE);
    for size in 1..=SIZE {
        let head = naive.head(size);
        for index in 0..size {
            let path = naive.path(index, 0, size);
            for hashes in reshaped(&path) {
                let refused = refusal(&hashes, &path);
                let proof = Proof::new(hashes).unwrap();
                assert_eq!(verify_inclusion(&naive.leaves[index], index as u64, &head, &proof), refused);
            }
        }
    }
}

#[test]
fn an_inclusion_proof_with_any_bit_flipped_is_refused() {
    let mut naive = Naive::new(SIZE);
    for (index, size) in [(0, 1), (0, 2), (6, 7), (3, 8), (5, 21), (20, 21), (35, 36)] {
        let (head, path, leaf) = (naive.head(size), naive.path(index, 0, size), naive.leaves[index]);
        let proof = Proof::new(path.clone()).unwrap();
        let index = index as u64;
        assert_eq!(verify_inclusion(&leaf, index, &head, &proof), Ok(()));
        for hashes in flipped(&path) {
            let proof = Proof::new(hashes).unwrap();
            assert_eq!(verify_inclusion(&leaf, index, &head, &proof), Err(ProofError::Root));
        }
        for bit in 0..HASH * 8 {
            assert_eq!(verify_inclusion(&flip(&leaf, bit), index, &head, &proof), Err(ProofError::Root));
            let other = TreeHead { root: flip(&head.root, bit), ..head };
            assert_eq!(verify_inclusion(&leaf, index, &other, &proof), Err(ProofError::Root));
        }
    }
}

#[test]
fn an_inclusion_proof_holds_for_no_other_leaf_and_no_other_index() {
    let mut naive = Naive::new(SIZE);
    for size in 1..=SIZE {
        let head = naive.head(size);
        for index in 0..size {
            let proof = Proof::new(naive.path(index, 0, size)).unwrap();
            for other in (0..SIZE).filter(|other| *other != index) {
                let leaf = &naive.leaves[index];
                assert!(verify_inclusion(leaf, other as u64, &head, &proof).is_err());
                assert!(verify_inclusion(&naive.leaves[other], index as u64, &head, &proof).is_err());
                assert!(verify_inclusion(&naive.leaves[other], other as u64, &head, &proof).is_err());
            }
        }
    }
}

/// The root does not hold the size: a proof leads to it under another size exactly when the way up is the same.
#[test]
fn an_inclusion_proof_holds_for_another_size_only_where_the_way_is_the_same() {
    let mut naive = Naive::new(SIZE);
    for size in 1..=SIZE {
        let head = naive.head(size);
        for index in 0..size {
            let proof = Proof::new(naive.path(index, 0, size)).unwrap();
            for other in 0..=SIZE {
                let same = index < other && sides(index, size) == sides(index, other);
                let head = TreeHead { size: other as u64, ..head };
                let verdict = verify_inclusion(&naive.leaves[index], index as u64, &head, &proof);
                assert_eq!(verdict.is_ok(), same, "leaf {index} of {size}, said to be of {other}");
                // With the other tree's own root it never does.
                let head = naive.head(other);
                let verdict = verify_inclusion(&naive.leaves[index], index as u64, &head, &proof);
                assert_eq!(verdict.is_ok(), other == size);
            }
        }
    }
}

#[test]
fn a_leaf_outside_the_tree_is_refused_before_its_proof() {
    let head = Naive::new(5).head(5);
    for index in [5, 6, u64::MAX] {
        let verdict = verify_inclusion(&Hash::empty(), index, &head, &Proof::default());
        assert_eq!(verdict, Err(ProofError::Outside { index, size: 5 }));
    }
    let verdict = verify_inclusion(&Hash::empty(), 0, &TreeHead::empty(), &Proof::default());
    assert_eq!(verdict, Err(ProofError::Outside { index: 0, size: 0 }));
}

#[test]
fn a_consistency_proof_with_a_hash_dropped_added_or_exchanged_is_refused() {
    let mut naive = Naive::new(SIZE);
    for new in 1..=SIZE {
        for old in 1..=new {
            let (before, after) = (naive.head(old), naive.head(new));
            let good = naive.subproof(old, 0, new, true);
            for hashes in reshaped(&good) {
                let refused = refusal(&hashes, &good);
                let proof = Proof::new(hashes).unwrap();
                assert_eq!(verify_consistency(&before, &after, &proof), refused, "from {old} to {new}");
            }
        }
    }
}

#[test]
fn a_consistency_proof_with_any_bit_flipped_is_refused() {
    let mut naive = Naive::new(SIZE);
    for (old, new) in [(1, 2), (3, 7), (4, 8), (6, 8), (8, 21), (20, 21), (33, 36)] {
        let (before, after) = (naive.head(old), naive.head(new));
        let hashes = naive.subproof(old, 0, new, true);
        let proof = Proof::new(hashes.clone()).unwrap();
        assert_eq!(verify_consistency(&before, &after, &proof), Ok(()));
        for hashes in flipped(&hashes) {
            let proof = Proof::new(hashes).unwrap();
            assert_eq!(verify_consistency(&before, &after, &proof), Err(ProofError::Root));
        }
        for bit in 0..HASH * 8 {
            let other = TreeHead { root: flip(&before.root, bit), ..before };
            assert_eq!(verify_consistency(&other, &after, &proof), Err(ProofError::Root));
            let other = TreeHead { root: flip(&after.root, bit), ..after };
            assert_eq!(verify_consistency(&before, &other, &proof), Err(ProofError::Root));
        }
    }
}

#[test]
fn a_consistency_proof_holds_for_no_other_pair_of_trees() {
    let mut naive = Naive::new(SIZE);
    for new in 1..=SIZE {
        for old in 1..new {
            let proof = Proof::new(naive.subproof(old, 0, new, true)).unwrap();
            for other in (0..=SIZE).filter(|other| *other != old) {
                assert!(verify_consistency(&naive.head(other), &naive.head(new), &proof).is_err());
            }
            for other in (0..=SIZE).filter(|other| *other != new) {
                assert!(verify_consistency(&naive.head(old), &naive.head(other), &proof).is_err());
            }
        }
    }
}

/// Where subproofs divide, and what the verifier makes of it: the tree's shape as far as the proof shows it.
fn shape(old: usize, new: usize) -> Vec<bool> {
    // The subtree at the old tree's right end, and its way up.
    let height = old.trailing_zeros();
    let last = (new - 1) >> height;
    sides((old - 1) >> height, last + 1)
}

#[test]
fn a_consistency_proof_holds_for_other_sizes_only_where_the_shape_is_the_same() {
    let mut naive = Naive::new(SIZE);
    for new in 2..=SIZE {
        for old in 1..new {
            let (before, after) = (naive.head(old), naive.head(new));
            let proof = Proof::new(naive.subproof(old, 0, new, true)).unwrap();
            for other in old + 1..=SIZE {
                let same = shape(old, new) == shape(old, other);
                let other_after = TreeHead { size: other as u64, ..after };
                let verdict = verify_consistency(&before, &other_after, &proof);
                assert_eq!(verdict.is_ok(), same, "from {old} to {new}, said to be {other}");
            }
        }
    }
}

#[test]
fn every_tree_extends_the_empty_one_and_itself_and_none_extends_a_larger() {
    let mut naive = Naive::new(9);
    let nothing = Proof::default();
    let something = Proof::new(vec![Hash::empty()]).unwrap();
    for size in 0..=9 {
        let head = naive.head(size);
        assert_eq!(verify_consistency(&TreeHead::empty(), &head, &nothing), Ok(()));
        assert_eq!(verify_consistency(&head, &head, &nothing), Ok(()));
        assert_eq!(verify_consistency(&TreeHead::empty(), &head, &something), Err(ProofError::Length));
        assert_eq!(verify_consistency(&head, &head, &something), Err(ProofError::Length));
        let fork = TreeHead { root: flip(&head.root, 9), ..head };
        assert_eq!(verify_consistency(&fork, &head, &nothing), Err(ProofError::Root));
    }
    // An empty tree has one root.
    let false_start = TreeHead { size: 0, root: naive.mth(0, 1) };
    assert_eq!(verify_consistency(&false_start, &naive.head(9), &nothing), Err(ProofError::Root));
    let shrunk = verify_consistency(&naive.head(9), &naive.head(8), &nothing);
    assert_eq!(shrunk, Err(ProofError::Shrunk { old: 9, new: 8 }));
}

#[test]
fn proofs_longer_than_any_tree_or_of_broken_hashes_are_not_read() {
    assert!(Proof::from_bytes(&[0; PROOF_MAX * HASH]).is_ok());
    for length in [(PROOF_MAX + 1) * HASH, 1, HASH - 1, HASH + 1] {
        assert!(matches!(Proof::from_bytes(&vec![0; length]), Err(ProofError::Malformed(_))));
    }
    assert!(matches!(Proof::new(vec![Hash::empty(); PROOF_MAX + 1]), Err(ProofError::Malformed(_))));
    assert_eq!(Proof::from_bytes(&[]), Ok(Proof::default()));
    // The largest sizes there are do not overflow anything.
    let proof = Proof::new(vec![Hash::empty(); PROOF_MAX]).unwrap();
    for size in [1, 2, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX] {
        let head = TreeHead { size, root: Hash::empty() };
        for index in [0, 1, size / 2, size - 1] {
            assert!(verify_inclusion(&Hash::empty(), index, &head, &proof).is_err());
            let old = TreeHead { size: index, root: Hash::leaf(b"old") };
            assert!(verify_consistency(&old, &head, &proof).is_err());
        }
    }
}
