//! Boxes: whatever can be written to, a person or a service whose members share it.
//!
//! Owns the tables `boxes`, `box_words` and `service_members`. Must never reuse a box, or an address for another box.

use crate::fault::{Fault, Result};
use crate::uploads::const_sql;
use pli_api::{BoxId, BoxKind, OrganisationId, ProblemCode, Time};
use pli_storage::{Args, Tx, args};
use std::collections::BTreeSet;
use std::fmt::Write as _;
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

/// Turns the reading direction of what stands beside it, or cannot be seen: no part of a name or an address.
pub(crate) fn misleads(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Whether a text, trimmed, is one line of at most so many characters that shows as what it is. The empty
/// one is.
pub(crate) fn is_line(text: &str, most: usize) -> bool {
    let text = text.trim();
    text.chars().count() <= most && !text.chars().any(|c| c.is_control() || misleads(c))
}

/// A text of one line that others will see: not empty, no control characters, nothing that turns the reading
/// direction of what stands beside it.
///
/// # Errors
/// 422, naming the field.
pub(crate) fn line<'a>(field: &str, text: &'a str, most: usize) -> Result<&'a str> {
    let text = text.trim();
    if text.is_empty() || !is_line(text, most) {
        return Err(Fault::because(
            ProblemCode::Invalid,
            format!("{field} : de 1 à {most} caractères, sur une ligne, sans caractère de contrôle."),
        ));
    }
    Ok(text)
}

/// As [`line`], but it may be empty.
///
/// # Errors
/// 422, naming the field.
pub(crate) fn line_or_nothing<'a>(field: &str, text: &'a str, most: usize) -> Result<&'a str> {
    if text.trim().is_empty() { Ok("") } else { line(field, text, most) }
}

/// Makes a box.
///
/// # Errors
/// 409 for an address that has a box.
pub(crate) async fn insert(tx: &mut Tx, now: Time, new: &NewBox<'_>) -> Result<()> {
    insert_all(tx, now, std::slice::from_ref(new)).await
}

/// Makes boxes of one organisation: some hundred at a time, a statement has a limit of arguments.
///
/// # Errors
/// 409 for an address that has a box.
pub(crate) async fn insert_all(tx: &mut Tx, now: Time, boxes: &[NewBox<'_>]) -> Result<()> {
    let Some(first) = boxes.first() else { return Ok(()) };
    let around = surroundings(tx, first.organisation).await?;
    let mut values = Args::default();
    for new in boxes {
        let search = folded(&[new.name, new.function, new.speciality].join(" "));
        values.push(new.id.0);
        values.push(new.kind.as_str());
        values.push(new.organisation.0);
        values.push(new.address);
        values.push(new.name.trim());
        values.push(new.function.trim());
        values.push(new.speciality.trim());
        values.push(search);
        values.push(now);
    }
    let head =
        "INSERT INTO boxes (id, kind, organisation, address, name, function, speciality, folded, created) ";
    tx.execute(const_sql(&[head, &tuples(9, boxes.len())]), values).await?;
    let words = boxes.iter().flat_map(|new| {
        let words = words_of(&[new.name, new.function, new.speciality, &around], new.speciality);
        words.into_iter().map(|word| (new.id, word))
    });
    insert_words(tx, words.collect()).await
}

/// Writes what others see of a box: its texts, and the words by which it is found. Gives whether it was still
/// of this version, where one is given.
pub(crate) async fn describe(tx: &mut Tx, id: BoxId, version: Option<i64>, texts: Texts<'_>) -> Result<bool> {
    let search = folded(&[texts.name, texts.function, texts.speciality].join(" "));
    let row = tx
        .optional(
            "UPDATE boxes SET name = $2, function = $3, speciality = $4, folded = $5, version = version + 1
             WHERE id = $1 AND ($6 < 0 OR version = $6) RETURNING organisation",
            args![
                id.0,
                texts.name.trim(),
                texts.function.trim(),
                texts.speciality.trim(),
                search,
                version.unwrap_or(-1)
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let around = surroundings(tx, OrganisationId(row.get("organisation")?)).await?;
    index(tx, id, texts, &around).await?;
    Ok(true)
}

/// What others see of a box, besides its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) name: &'a str,
    pub(crate) function: &'a str,
    pub(crate) speciality: &'a str,
}

/// Writes the words of every box of an organisation anew, after its own name or its court's has changed.
pub(crate) async fn index_organisation(tx: &mut Tx, organisation: OrganisationId) -> Result<()> {
    let around = surroundings(tx, organisation).await?;
    let mut after = uuid::Uuid::nil();
    loop {
        let rows = tx
            .rows(
                "SELECT id, name, function, speciality FROM boxes WHERE organisation = $1 AND id > $2
                 ORDER BY id LIMIT 500",
                args![organisation.0, after],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get("id")?;
        for row in &rows {
            let (name, function, speciality): (String, String, String) =
                (row.get("name")?, row.get("function")?, row.get("speciality")?);
            let texts = Texts { name: &name, function: &function, speciality: &speciality };
            index(tx, BoxId(row.get("id")?), texts, &around).await?;
        }
    }
}

async fn index(tx: &mut Tx, id: BoxId, texts: Texts<'_>, around: &str) -> Result<()> {
    tx.execute("DELETE FROM box_words WHERE box = $1", args![id.0]).await?;
    let words = words_of(&[texts.name, texts.function, texts.speciality, around], texts.speciality);
    insert_words(tx, words.into_iter().map(|word| (id, word)).collect()).await
}

/// The names of an organisation and of its court, by which its people are found too.
async fn surroundings(tx: &mut Tx, organisation: OrganisationId) -> Result<String> {
    let row = tx
        .one(
            "SELECT o.name, c.name AS court FROM organisations o LEFT JOIN organisations c ON c.id = o.court
             WHERE o.id = $1",
            args![organisation.0],
        )
        .await?;
    Ok([row.get::<String>("name")?, row.get::<Option<String>>("court")?.unwrap_or_default()].join(" "))
}

/// In which texts of a box a word is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WordField {
    /// Name, function, speciality, organisation, court.
    Any,
    /// The speciality alone.
    Speciality,
}

impl WordField {
    /// The word kept in the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Speciality => "speciality",
        }
    }
}

