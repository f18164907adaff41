//! Receiving: where content goes, how much fits, what the digest sees, and what is wiped.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex};

use pli_seal::{
    BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, LITERAL, Opening, SEGMENT_MAX, SealError, TAG,
    content_of_blocks, object_length, open_small, seal_small,
};
use sha2::{Digest, Sha256};

type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// A block that goes back to its pool when it is dropped.
struct Lent(Vec<u8>, Pool);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

#[test]
fn room_is_what_the_blocks_hold() {
    let mut filling = Filling::new();
    assert_eq!((filling.room(), filling.len(), filling.blocks()), (0, 0, 0));
    assert_eq!(filling.put(b"nowhere to go"), 0);
    filling.add_block(vec![0; BLOCK]).unwrap();
    assert_eq!(filling.room(), content_of_blocks(1));
    assert_eq!(filling.put(&[1; 100]), 100);
    assert_eq!(filling.room(), content_of_blocks(1) - 100);
    assert_eq!(filling.put(&vec![2; BLOCK]), content_of_blocks(1) - 100);
    assert_eq!((filling.room(), filling.len()), (0, content_of_blocks(1)));
    filling.add_block(vec![0; BLOCK]).unwrap();
    assert_eq!(filling.room(), 16 * CHUNK);
    assert!(matches!(filling.add_block(vec![0; BLOCK - 1]), Err(SealError::Limit(_))));
    assert!(matches!(filling.add_block(vec![0; BLOCK + 1]), Err(SealError::Limit(_))));
}

#[test]
fn a_segment_stops_at_its_largest_length() {
    let key = DocumentKey::random().unwrap();
    let mut filling = Filling::new();
    let mut blocks = 0;
    while filling.add_block(vec![0; BLOCK]).is_ok() {
        blocks += 1;
        while filling.room() > 0 {
            filling.put(&[7; 100_000]);
        }
    }
    assert_eq!(blocks, (SEGMENT_MAX + LITERAL).div_ceil(16 * CHUNK));
    assert_eq!(filling.len(), SEGMENT_MAX);
    let sealed = filling.seal(&key, &mut ContentDigest::new()).unwrap();
    let row = sealed.row();
    assert_eq!(row.length, SEGMENT_MAX as u64);
    let object = sealed.into_bytes().concat();
    assert_eq!(object.len() as u64, row.object_length);
    let end = row.length - 1..row.length;
    let mut opening = Opening::new(&key, &row, end).unwrap();
    let range = opening.object_range();
    let ready = opening.feed(&object[range.start as usize..range.end as usize]).unwrap();
    assert_eq!(ready.unwrap()[..], [7]);
    opening.finish().unwrap();

    assert_eq!(object_length(0), None);
    assert_eq!(object_length(SEGMENT_MAX as u64 + 1), None);
    assert_eq!(object_length(u64::MAX), None);
}

#[test]
fn an_empty_segment_is_refused() {
    let key = DocumentKey::random().unwrap();
    let mut digest = ContentDigest::new();
    assert!(matches!(Filling::<Vec<u8>>::new().seal(&key, &mut digest), Err(SealError::Limit(_))));
    let mut filling = Filling::new();
    filling.add_block(vec![0; BLOCK]).unwrap();
    assert!(matches!(filling.seal(&key, &mut digest), Err(SealError::Limit(_))));
    assert_eq!(digest.length(), 0);
}

#[test]
fn the_digest_sees_the_content_of_all_segments_in_order() {
    let key = DocumentKey::random().unwrap();
    let content: Vec<u8> = (0..content_of_blocks(2) + 5_000).map(|i| (i / 7) as u8).collect();
    let mut digest = ContentDigest::new();
    for segment in content.chunks(CHUNK + 1_234) {
        let mut filling = Filling::new();
        filling.add_block(vec![0; BLOCK]).unwrap();
        // In two pieces, so that content is put across a chunk's end.
        let (a, b) = segment.split_at(segment.len() / 3);
        assert_eq!(filling.put(a) + filling.put(b), segment.len());
        // A resumed transfer: the digest is put away and taken out between segments.
        digest = ContentDigest::restore(&digest.save(&key).unwrap(), &key).unwrap();
        filling.seal(&key, &mut digest).unwrap();
    }
    assert_eq!(digest.length(), content.len() as u64);
    assert_eq!(digest.finalize(), <[u8; 32]>::from(Sha256::digest(&content)));
}

