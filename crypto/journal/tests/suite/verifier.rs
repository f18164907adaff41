//! What was done to the rows, and what the verifier makes of it.

use pli_journal::{
    Disagreement, FirstWrong, Hash, Suspect, TileId, TreeHead, Verified, Verifier, root_tiles,
};

use crate::naive::{Naive, Seeded, Table};

/// A log of 1,000 leaves with a checkpoint every 100, as it lies in the database: rows by index, and tiles.
struct Log {
    rows: Vec<Option<Hash>>,
    stored: Vec<Option<Hash>>,
    heads: Vec<TreeHead>,
}

const SIZE: usize = 1_000;

impl Log {
    fn new() -> Self {
        let mut naive = Naive::new(SIZE);
        let (table, _) = Table::of(&naive.leaves, &[70]);
        let tiles: Vec<TileId> = (0..4).map(|index| TileId { level: 0, index }).collect();
        let tiles = table.fetch(&tiles);
        let stored: Vec<_> = (0..SIZE as u64).map(|index| tiles.leaf(index)).collect();
        let rows: Vec<_> = naive.leaves.iter().copied().map(Some).collect();
        assert_eq!(stored, rows);
        Self { rows, stored, heads: (0..=10).map(|i| naive.head(i * 100)).collect() }
    }

    fn verify(&self) -> Result<Verified, Disagreement> {
        let mut verifier = Verifier::new();
        let leaves = self.rows.len().max(self.stored.len()) as u64;
        let at = |list: &[Option<Hash>], index: u64| list.get(index as usize).copied().flatten();
        let until = |verifier: &mut Verifier, end: u64| {
            for index in verifier.position()..end.min(leaves) {
                verifier.leaf(index, at(&self.rows, index), at(&self.stored, index))?;
            }
            Ok(())
        };
        for head in &self.heads {
            until(&mut verifier, head.size)?;
            verifier.check(head)?;
        }
        until(&mut verifier, u64::MAX)?;
        verifier.finish()
    }

    fn without_tiles(mut self) -> Self {
        self.stored.clear();
        self
    }

    fn disagreement(&self) -> Disagreement {
        self.verify().unwrap_err()
    }

    fn rows_disagree(&self, checkpoint: usize, first_wrong: FirstWrong) -> bool {
        self.disagreement() == Disagreement::Rows { checkpoint: self.heads[checkpoint], first_wrong }
    }
}

fn other() -> Option<Hash> {
    Some(Hash::leaf("autre chose".as_bytes()))
}

fn between(start: u64, end: u64, suspect: Option<Suspect>) -> FirstWrong {
    FirstWrong::Between { leaves: start..end, suspect }
}

#[test]
fn an_untouched_log_agrees_with_every_checkpoint() {
    for log in [Log::new(), Log::new().without_tiles()] {
        let verified = log.verify().unwrap();
        assert_eq!(verified, Verified { head: log.heads[10], covered: log.heads[10], checkpoints: 11 });
    }
}

#[test]
fn leaves_after_the_last_checkpoint_are_counted_as_covered_by_none() {
    let mut log = Log::new();
    let whole = log.heads.split_off(8)[2];
    let verified = log.verify().unwrap();
    assert_eq!(verified, Verified { head: whole, covered: log.heads[7], checkpoints: 8 });
    assert_eq!(verified.covered.size, 700);
}

#[test]
fn an_edited_row_is_named() {
    for index in [0, 1, 99, 100, 455, 999] {
        let mut log = Log::new();
        log.rows[index] = other();
        let suspect = Suspect::Altered(index as u64);
        assert!(log.rows_disagree(index / 100 + 1, FirstWrong::Leaf(suspect)), "leaf {index}");
        // Without stored hashes: between the checkpoint before it and the one after it.
        let start = index as u64 / 100 * 100;
        let log = log.without_tiles();
        assert!(log.rows_disagree(index / 100 + 1, between(start, start + 100, None)), "leaf {index}");
    }
}

#[test]
fn of_two_edited_rows_the_first_is_named() {
    let mut log = Log::new();
    log.rows[655] = other();
    log.rows[612] = other();
    log.rows[120] = log.rows[121];
    assert!(log.rows_disagree(2, FirstWrong::Leaf(Suspect::Altered(120))));
}

