//! References of procedures: identifiers that other systems give, kept as typed, and what looks odd in them.
//!
//! Must never refuse or rewrite a reference for its form: their rules are inferred from few examples, so that a
//! doubt is a warning and nothing more.

use crate::boxes::{folded, line};
use crate::fault::{Fault, Result};
use pli_api::{ProblemCode, Reference, ReferenceKind};

/// The most references of a procedure.
pub(crate) const REFERENCES_MAX: usize = 20;

/// The longest reference, in characters.
const LENGTH_MAX: usize = 80;

/// The letters that check a number by its remainder modulo 23; I, O and Q are left out.
const LETTERS: &[u8; 23] = b"ABCDEFGHJKLMNPRSTUVWXYZ";

/// An identifier as the search compares it: letters and digits, in lower case.
pub(crate) fn compact(text: &str) -> String {
    folded(text).replace(' ', "")
}

/// A reference to be kept: with its folded form.
///
/// # Errors
/// 422 when it is not one line of at most 80 characters with a letter or digit in it.
pub(crate) fn kept(reference: &Reference) -> Result<(&str, String)> {
    let value = line("Référence", &reference.value, LENGTH_MAX)?;
    let folded = compact(value);
    if folded.is_empty() {
        return Err(Fault::because(ProblemCode::Invalid, "Référence : au moins une lettre ou un chiffre."));
    }
    Ok((value, folded))
}

/// What looks wrong in a reference, in one sentence.
pub(crate) fn doubt(reference: &Reference) -> Option<&'static str> {
    let value = reference.value.trim();
    match reference.kind {
        ReferenceKind::Parquet => parquet(value),
        ReferenceKind::Instruction => instruction(value),
        ReferenceKind::Idj => idj(value),
        ReferenceKind::Rg => rg(value),
        ReferenceKind::Other => pourvoi(value),
    }
}

/// The digits of a text of digits, spaces, dots and hyphens; none when there is anything else in it.
fn digits(text: &str) -> Option<Vec<u8>> {
    let plain = text.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '.' | '-'));
    plain.map(|c| u8::try_from(c.to_digit(10)?).ok()).collect()
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0_u64, |n, digit| n.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

/// The check letter of a number.
fn letter(digits: &[u8]) -> Option<char> {
    let place = usize::try_from(number(digits).checked_rem(23)?).ok()?;
    LETTERS.get(place).copied().map(char::from)
}

/// Year, day of the year, six digits: `23082000064`.
fn parquet(value: &str) -> Option<&'static str> {
    let day = match digits(value).as_deref() {
        Some(digits) if digits.len() == 11 => digits.get(2..5).map(number),
        _ => None,
    };
    match day {
        Some(1..=366) => None,
        _ => {
            Some("Numéro parquet inhabituel : 11 chiffres attendus (année, jour de l'année, numéro d'ordre).")
        }
    }
}

/// Cabinet, year and sequence: `JI CABJI2 23000009`.
fn instruction(value: &str) -> Option<&'static str> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let usual = match words.as_slice() {
        [cabinet @ .., last] => !cabinet.is_empty() && digits(last).is_some_and(|digits| digits.len() == 8),
        [] => false,
    };
    if usual {
        None
    } else {
        Some("Numéro d'instruction inhabituel : cabinet, puis 8 chiffres attendus (« JI CABJI2 23000009 »).")
    }
}

/// Year, month, six digits and the letter that checks them: `2301062620X`.
fn idj(value: &str) -> Option<&'static str> {
    let last = value.chars().next_back()?;
    let Some(digits) = value.strip_suffix(last).and_then(digits).filter(|digits| digits.len() == 10) else {
        return Some("IDJ inhabituel : 10 chiffres et une lettre attendus (« 2301062620X »).");
    };
    if !matches!(digits.get(2..4).map(number), Some(1..=12)) {
        return Some("IDJ inhabituel : les 3e et 4e chiffres ne sont pas un mois.");
    }
    if letter(&digits) != Some(last.to_ascii_uppercase()) {
        return Some("IDJ douteux : la lettre finale ne correspond pas aux chiffres ; vérifiez la saisie.");
    }
    None
}

