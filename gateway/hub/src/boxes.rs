//! Boxes: whatever can be written to, a person or a service whose members share it.
//!
//! Owns the tables `boxes` and `service_members`. Must never reuse a box, or an address for another box.

use crate::fault::{Fault, Result};
use pli_api::{BoxId, BoxKind, OrganisationId, ProblemCode, Time};
use pli_storage::{Tx, args};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// A box to be made. Texts are kept as they are given, trimmed.
pub(crate) struct NewBox<'a> {
    pub(crate) id: BoxId,
    pub(crate) kind: BoxKind,
    pub(crate) organisation: OrganisationId,
    /// In the form of [`crate::people::address`].
    pub(crate) address: &'a str,
    pub(crate) name: &'a str,
    pub(crate) function: &'a str,
    pub(crate) speciality: &'a str,
}

/// A text as the directory and the search compare it: without case, accents, ligatures and punctuation, words
/// apart by one space.
pub(crate) fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'œ' => out.push_str("oe"),
            'æ' => out.push_str("ae"),
            c if c.is_alphanumeric() => out.push(c),
            _ if !out.ends_with(' ') => out.push(' '),
            _ => {}
        }
    }
    out.trim().to_owned()
}

/// A text of one line that others will see: not empty, no control characters, nothing that turns the reading
/// direction of what stands beside it.
///
/// # Errors
/// 422, naming the field.
pub(crate) fn line<'a>(field: &str, text: &'a str, most: usize) -> Result<&'a str> {
    let text = text.trim();
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.is_empty() || text.chars().count() > most || text.chars().any(|c| c.is_control() || turns(c)) {
        return Err(Fault::because(
            ProblemCode::Invalid,
            format!("{field} : de 1 à {most} caractères, sur une ligne, sans caractère de contrôle."),
        ));
    }
    Ok(text)
}

/// Makes a box.
///
/// # Errors
/// 409 for an address that has a box.
pub(crate) async fn insert(tx: &mut Tx, now: Time, new: &NewBox<'_>) -> Result<()> {
    let search = folded(&[new.name, new.function, new.speciality].join(" "));
    tx.execute(
        "INSERT INTO boxes (id, kind, organisation, address, name, function, speciality, folded, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        args![
            new.id.0,
            new.kind.as_str(),
            new.organisation.0,
            new.address,
            new.name.trim(),
            new.function.trim(),
            new.speciality.trim(),
            search,
            now
        ],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_it_is_typed() {
        for typed in ["Élise  DE L\u{2019}ŒUVRE", "elise de l'oeuvre", "E\u{301}lise de l œuvre"] {
            assert_eq!(folded(typed), "elise de l oeuvre");
        }
        assert_eq!(folded("  \u{200b}-- "), "");
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line("Nom", " Zoé d'Été ", 20).unwrap(), "Zoé d'Été");
        for bad in ["", "  ", "a\nb", "a\0b", "a\u{202e}b", &"x".repeat(21)] {
            assert!(line("Nom", bad, 20).is_err(), "{bad:?}");
        }
    }
}