#[test]
fn a_deleted_row_is_named() {
    let mut log = Log::new();
    log.rows[455] = None;
    assert!(log.rows_disagree(5, FirstWrong::Leaf(Suspect::Missing(455))));
    // Known to be missing, but an earlier one may be wrong as well.
    let log = log.without_tiles();
    assert!(log.rows_disagree(5, between(400, 500, Some(Suspect::Missing(455)))));
}

#[test]
fn a_deleted_row_is_named_when_those_after_it_were_renumbered() {
    let mut log = Log::new();
    log.rows.remove(455);
    assert!(log.rows_disagree(5, FirstWrong::Leaf(Suspect::Altered(455))));
    assert!(log.without_tiles().rows_disagree(5, between(400, 500, None)));
}

#[test]
fn an_inserted_row_is_named() {
    let mut log = Log::new();
    log.rows.insert(300, other());
    assert!(log.rows_disagree(4, FirstWrong::Leaf(Suspect::Altered(300))));
    assert!(log.without_tiles().rows_disagree(4, between(300, 400, None)));
}

#[test]
fn exchanged_rows_are_named_by_the_first_of_them() {
    for (first, second) in [(410, 411), (410, 470), (410, 900)] {
        let mut log = Log::new();
        log.rows.swap(first, second);
        assert!(log.rows_disagree(5, FirstWrong::Leaf(Suspect::Altered(410))));
        assert!(log.without_tiles().rows_disagree(5, between(400, 500, None)));
    }
}

#[test]
fn rows_and_tiles_set_back_behind_a_checkpoint_are_missing() {
    // The checkpoint of size 1,000 survives: in the table, in a receipt, with a witness.
    let mut log = Log::new();
    log.heads.drain(8..10);
    log.rows.truncate(750);
    assert!(log.rows_disagree(8, FirstWrong::Leaf(Suspect::Missing(750))));
    log.stored.truncate(750);
    assert!(log.rows_disagree(8, between(700, 1_000, Some(Suspect::Missing(750)))));
    log.rows.truncate(0);
    log.stored.truncate(0);
    assert!(log.rows_disagree(1, between(0, 100, Some(Suspect::Missing(0)))));
}

#[test]
fn a_log_set_back_as_a_whole_shows_against_a_checkpoint_kept_elsewhere() {
    let mut log = Log::new();
    let kept = log.heads[9];
    log.rows.truncate(700);
    log.stored.truncate(700);
    log.heads.truncate(8);
    assert!(log.verify().is_ok());
    log.heads.push(kept);
    assert!(log.rows_disagree(8, between(700, 900, Some(Suspect::Missing(700)))));
    // And when it has gone on since, in another way.
    log.rows.extend([other(); 250]);
    assert!(log.rows_disagree(8, between(700, 900, None)));
}

#[test]
fn a_tile_that_was_altered_is_told_from_a_row_that_was() {
    let mut log = Log::new();
    log.stored[455] = other();
    assert_eq!(log.disagreement(), Disagreement::Stored { index: 455, checkpoint: log.heads[5] });
}

#[test]
fn when_row_and_tile_were_altered_the_interval_is_named() {
    let mut log = Log::new();
    log.rows[455] = other();
    log.stored[455] = other();
    assert!(log.rows_disagree(5, between(400, 500, None)));
    // A difference further on is a suspect, not a proof.
    log.rows[470] = other();
    assert!(log.rows_disagree(5, between(400, 500, Some(Suspect::Altered(470)))));
}

#[test]
fn stored_hashes_that_are_known_in_part_still_prove() {
    let mut log = Log::new();
    log.rows[455] = other();
    for index in (0..SIZE).filter(|index| index % 5 != 0) {
        log.stored[index] = None;
    }
    assert!(log.rows_disagree(5, FirstWrong::Leaf(Suspect::Altered(455))));
    // Where the wrong row has no stored hash, it is taken for right and the checkpoint is not reached.
    log.stored[455] = None;
    assert!(log.rows_disagree(5, between(400, 500, None)));
}

#[test]
fn what_no_checkpoint_covers_is_not_judged() {
    let mut log = Log::new();
    log.heads.truncate(8);
    log.rows[800] = other();
    let suspect = Suspect::Altered(800);
    assert_eq!(log.disagreement(), Disagreement::Uncovered { suspect, covered: 700 });
    log.rows[750] = None;
    let suspect = Suspect::Missing(750);
    assert_eq!(log.disagreement(), Disagreement::Uncovered { suspect, covered: 700 });
    // Without stored hashes an edited row there cannot show at all; a missing one does.
    let log = log.without_tiles();
    assert_eq!(log.disagreement(), Disagreement::Uncovered { suspect, covered: 700 });
}

