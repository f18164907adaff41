//! Segments as hostile bytes: parsers of packets, openings fed with anything, and true objects that were
//! altered. Nothing may panic, and nothing that was altered may open.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pli_seal::{
    BLOCK, CHUNK, ContentDigest, DocumentKey, Filling, Opening, SegmentRow, fuzzing, open_packet, open_small,
};

static KEY: LazyLock<DocumentKey> = LazyLock::new(|| DocumentKey::from_bytes(&[0x42; 32]));

/// A true segment of two chunks: content, row, object.
static SEGMENT: LazyLock<(Vec<u8>, SegmentRow, Vec<u8>)> = LazyLock::new(|| {
    let content: Vec<u8> = (0..CHUNK + 1_000).map(|i| (i / 5) as u8).collect();
    let mut filling = Filling::new();
    filling.add_block(vec![0; BLOCK]).expect("a block");
    filling.put(&content);
    let sealed = filling.seal(&KEY, &mut ContentDigest::new()).expect("sealed");
    let row = sealed.row();
    (content, row, sealed.into_bytes().concat())
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    match mode % 4 {
        0 => {
            assert!(open_small(&KEY, data).is_err());
            assert!(open_packet(&KEY, data, 1 << 20).is_err());
            assert!(ContentDigest::restore(data, &KEY).is_err());
        }
        1 => {
            let _ = fuzzing::literal_content(data);
        }
        2 => altered(data),
        _ => ranges(data),
    }
});

/// The object with octets exchanged, cut or extended as the input says.
fn altered(data: &[u8]) {
    let (content, row, object) = &*SEGMENT;
    let mut bad = object.clone();
    for edit in data.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[1], edit[2]])) * 2 + usize::from(edit[0] & 1);
        match edit[0] >> 6 {
            0 | 1 => {
                if let Some(octet) = bad.get_mut(at) {
                    *octet ^= edit[3];
                }
            }
            2 => bad.truncate(at.max(1)),
            _ => bad.extend_from_slice(&edit[1..]),
        }
    }
    let mut opening = Opening::new(&KEY, row, 0..row.length).expect("the row is right");
    let mut out = Vec::new();
    let piece = usize::from(data.first().copied().unwrap_or(9)) * 997 + 499;
    let mut outcome = Ok(());
    for piece in bad.chunks(piece) {
        match opening.feed(piece) {
            Ok(ready) => out.extend_from_slice(&ready.unwrap_or_default()),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    let outcome = outcome.and_then(|()| opening.finish());
    assert_eq!(outcome.is_ok(), bad == *object);
    assert!(content.starts_with(&out));
    assert_eq!(open_small(&KEY, &bad).is_ok(), bad == *object);
}

/// Any range, and any octets as the answer of the store.
fn ranges(data: &[u8]) {
    let (content, row, object) = &*SEGMENT;
    let Some((numbers, rest)) = data.split_first_chunk::<9>() else { return };
    let start = u64::from(u32::from_be_bytes([numbers[0], numbers[1], numbers[2], numbers[3]]));
    let end = u64::from(u32::from_be_bytes([numbers[4], numbers[5], numbers[6], numbers[7]]));
    let (start, end) = (start % (row.length + 2), end % (row.length + 2));
    let Ok(mut opening) = Opening::new(&KEY, row, start..end) else {
        assert!(start >= end || end > row.length);
        return;
    };
    let fetch = opening.object_range();
    let fetch = fetch.start as usize..fetch.end as usize;
    if numbers[8] & 1 == 0 {
        let ready = opening.feed(&object[fetch]).expect("true octets").expect("content");
        assert_eq!(ready[..], content[start as usize..end as usize]);
        opening.finish().expect("all octets");
    } else {
        let _ = opening.feed(rest);
        assert!(opening.finish().is_err() || rest == &object[fetch]);
    }
}
