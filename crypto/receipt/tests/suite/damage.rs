//! A sealed receipt that was touched. Outside `/Contents` every bit is signed. Inside, lowercase digits and zero
//! padding leave one spelling for one CMS; in the CMS, the attributes and the signer's certificate (by the
//! signed hash) are covered by the signature; versions and lists of algorithms have one allowed value. Two
//! pieces are covered by nothing that a receipt brings along, and nothing that is believed comes out of
//! them: the certificates above the signer's (those that are trusted are given from outside), and, in a
//! timestamp's token, those beside the authority's. What is accepted there must say the same.

use std::ops::Range;

use pli_receipt::{Opened, open};
use pli_signature::SignatureError;

use crate::authority::{Authority, Usage};
use crate::sample::receipt;
use crate::{seal, sealed, stamped};

/// Where the hexadecimal digits of `/Contents` stand.
fn contents(bytes: &[u8]) -> Range<usize> {
    let key = b"/Contents <";
    let at = bytes.windows(key.len()).rposition(|window| window == key).unwrap() + key.len();
    at..at + bytes[at..].iter().position(|byte| *byte == b'>').unwrap()
}

fn same(one: &Opened, other: &Opened) -> bool {
    one.json == other.json
        && one.signer == other.signer
        && one.claimed_time == other.claimed_time
        && one.timestamp.as_ref().map(|token| (token.time(), token.authority().clone()))
            == other.timestamp.as_ref().map(|token| (token.time(), token.authority().clone()))
}

/// Where the digits of some octets stand inside `/Contents`.
fn digits_of(octets: &[u8], bytes: &[u8]) -> Range<usize> {
    let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let at = bytes.windows(digits.len()).position(|window| window == digits.as_bytes()).unwrap();
    at..at + digits.len()
}

#[test]
fn no_changed_octet_of_a_seal_says_something_else() {
    let seal = seal();
    let bytes = sealed(&receipt(1), &seal);
    let opened = open(&bytes, &seal.trust).unwrap();
    let gap = contents(&bytes);
    let above = digits_of(seal.trust.seals[0].der(), &bytes);
    let last_digit = gap.start + bytes[gap.clone()].iter().rposition(|byte| *byte != b'0').unwrap();
    let cms = gap.start - 1..last_digit + 3;
    let places = (0..bytes.len()).filter(|at| {
        if cms.contains(at) { at % 3 == 0 } else { at % 67 == 0 || *at > gap.end - 3 && *at < gap.end + 3 }
    });
    for at in places {
        // A bit low and a bit high: another digit, and another case of a letter.
        for bit in [0x01, 0x20] {
            let mut bad = bytes.clone();
            bad[at] ^= bit;
            if let Ok(found) = open(&bad, &seal.trust) {
                assert!(same(&found, &opened), "octet {at} says something else");
                assert!(above.contains(&at), "octet {at} of {}, bit {bit:#x}", bytes.len());
            }
        }
    }
}

#[test]
fn a_changed_octet_of_a_timestamp_is_refused_or_changes_nothing() {
    let mut seal = seal();
    let authority = Authority::new(Usage::Right);
    let bytes = stamped(&receipt(1), &seal, &authority);
    seal.trust.timestamps = vec![authority.root.clone()];
    let opened = open(&bytes, &seal.trust).unwrap();
    let gap = contents(&bytes);
    let last_digit = gap.start + bytes[gap.clone()].iter().rposition(|byte| *byte != b'0').unwrap();
    let mut accepted = 0;
    for at in (gap.start..last_digit).step_by(9) {
        let mut bad = bytes.clone();
        bad[at] = if bad[at] == b'3' { b'4' } else { b'3' };
        if let Ok(found) = open(&bad, &seal.trust) {
            assert!(same(&found, &opened), "octet {at}");
            accepted += 1;
        }
    }
    // No more than the digits of the two roots' certificates, and of the token's algorithms and versions.
    let digits = 2 * (authority.root.der().len() + seal.trust.seals[0].der().len() + 64);
    assert!(accepted <= digits / 9, "{accepted} of {digits}");
}

#[test]
fn a_receipt_cut_anywhere_is_refused() {
    let seal = seal();
    let bytes = sealed(&receipt(1), &seal);
    for length in (0..bytes.len()).step_by(97).chain(bytes.len() - 300..bytes.len()) {
        assert!(open(&bytes[..length], &seal.trust).is_err(), "cut at {length}");
    }
}

#[test]
fn octets_taken_out_or_put_in_are_refused() {
    let seal = seal();
    let bytes = sealed(&receipt(1), &seal);
    let gap = contents(&bytes);
    for at in (0..bytes.len()).step_by(211).chain([gap.start, gap.end - 1, gap.end, bytes.len() - 1]) {
        let mut less = bytes.clone();
        less.remove(at);
        assert!(open(&less, &seal.trust).is_err(), "without octet {at}");
        let mut more = bytes.clone();
        more.insert(at, b' ');
        assert!(open(&more, &seal.trust).is_err(), "with a space at {at}");
    }
}

#[test]
fn the_receipt_of_another_hub_is_refused() {
    let bytes = sealed(&receipt(1), &seal());
    assert_eq!(open(&bytes, &seal().trust).unwrap_err(), SignatureError::Untrusted);
}

#[test]
fn an_unsealed_receipt_is_refused() {
    assert_eq!(open(&receipt(1).render().unwrap(), &seal().trust).unwrap_err(), SignatureError::NoSeal);
}