#[test]
fn two_checkpoints_that_contradict_each_other_are_named() {
    let mut log = Log::new();
    let fork = TreeHead { root: Hash::empty(), ..log.heads[5] };
    log.heads.insert(6, fork);
    assert_eq!(log.disagreement(), Disagreement::Checkpoints { checkpoint: fork, agreed: log.heads[5] });
    // The same one twice is no contradiction.
    log.heads[6] = log.heads[5];
    assert_eq!(log.verify().map(|verified| verified.checkpoints), Ok(12));
    // In the order in which they were signed, a smaller one after a larger one is a log set back.
    log.heads.swap(3, 4);
    let (checkpoint, agreed) = (log.heads[4], log.heads[3]);
    assert_eq!(log.disagreement(), Disagreement::Checkpoints { checkpoint, agreed });
    // An empty log has one root.
    let false_start = TreeHead { size: 0, root: fork_root() };
    let mut verifier = Verifier::new();
    assert!(matches!(verifier.check(&false_start), Err(Disagreement::Checkpoints { .. })));
}

fn fork_root() -> Hash {
    Hash::leaf(b"")
}

#[test]
fn an_index_that_comes_twice_is_refused_and_the_verdict_stays() {
    let log = Log::new();
    let mut verifier = Verifier::new();
    verifier.leaf(0, log.rows[0], None).unwrap();
    verifier.leaf(1, log.rows[1], None).unwrap();
    let refused = Err(Disagreement::Order { expected: 2, found: 1 });
    assert_eq!(verifier.leaf(1, log.rows[1], None), refused);
    assert_eq!(verifier.leaf(2, log.rows[2], None), refused);
    assert_eq!(verifier.check(&log.heads[1]), refused);
    assert_eq!(verifier.finish().map(|_| ()), refused);
    let end = Verifier::new().leaf(u64::MAX, log.rows[0], None);
    assert_eq!(end, Err(Disagreement::Order { expected: 0, found: u64::MAX }));
}

#[test]
fn a_checkpoint_that_comes_too_late_is_not_called_wrong() {
    let log = Log::new();
    let mut verifier = Verifier::new();
    for index in 0..250 {
        verifier.leaf(index, log.rows[index as usize], None).unwrap();
    }
    assert_eq!(verifier.check(&log.heads[0]), Ok(()));
    let late = Disagreement::Late { checkpoint: log.heads[2], position: 250 };
    assert_eq!(verifier.check(&log.heads[2]), Err(late));
}

#[test]
fn verification_goes_on_from_a_checkpoint_that_is_believed() {
    let log = Log::new();
    let leaves: Vec<Hash> = log.rows.iter().copied().flatten().collect();
    let (table, _) = Table::of(&leaves, &[1_000]);
    for start in [0, 1, 2, 5, 7, 10] {
        let head = log.heads[start];
        let tiles = table.fetch(&root_tiles(head.size));
        let mut verifier = Verifier::resume(&head, &tiles).unwrap();
        for head in &log.heads[start..] {
            for index in verifier.position()..head.size {
                verifier.leaf(index, log.rows[index as usize], None).unwrap();
            }
            verifier.check(head).unwrap();
        }
        assert_eq!(verifier.finish().unwrap().head, log.heads[10]);
        let fork = TreeHead { root: Hash::leaf(b"fork"), ..head };
        assert!(Verifier::resume(&fork, &tiles).is_err());
    }
}

#[test]
fn wherever_one_row_is_altered_removed_or_moved_it_is_named() {
    let mut random = Seeded(455);
    for _ in 0..60 {
        let index = random.below(SIZE - 1);
        let mut log = Log::new();
        let suspect = match random.below(4) {
            0 => {
                log.rows[index] = other();
                Suspect::Altered(index as u64)
            }
            1 => {
                log.rows[index] = None;
                Suspect::Missing(index as u64)
            }
            2 => {
                log.rows.remove(index);
                Suspect::Altered(index as u64)
            }
            _ => {
                let to = index + 1 + random.below(SIZE - index - 1);
                let row = log.rows.remove(index);
                log.rows.insert(to, row);
                Suspect::Altered(index as u64)
            }
        };
        assert!(log.rows_disagree(index / 100 + 1, FirstWrong::Leaf(suspect)), "{suspect:?}");
    }
}
