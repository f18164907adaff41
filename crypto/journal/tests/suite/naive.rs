//! RFC 6962, 2.1, word for word: slow, recursive, and written from the text alone. And a log that keeps its tiles
//! as a database would.

use std::collections::HashMap;

use pli_journal::{Appended, Edge, Hash, TileId, TileSet, TreeHead};

/// A tree that is computed as the RFC defines it. Roots of ranges are remembered.
pub(crate) struct Naive {
    pub(crate) leaves: Vec<Hash>,
    known: HashMap<(usize, usize), Hash>,
}

/// The largest power of two smaller than n.
fn k(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

impl Naive {
    /// A tree of this many leaves, all different.
    pub(crate) fn new(size: usize) -> Self {
        Self { leaves: (0..size).map(|i| Hash::leaf(&i.to_be_bytes())).collect(), known: HashMap::new() }
    }

    /// MTH(D[start:end]).
    pub(crate) fn mth(&mut self, start: usize, end: usize) -> Hash {
        match end - start {
            0 => return Hash::empty(),
            1 => return self.leaves[start],
            _ => {}
        }
        if let Some(hash) = self.known.get(&(start, end)) {
            return *hash;
        }
        let middle = start + k(end - start);
        let hash = Hash::node(&self.mth(start, middle), &self.mth(middle, end));
        self.known.insert((start, end), hash);
        hash
    }

    pub(crate) fn head(&mut self, size: usize) -> TreeHead {
        TreeHead { size: size as u64, root: self.mth(0, size) }
    }

    /// PATH(m, D[start:end]).
    pub(crate) fn path(&mut self, m: usize, start: usize, end: usize) -> Vec<Hash> {
        if end - start == 1 {
            return Vec::new();
        }
        let middle = start + k(end - start);
        if m < middle - start {
            let mut path = self.path(m, start, middle);
            path.push(self.mth(middle, end));
            path
        } else {
            let mut path = self.path(m - (middle - start), middle, end);
            path.push(self.mth(start, middle));
            path
        }
    }

    /// SUBPROOF(m, D[start:end], b).
    pub(crate) fn subproof(&mut self, m: usize, start: usize, end: usize, b: bool) -> Vec<Hash> {
        if m == end - start {
            return if b { Vec::new() } else { vec![self.mth(start, end)] };
        }
        let middle = start + k(end - start);
        if m <= middle - start {
            let mut proof = self.subproof(m, start, middle, b);
            proof.push(self.mth(middle, end));
            proof
        } else {
            let mut proof = self.subproof(m - (middle - start), middle, end, false);
            proof.push(self.mth(start, middle));
            proof
        }
    }
}

/// On which side of the way up each sibling of leaf m is, from the leaf: true for the left.
pub(crate) fn sides(m: usize, size: usize) -> Vec<bool> {
    if size == 1 {
        return Vec::new();
    }
    let k = k(size);
    let (mut sides, left) = if m < k { (sides(m, k), false) } else { (sides(m - k, size - k), true) };
    sides.push(left);
    sides
}

/// Tiles as rows of a table.
#[derive(Default)]
pub(crate) struct Table(pub(crate) HashMap<TileId, Vec<u8>>);

impl Table {
    /// Exactly the rows that were asked for.
    pub(crate) fn fetch(&self, ids: &[TileId]) -> TileSet {
        let mut tiles = TileSet::new();
        for id in ids {
            tiles.insert(*id, self.0[id].clone()).unwrap();
        }
        tiles
    }

    pub(crate) fn write(&mut self, appended: Appended) {
        for tile in appended.tiles {
            self.0.insert(tile.id, tile.bytes);
        }
    }

    /// A log of these leaves, appended in batches of these lengths, over and over. Between two batches nothing
    /// but the head and the table is kept.
    pub(crate) fn of(leaves: &[Hash], batches: &[usize]) -> (Self, TreeHead) {
        let (mut table, mut head) = (Self::default(), TreeHead::empty());
        let (mut rest, mut lengths) = (leaves, batches.iter().cycle());
        while !rest.is_empty() {
            let (batch, after) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
            rest = after;
            let mut edge = Edge::open(&head, &table.fetch(&pli_journal::root_tiles(head.size))).unwrap();
            let appended = edge.append(batch).unwrap();
            assert_eq!(edge.head(), appended.head);
            head = appended.head;
            table.write(appended);
        }
        (table, head)
    }
}

/// A sequence that is the same in each run (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
