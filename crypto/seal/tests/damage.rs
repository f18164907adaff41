//! What must never open: altered, cut, extended, exchanged, repeated or reordered bytes, and rows that do
//! not belong to them. And what must open: any range, whatever the pieces it arrives in.
//!
//! The rule checked throughout: whatever was handed out before the error is the right content from the
//! right place, out of chunks in front of the damaged one.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::ops::Range;

use pli_seal::{
    BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, HEADER, LITERAL, Opening, Part, SEGMENT_MAX,
    SealError, SegmentRow, TAG, content_of_blocks, object_length, open_packet, open_small, seal_small,
};

/// A small generator, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..length).map(|_| random.next() as u8).collect()
}

fn seal(key: &DocumentKey, content: &[u8]) -> (SegmentRow, Vec<u8>) {
    let mut filling = Filling::new();
    let mut rest = content;
    while !rest.is_empty() {
        if filling.room() == 0 {
            filling.add_block(vec![0; BLOCK]).unwrap();
        }
        rest = &rest[filling.put(rest)..];
    }
    let sealed = filling.seal(key, &mut ContentDigest::new()).unwrap();
    (sealed.row(), sealed.into_bytes().concat())
}

/// Opens a range out of `object` in pieces of `piece` bytes. Returns what was handed out in any case.
fn open_range(
    key: &DocumentKey,
    row: &SegmentRow,
    range: Range<u64>,
    object: &[u8],
    piece: usize,
) -> (Vec<u8>, Result<(), SealError>) {
    let mut out = Vec::new();
    let mut opening = match Opening::new(key, row, range) {
        Ok(opening) => opening,
        Err(error) => return (out, Err(error)),
    };
    let wanted = opening.object_range();
    // What a store gives of an object that may be shorter or longer than its row says.
    let end = if wanted.end == row.object_length { object.len() } else { wanted.end as usize };
    let fetched = object.get(wanted.start as usize..end.min(object.len())).unwrap_or_default();
    for piece in fetched.chunks(piece) {
        match opening.feed(piece) {
            Ok(ready) => out.extend_from_slice(&ready.unwrap_or_default()),
            Err(error) => {
                assert!(opening.feed(piece).is_err(), "an opening that failed must stay failed");
                assert!(opening.finish().is_err());
                return (out, Err(error));
            }
        }
    }
    (out, opening.finish())
}

fn open(key: &DocumentKey, row: &SegmentRow, object: &[u8]) -> (Vec<u8>, Result<(), SealError>) {
    open_range(key, row, 0..row.length, object, 100_000)
}

/// Refused, with nothing handed out but right content from chunks in front of `intact`.
fn assert_refused(key: &DocumentKey, row: &SegmentRow, object: &[u8], content: &[u8], intact: usize) {
    for piece in [4_096, 100_000, usize::MAX] {
        let (out, outcome) = open_range(key, row, 0..row.length, object, piece);
        assert!(outcome.is_err());
        assert!(content.starts_with(&out));
        assert!(out.len() <= (intact * CHUNK).saturating_sub(LITERAL), "content of a damaged chunk");
    }
    assert!(open_small(key, object).is_err());
    assert!(open_packet(key, object, SEGMENT_MAX).is_err());
}

#[test]
fn any_flipped_bit_of_a_small_segment_is_refused() {
    let key = DocumentKey::random().unwrap();
    let content = content(1, 100);
    let (row, object) = seal(&key, &content);
    assert_eq!(open(&key, &row, &object).0, content);
    for bit in 0..object.len() * 8 {
        let mut bad = object.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (out, outcome) = open_range(&key, &row, 0..row.length, &bad, 64);
        assert!(outcome.is_err(), "bit {bit}");
        // The one chunk is right when the flipped bit is in the final tag behind it.
        assert!(out.is_empty() || bit / 8 >= object.len() - TAG, "bit {bit}");
        assert!(open_small(&key, &bad).is_err(), "bit {bit}");
        assert!(open_packet(&key, &bad, SEGMENT_MAX).is_err(), "bit {bit}");
    }
}