/// Year and number: `23/01234`.
fn rg(value: &str) -> Option<&'static str> {
    let usual = value.split_once('/').is_some_and(|(year, number)| {
        digits(year).is_some_and(|digits| digits.len() == 2 || digits.len() == 4)
            && digits(number).is_some_and(|digits| (1..=6).contains(&digits.len()))
    });
    if usual { None } else { Some("Numéro RG inhabituel : année et numéro attendus (« 23/01234 »).") }
}

/// A pourvoi is told by its form, `Y 19-19.463`: the letter checks the seven digits. Any other text is as good.
fn pourvoi(value: &str) -> Option<&'static str> {
    let first = value.chars().next().filter(char::is_ascii_alphabetic)?;
    let rest = value.strip_prefix(first)?.trim_start();
    let (year, sequence) = rest.split_once('-')?;
    let (thousands, units) = sequence.split_once('.').or_else(|| sequence.split_at_checked(2))?;
    let all: Vec<u8> = [year, thousands, units].into_iter().map(digits).collect::<Option<Vec<_>>>()?.concat();
    if (year.len(), thousands.len(), units.len()) != (2, 2, 3) || all.len() != 7 {
        return None;
    }
    if letter(&all) == Some(first.to_ascii_uppercase()) {
        return None;
    }
    Some("Numéro de pourvoi douteux : la lettre ne correspond pas aux chiffres ; vérifiez la saisie.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ReferenceKind, value: &str) -> Reference {
        Reference { kind, value: value.to_owned() }
    }

    #[test]
    fn usual_forms_raise_no_doubt() {
        use ReferenceKind::{Idj, Instruction, Other, Parquet, Rg};
        for (kind, value) in [
            (Parquet, "23082000064"),
            (Parquet, " 23 082 000 064 "),
            (Instruction, "JI CABJI2 23000009"),
            (Idj, "2301062620X"),
            (Idj, "2301062620x"),
            (Rg, "23/01234"),
            (Rg, "2023/1234"),
            (Other, "Y 19-19.463"),
            (Other, "X 19-11.251"),
            (Other, "C 17-18.194"),
            (Other, "C1718194"),
            (Other, "85103/843/2026"),
            (Other, "Réf. préfecture n° 12-3"),
            (Other, "A"),
        ] {
            assert_eq!(doubt(&of(kind, value)), None, "{value}");
        }
    }

    #[test]
    fn odd_forms_and_wrong_letters_raise_one() {
        use ReferenceKind::{Idj, Instruction, Other, Parquet, Rg};
        for (kind, value) in [
            (Parquet, "2308200006"),
            (Parquet, "23400000064"),
            (Parquet, "23000000064"),
            (Parquet, "2308200006A"),
            (Parquet, "٢٣٠٨٢٠٠٠٠٦٤"),
            (Instruction, "23000009"),
            (Instruction, "JI CABJI2"),
            (Idj, "2301062620Y"),
            (Idj, "2301062621X"),
            (Idj, "2313062620X"),
            (Idj, "230106262X"),
            (Idj, "é"),
            (Rg, "2301234"),
            (Rg, "23/"),
            (Other, "Z 19-19.463"),
            (Other, "Y 19-19464"),
        ] {
            assert!(doubt(&of(kind, value)).is_some(), "{value}");
        }
    }

    #[test]
    fn what_is_kept_is_what_was_typed() {
        let typed = of(ReferenceKind::Other, "  Y 19-19.463 é ");
        assert_eq!(kept(&typed).unwrap(), ("Y 19-19.463 é", "y1919463e".to_owned()));
        for bad in ["", " ", "—", "a\nb", "a\u{202e}b", &"9".repeat(81)] {
            assert!(kept(&of(ReferenceKind::Idj, bad)).is_err(), "{bad:?}");
        }
    }
}
