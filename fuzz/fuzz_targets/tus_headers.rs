//! The headers of tus as hostile bytes. Nothing may panic, and what is accepted must keep its promises.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pli_api::tus;

fuzz_target!(|data: &[u8]| {
    if let Ok(metadata) = tus::metadata_of(data) {
        let again = tus::metadata_of(metadata.header.as_bytes()).expect("what was accepted is accepted again");
        assert_eq!(again, metadata);
        for value in metadata.pairs.values() {
            if let Ok(name) = tus::document_name(value) {
                assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".." || part.is_empty()));
                assert!(!name.chars().any(char::is_control));
                assert_eq!(tus::document_name(&name), Ok(name.clone()));
            }
            assert!(http::HeaderValue::from_str(&tus::media_type(Some(value))).is_ok());
        }
    }
    let Ok(value) = http::HeaderValue::from_bytes(data) else { return };
    let with = |name: http::HeaderName| http::HeaderMap::from_iter([(name, value.clone())]);
    if let Ok(tus::Concat::Final(parts)) = tus::concat(&with(tus::UPLOAD_CONCAT)) {
        assert!(!parts.is_empty() && parts.len() <= tus::PARTS_MAX);
    }
    let _ = tus::checksum(&with(tus::UPLOAD_CHECKSUM));
    let _ = tus::resumable(&with(tus::TUS_RESUMABLE));
    let _ = tus::creation_length(&with(tus::UPLOAD_DEFER_LENGTH));
    if let Ok(offset) = tus::offset(&with(tus::UPLOAD_OFFSET)) {
        assert!(i64::try_from(offset).is_ok());
    }
});