#[test]
fn flipped_bits_of_a_large_segment_are_refused_at_their_chunk() {
    let key = DocumentKey::random().unwrap();
    let content = content(2, content_of_blocks(1) + CHUNK + 777);
    let (row, object) = seal(&key, &content);
    let chunks = (LITERAL + content.len()).div_ceil(CHUNK);
    let mut random = Random(3);
    for chunk in 0..chunks {
        let start = HEADER + chunk * (CHUNK + TAG);
        let end = (start + CHUNK + TAG).min(object.len() - TAG);
        let inside = start + random.below((end - start) as u64) as usize;
        for at in [start, inside, end - TAG - 1, end - TAG, end - 1] {
            let mut bad = object.clone();
            bad[at] ^= 1 << random.below(8);
            let (out, outcome) = open(&key, &row, &bad);
            assert!(matches!(outcome, Err(SealError::Damaged(Part::Chunk(index))) if index == chunk as u64));
            assert!(content.starts_with(&out));
            assert!(out.len() <= (chunk * CHUNK).saturating_sub(LITERAL));
        }
    }
    let mut bad = object.clone();
    bad[object.len() - 1] ^= 1;
    assert!(matches!(open(&key, &row, &bad).1, Err(SealError::Damaged(Part::FinalTag))));
    let mut bad = object.clone();
    bad[20] ^= 1;
    assert!(matches!(open(&key, &row, &bad), (out, Err(SealError::Damaged(Part::Header))) if out.is_empty()));
}