/// The most words of a text that the directory keeps, and the most characters of each.
const WORDS: usize = 100;
pub(crate) const WORD_MAX: usize = 40;

/// The words of a text as the directory compares them, each once.
pub(crate) fn words(text: &str) -> BTreeSet<String> {
    folded(text)
        .split(' ')
        .filter(|w| !w.is_empty())
        .take(WORDS)
        .map(|w| w.chars().take(WORD_MAX).collect())
        .collect()
}

fn words_of(texts: &[&str], speciality: &str) -> Vec<(WordField, String)> {
    let any: BTreeSet<String> = texts.iter().flat_map(|text| words(text)).collect();
    let special = words(speciality).into_iter().map(|word| (WordField::Speciality, word));
    any.into_iter().map(|word| (WordField::Any, word)).chain(special).collect()
}

async fn insert_words(tx: &mut Tx, words: Vec<(BoxId, (WordField, String))>) -> Result<()> {
    for some in words.chunks(3000) {
        let mut values = Args::default();
        for (id, (field, word)) in some {
            values.push(id.0);
            values.push(field.as_str());
            values.push(word.as_bytes());
        }
        let sql = const_sql(&["INSERT INTO box_words (box, field, word) ", &tuples(3, some.len())]);
        tx.execute(sql, values).await?;
    }
    Ok(())
}

/// `VALUES ($1, $2), ($3, $4)`: so many tuples of so many arguments.
pub(crate) fn tuples(width: usize, count: usize) -> String {
    let mut sql = String::from("VALUES ");
    for n in 0..width.saturating_mul(count) {
        let (open, close) = (n % width == 0, n % width == width.saturating_sub(1));
        let before = if open && n > 0 {
            ", ("
        } else if open {
            "("
        } else {
            ", "
        };
        let after = if close { ")" } else { "" };
        // Writing into a text does not fail.
        let _ = write!(sql, "{before}${}{after}", n.saturating_add(1));
    }
    sql
}

/// `$4, $5, $6`: adds these to the arguments, and gives their places.
pub(crate) fn places<V: Into<pli_storage::Value>>(
    args: &mut Args,
    values: impl IntoIterator<Item = V>,
) -> String {
    let mut sql = String::new();
    for value in values {
        args.push(value);
        let comma = if sql.is_empty() { "" } else { ", " };
        let _ = write!(sql, "{comma}${}", args.len());
    }
    sql
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
    fn words_are_kept_once_and_short() {
        assert_eq!(words("Génie civil, génie CIVIL").into_iter().collect::<Vec<_>>(), ["civil", "genie"]);
        assert_eq!(words(&"x".repeat(500)).first().map(String::len), Some(WORD_MAX));
        assert_eq!(words(" — / — ").len(), 0);
    }

    #[test]
    fn statements_for_many_rows() {
        assert_eq!(tuples(2, 2), "VALUES ($1, $2), ($3, $4)");
        assert_eq!(tuples(1, 1), "VALUES ($1)");
        let mut args = args![1_i64];
        assert_eq!(places(&mut args, ["a", "b"]), "$2, $3");
        assert_eq!(args.len(), 3);
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(line("Nom", " Zoé d'Été ", 20).unwrap(), "Zoé d'Été");
        for bad in ["", "  ", "a\nb", "a\0b", "a\u{202e}b", &"x".repeat(21)] {
            assert!(line("Nom", bad, 20).is_err(), "{bad:?}");
        }
    }
}
