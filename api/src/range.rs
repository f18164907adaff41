//! `Range` of one document (RFC 9110, 14), parsed strictly.
//!
//! Pure. Fuzzed (`fuzz_targets/range.rs`).

/// What a `Range` header asks of a content of known size.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The whole: no range, another unit, several ranges or a malformed one; RFC 9110 lets a server ignore those.
    Whole,
    /// `start..end`, never empty and inside the content.
    Part(std::ops::Range<u64>),
    /// No byte of the content is asked for: 416.
    Outside,
}

/// Reads a `Range` header's value against the content's size.
#[must_use]
pub fn range(value: Option<&[u8]>, size: u64) -> Asked {
    let Some(spec) =
        value.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.trim().strip_prefix("bytes="))
    else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Asked::Whole };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number beyond u64 is beyond every content.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first.is_empty(), number(first), last.is_empty(), number(last)) {
        (true, _, _, Some(0)) => Asked::Outside,
        (true, _, _, Some(_)) if size == 0 => Asked::Outside,
        (true, _, _, Some(suffix)) => Asked::Part(size.saturating_sub(suffix)..size),
        (false, Some(start), true, _) if start < size => Asked::Part(start..size),
        (false, Some(start), false, Some(end)) if start > end => Asked::Whole,
        (false, Some(start), false, Some(end)) if start < size => {
            Asked::Part(start..end.saturating_add(1).min(size))
        }
        (false, Some(_), true, _) | (false, Some(_), false, Some(_)) => Asked::Outside,
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_rfc() {
        let of = |text: &str| range(Some(text.as_bytes()), 10_000);
        assert_eq!(of("bytes=0-499"), Asked::Part(0..500));
        assert_eq!(of("bytes=500-999"), Asked::Part(500..1000));
        assert_eq!(of("bytes=-500"), Asked::Part(9500..10_000));
        assert_eq!(of("bytes=9500-"), Asked::Part(9500..10_000));
        assert_eq!(of("bytes=0-0"), Asked::Part(0..1));
        assert_eq!(of("bytes=9999-99999999999999999999999"), Asked::Part(9999..10_000));
        assert_eq!(of("bytes=-20000"), Asked::Part(0..10_000));
        assert_eq!(of("bytes=10000-"), Asked::Outside);
        assert_eq!(of("bytes=-0"), Asked::Outside);
        for whole in
            ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=+1-2"]
        {
            assert_eq!(of(whole), Asked::Whole, "{whole}");
        }
        assert_eq!(range(None, 10), Asked::Whole);
        assert_eq!(range(Some(b"bytes=0-"), 0), Asked::Outside);
        assert_eq!(range(Some(b"bytes=-1"), 0), Asked::Outside);
    }
}