#[test]
fn truncation_is_refused_at_every_length() {
    let key = DocumentKey::random().unwrap();
    let short = content(4, 50);
    let (row, object) = seal(&key, &short);
    for length in 0..object.len() {
        let (_, outcome) = open_range(&key, &row, 0..row.length, &object[..length], 32);
        assert!(matches!(outcome, Err(SealError::Damaged(Part::Truncated))), "cut to {length}");
        assert!(open_small(&key, &object[..length]).is_err());
        assert!(open_packet(&key, &object[..length], SEGMENT_MAX).is_err());
    }
    let long = content(5, 3 * CHUNK);
    let (row, object) = seal(&key, &long);
    let edges = (0..=4).map(|chunk| HEADER + chunk * (CHUNK + TAG)).chain([HEADER, object.len()]);
    for edge in edges {
        for length in [edge.saturating_sub(TAG + 1), edge.saturating_sub(TAG), edge - 1, edge, edge + 1] {
            if length < object.len() {
                let intact = length.saturating_sub(HEADER) / (CHUNK + TAG);
                let last = length >= object.len() - TAG;
                assert_refused(&key, &row, &object[..length], &long, if last { 4 } else { intact });
            }
        }
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let key = DocumentKey::random().unwrap();
    let content = content(6, CHUNK + 5);
    let (row, object) = seal(&key, &content);
    for extra in [1, TAG, CHUNK, object.len()] {
        let longer = [&object[..], &object[..extra]].concat();
        assert_refused(&key, &row, &longer, &content, 2);
        let (_, outcome) = open(&key, &row, &longer);
        assert!(matches!(outcome, Err(SealError::Damaged(Part::Trailing))));
    }
}

#[test]
fn a_neighbour_a_repetition_or_another_document_is_refused() {
    let key = DocumentKey::random().unwrap();
    let other_key = DocumentKey::random().unwrap();
    let first = content(7, 2 * CHUNK);
    let second = content(8, 2 * CHUNK);
    let (first_row, first_object) = seal(&key, &first);
    let (second_row, second_object) = seal(&key, &second);
    let (other_row, other_object) = seal(&other_key, &second);
    // The same content sealed once more has another salt: even that is not accepted in its place.
    let (_, again_object) = seal(&key, &first);

    for object in [&second_object, &other_object, &again_object] {
        let (out, outcome) = open(&key, &first_row, object);
        assert!(out.is_empty());
        assert!(matches!(outcome, Err(SealError::Damaged(Part::Header))));
        // A range does not see the header: the chunk itself refuses.
        for range in [0..1, 70_000..80_000, 2 * CHUNK as u64 - 1..2 * CHUNK as u64] {
            let (out, outcome) = open_range(&key, &first_row, range, object, 4_096);
            assert!(out.is_empty());
            assert!(matches!(outcome, Err(SealError::Damaged(Part::Chunk(_)))));
        }
    }
    // The object is right, the row is the neighbour's or another document's.
    let (out, outcome) = open(&key, &second_row, &first_object);
    assert!(out.is_empty() && outcome.is_err());
    assert!(matches!(Opening::new(&key, &other_row, 0..1), Err(SealError::WrongKey)));
    assert!(matches!(Opening::new(&other_key, &first_row, 0..1), Err(SealError::WrongKey)));
    assert!(matches!(open_small(&other_key, &first_object), Err(SealError::WrongKey)));
    // Half of one and half of the other.
    let mixed = [&first_object[..HEADER + CHUNK + TAG], &second_object[HEADER + CHUNK + TAG..]].concat();
    assert_refused(&key, &first_row, &mixed, &first, 1);
}

#[test]
fn reordered_missing_and_doubled_chunks_are_refused() {
    let key = DocumentKey::random().unwrap();
    let content = content(9, 4 * CHUNK - LITERAL);
    let (row, object) = seal(&key, &content);
    let sealed = CHUNK + TAG;
    let chunk = |index: usize| &object[HEADER + index * sealed..HEADER + (index + 1) * sealed];
    let (header, end) = (&object[..HEADER], &object[object.len() - TAG..]);
    let build = |order: &[usize]| {
        let mut built = header.to_vec();
        for index in order {
            built.extend_from_slice(chunk(*index));
        }
        built.extend_from_slice(end);
        built
    };
    assert_eq!(build(&[0, 1, 2, 3]), object);
    assert_refused(&key, &row, &build(&[1, 0, 2, 3]), &content, 0);
    assert_refused(&key, &row, &build(&[0, 2, 1, 3]), &content, 1);
    assert_refused(&key, &row, &build(&[0, 1, 1, 3]), &content, 2);
    assert_refused(&key, &row, &build(&[0, 1, 2]), &content, 3);
    assert_refused(&key, &row, &build(&[0, 1, 2, 3, 3]), &content, 4);
    assert_refused(&key, &row, &build(&[0, 1, 3, 2]), &content, 2);
}

#[test]
fn a_wrong_row_is_refused_before_anything_is_fetched() {
    let key = DocumentKey::random().unwrap();
    let (row, _) = seal(&key, &content(10, 3 * CHUNK));
    let range = 100..200;
    assert!(Opening::new(&key, &row, range.clone()).is_ok());
    let mut wrong = Vec::new();
    for bit in 0..256 {
        let mut salt = row.clone();
        salt.salt[bit / 8] ^= 1 << (bit % 8);
        wrong.push(salt);
    }
    for bit in 0..128 {
        let mut tag = row.clone();
        tag.tag[bit / 8] ^= 1 << (bit % 8);
        wrong.push(tag);
    }
    for length in [row.length - 1, row.length + 1, row.length - CHUNK as u64, 200] {
        wrong.push(SegmentRow { length, ..row.clone() });
        wrong.push(SegmentRow { length, object_length: object_length(length).unwrap(), ..row.clone() });
    }
    wrong.push(SegmentRow { object_length: row.object_length - 1, ..row.clone() });
    wrong.push(SegmentRow { length: 0, ..row.clone() });
    wrong.push(SegmentRow { length: u64::MAX, object_length: u64::MAX, ..row.clone() });
    for row in wrong {
        assert!(Opening::new(&key, &row, range.clone()).is_err());
    }
}

#[test]
fn ranges_outside_the_segment_are_refused() {
    let key = DocumentKey::random().unwrap();
    let (row, _) = seal(&key, b"dix octets");
    let backwards = Range { start: 3, end: 2 };
    for range in [0..0, 5..5, backwards, 0..11, 10..11, 10..10, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        assert!(matches!(Opening::new(&key, &row, range), Err(SealError::Range)));
    }
}

#[test]
fn random_ranges_in_random_pieces_give_the_content() {
    let key = DocumentKey::random().unwrap();
    let mut random = Random(11);
    let around =
        [CHUNK - LITERAL, CHUNK, 2 * CHUNK - LITERAL, content_of_blocks(1), content_of_blocks(1) + 1];
    for length in around.into_iter().chain([1, 2, 3 * CHUNK + 99]) {
        let content = content(random.next(), length);
        let (row, object) = seal(&key, &content);
        for _ in 0..60 {
            let a = random.below(row.length);
            let b = random.below(row.length);
            let range = a.min(b)..a.max(b) + 1;
            let piece = 1 + random.below(200_000) as usize;
            let (out, outcome) = open_range(&key, &row, range.clone(), &object, piece);
            outcome.unwrap();
            assert!(out == content[range.start as usize..range.end as usize]);
            let fetched = Opening::new(&key, &row, range.clone()).unwrap().object_range();
            let chunks = (range.end - range.start) / CHUNK as u64 + 2;
            assert!(fetched.end <= row.object_length);
            let whole_extra = (HEADER + TAG) as u64;
            assert!(fetched.end - fetched.start <= chunks * (CHUNK + TAG) as u64 + whole_extra);
        }
        // Around every edge of a chunk, byte by byte.
        for edge in (1..5).map(|chunk| (chunk * CHUNK - LITERAL) as u64) {
            for (start, end) in [(-1, 0), (0, 1), (-1, 1), (-2, -1), (1, 2)] {
                let (start, end) = (edge.wrapping_add_signed(start), edge.wrapping_add_signed(end));
                if end <= row.length {
                    let (out, outcome) = open_range(&key, &row, start..end, &object, usize::MAX);
                    outcome.unwrap();
                    assert_eq!(out, content[start as usize..end as usize]);
                }
            }
        }
    }
}

#[test]
fn bytes_may_arrive_one_at_a_time() {
    let key = DocumentKey::random().unwrap();
    let content = content(12, CHUNK + 10);
    let (row, object) = seal(&key, &content);
    let (out, outcome) = open_range(&key, &row, 0..row.length, &object, 1);
    outcome.unwrap();
    assert!(out == content);
}

#[test]
fn a_range_needs_only_its_own_chunks_to_be_whole() {
    let key = DocumentKey::random().unwrap();
    let content = content(13, 3 * CHUNK - LITERAL);
    let (row, mut object) = seal(&key, &content);
    object[HEADER + CHUNK + TAG + 5] ^= 1;
    let chunk = CHUNK as u64;
    let literal = LITERAL as u64;
    for range in [0..chunk - literal, 2 * chunk - literal..3 * chunk - literal] {
        let (out, outcome) = open_range(&key, &row, range.clone(), &object, 4_096);
        outcome.unwrap();
        assert!(out == content[range.start as usize..range.end as usize]);
    }
    let middle = chunk - literal..chunk - literal + 1;
    let (out, outcome) = open_range(&key, &row, middle, &object, 4_096);
    assert!(out.is_empty());
    assert!(matches!(outcome, Err(SealError::Damaged(Part::Chunk(1)))));
}

#[test]
fn two_seals_of_the_same_content_share_no_chunk() {
    let key = DocumentKey::random().unwrap();
    let content = vec![0; 3 * CHUNK];
    let (_, first) = seal(&key, &content);
    let (_, second) = seal(&key, &content);
    for (a, b) in first[HEADER..].chunks(64).zip(second[HEADER..].chunks(64)) {
        assert_ne!(a, b);
    }
    // And nothing of the content shows: a run of zeros would.
    assert!(!first.windows(24).any(|window| window == [0; 24]));
}

#[test]
fn foreign_packets_above_the_limit_are_refused() {
    let key = DocumentKey::random().unwrap();
    let packet = seal_small(&key, &[5; 1_000]).unwrap();
    assert_eq!(open_packet(&key, &packet, 1_000).unwrap(), [5; 1_000]);
    assert!(matches!(open_packet(&key, &packet, 999), Err(SealError::Limit(_))));
}
