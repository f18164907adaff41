//! A search as hostile text: it is understood or refused with a sentence, and what is understood is within the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pli_api::search::{QUERY_MAX, TERMS_MAX, Term, parse};

fuzz_target!(|query: &str| match parse(query) {
    Ok(terms) => {
        assert!(terms.len() <= TERMS_MAX && query.chars().count() <= QUERY_MAX);
        for term in terms {
            if let Term::Word(text) | Term::Phrase(text) | Term::From(text) | Term::To(text) | Term::Procedure(text) | Term::Label(text) = term {
                assert!(!text.trim().is_empty() && query.contains(&text));
            }
        }
    }
    Err(error) => assert!(error.to_string().starts_with("Recherche : ")),
});
