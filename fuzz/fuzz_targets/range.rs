//! `Range` as hostile bytes: what is answered lies inside the content and is not empty.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pli_api::range::{Asked, range};

fuzz_target!(|input: (u64, &[u8])| {
    let (size, value) = input;
    if let Asked::Part(part) = range(Some(value), size) {
        assert!(part.start < part.end && part.end <= size);
    }
});