#[test]
fn pieces_are_the_blocks_themselves_and_return_to_their_pool() {
    let key = DocumentKey::random().unwrap();
    let pool = Pool::default();
    let mut filling = Filling::new();
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let block = Lent(vec![0; BLOCK], Arc::clone(&pool));
        addresses.push(block.0.as_ptr());
        filling.add_block(block).unwrap();
    }
    // The third block is never needed: it goes back at once.
    filling.put(&vec![9; content_of_blocks(1) + 10]);
    let sealed = filling.seal(&key, &mut ContentDigest::new()).unwrap();
    assert_eq!(pool.lock().unwrap().len(), 1);
    let length = sealed.object_length;
    let pieces = sealed.into_bytes();
    assert_eq!(pieces.len(), 4);
    assert_eq!(pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(), length);
    assert_eq!(pieces[1].as_ptr(), addresses[0]);
    assert_eq!(pieces[2].as_ptr(), addresses[1]);
    assert_eq!((pieces[1].len(), pieces[2].len()), (BLOCK, 10 + TAG));
    assert_eq!(open_small(&key, &pieces.concat()).unwrap().len(), content_of_blocks(1) + 10);
    drop(pieces);
    assert_eq!(pool.lock().unwrap().len(), 3);
}

#[test]
fn an_abandoned_filling_leaves_nothing_in_the_pool() {
    let pool = Pool::default();
    let mut filling = Filling::new();
    for _ in 0..2 {
        filling.add_block(Lent(vec![0; BLOCK], Arc::clone(&pool))).unwrap();
    }
    filling.put(&vec![0xAB; content_of_blocks(1) + 100]);
    drop(filling);
    let pool = pool.lock().unwrap();
    assert_eq!(pool.len(), 2);
    assert!(pool.iter().all(|block| block.iter().all(|byte| *byte == 0)));
}

#[test]
fn a_digest_resumes_at_every_offset_of_a_block() {
    let key = DocumentKey::random().unwrap();
    let content: Vec<u8> = (0..300_u32).map(|i| i as u8).collect();
    let whole = <[u8; 32]>::from(Sha256::digest(&content));
    for cut in 0..=content.len() {
        let mut digest = ContentDigest::new();
        digest.update(&content[..cut]);
        let saved = digest.save(&key).unwrap();
        let mut resumed = ContentDigest::restore(&saved, &key).unwrap();
        assert_eq!(resumed.length(), cut as u64);
        resumed.update(&content[cut..]);
        assert_eq!(resumed.finalize(), whole, "cut at {cut}");
    }
}

#[test]
fn a_saved_digest_is_sealed_and_belongs_to_its_document() {
    let key = DocumentKey::random().unwrap();
    let mut digest = ContentDigest::new();
    digest.update(b"canari: la piece cotee D 12");
    let saved = digest.save(&key).unwrap();
    assert!(!saved.windows(6).any(|window| window == b"canari"));
    assert_eq!(format!("{digest:?}"), "ContentDigest { length: 27, .. }");
    assert!(ContentDigest::restore(&saved, &DocumentKey::random().unwrap()).is_err());
    for bit in 0..saved.len() * 8 {
        let mut bad = saved.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(ContentDigest::restore(&bad, &key).is_err());
    }
    for length in 0..saved.len() {
        assert!(ContentDigest::restore(&saved[..length], &key).is_err());
    }
    // What anybody can have sealed under the document key is not a state, nor the reverse.
    assert!(ContentDigest::restore(&seal_small(&key, &[0; 112]).unwrap(), &key).is_err());
    assert!(open_small(&key, &saved).is_err());
}

#[test]
fn everything_moves_between_threads() {
    fn moves<T: Send + Sync + 'static>() {}
    moves::<DocumentKey>();
    moves::<pli_seal::KeyRing>();
    moves::<pli_seal::Recipient>();
    moves::<pli_seal::Passphrase>();
    moves::<Filling<Vec<u8>>>();
    moves::<Opening>();
    moves::<ContentDigest>();
    moves::<SealError>();
}
