//! The language of searches, as it is typed: `de:martin dossier:"24/1234" est:nonlu apres:01/09/2026 expertise`.
//!
//! A query is terms apart by spaces; all of them have to hold. A term is a word, a phrase in quotation marks,
//! or a filter `key:value`, whose value may stand in quotation marks. Keys are read without case and accents.
//! Errors are French sentences for whoever typed the query.

use crate::MessageKind;
use time::{Date, Month};

/// The most characters of a query.
pub const QUERY_MAX: usize = 500;
/// The most terms of a query.
pub const TERMS_MAX: usize = 20;

/// A term of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// A word of subject or text.
    Word(String),
    /// Words that follow each other.
    Phrase(String),
    /// `de:`, the sender.
    From(String),
    /// `a:`, a recipient.
    To(String),
    /// `dossier:`, a reference or the title of the procedure.
    Procedure(String),
    /// `est:nonlu`, `est:lu`, `est:archive`.
    Is(Is),
    /// `avant:`, before the beginning of this day in France.
    Before(Date),
    /// `apres:`, since the beginning of this day in France.
    After(Date),
    /// `type:`.
    Kind(MessageKind),
    /// `etiquette:`, the name of a label.
    Label(String),
}

/// A state that a search asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Not opened in its box.
    Unread,
    /// Opened.
    Read,
    /// Archived.
    Archived,
}

/// Why a query cannot be understood: a French sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(String);

fn error<T>(text: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError(text.into()))
}

/// The terms of a query.
///
/// # Errors
/// A French sentence that says which part is not understood and what is.
pub fn parse(query: &str) -> Result<Vec<Term>, QueryError> {
    if query.chars().count() > QUERY_MAX {
        return error(format!("Recherche : {QUERY_MAX} caractères au plus."));
    }
    if query.chars().any(|c| c.is_control() && c != '\t') {
        return error("Recherche : caractère de contrôle non permis.");
    }
    let mut terms = Vec::new();
    let mut rest = query.trim_start();
    while !rest.is_empty() {
        let term;
        (term, rest) = next(rest)?;
        terms.extend(term);
        if terms.len() > TERMS_MAX {
            return error(format!("Recherche : {TERMS_MAX} critères au plus."));
        }
        rest = rest.trim_start();
    }
    Ok(terms)
}

/// The first term, if there is something in it, and what follows.
fn next(text: &str) -> Result<(Option<Term>, &str), QueryError> {
    if let Some((phrase, rest)) = quoted(text)? {
        let phrase = phrase.trim();
        return Ok(((!phrase.is_empty()).then(|| Term::Phrase(phrase.to_owned())), rest));
    }
    let end = text.find(|c: char| c.is_whitespace() || c == ':' || opens(c)).unwrap_or(text.len());
    let (head, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let Some(after) = rest.strip_prefix(':') else {
        return Ok(((!head.is_empty()).then(|| Term::Word(head.to_owned())), rest));
    };
    let key = plain(head);
    if !KEYS.contains(&key.as_str()) {
        return error(format!(
            "Recherche : « {head}: » n'est pas un critère. Critères : {}. Pour chercher ces mots, mettez-les entre guillemets.",
            KEYS.iter().map(|key| format!("{key}:")).collect::<Vec<_>>().join(", ")
        ));
    }
    let (value, rest) = match quoted(after)? {
        Some((value, rest)) => (value, rest),
        None => {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            after.split_at_checked(end).unwrap_or((after, ""))
        }
    };
    let value = value.trim();
    if value.is_empty() {
        return error(format!(
            "Recherche : « {head}: » attend une valeur, sans espace après les deux-points."
        ));
    }
    Ok((Some(filter(&key, value)?), rest))
}

const KEYS: &[&str] = &["de", "a", "dossier", "est", "avant", "apres", "type", "etiquette"];

fn filter(key: &str, value: &str) -> Result<Term, QueryError> {
    let owned = || value.to_owned();
    Ok(match key {
        "de" => Term::From(owned()),
        "a" => Term::To(owned()),
        "dossier" => Term::Procedure(owned()),
        "etiquette" => Term::Label(owned()),
        "avant" => Term::Before(date(key, value)?),
        "apres" => Term::After(date(key, value)?),
        "est" => match plain(value).as_str() {
            "nonlu" | "non-lu" | "non lu" => Term::Is(Is::Unread),
            "lu" => Term::Is(Is::Read),
            "archive" => Term::Is(Is::Archived),
            _ => return error(format!("Recherche : « est:{value} » ; attendu : nonlu, lu ou archive.")),
        },
        _ => {
            let asked = plain(value);
            match MessageKind::ALL.iter().find(|kind| asked == plain(kind.label()) || asked == kind.as_str())
            {
                Some(kind) => Term::Kind(*kind),
                None => {
                    let known =
                        MessageKind::ALL.iter().map(|kind| kind.label()).collect::<Vec<_>>().join(", ");
                    return error(format!("Recherche : « type:{value} » ; attendu : {known}."));
                }
            }
        }
    })
}

/// `jj/mm/aaaa` or ISO 8601 `aaaa-mm-jj`.
fn date(key: &str, value: &str) -> Result<Date, QueryError> {
    let parts = |mark| value.split(mark).collect::<Vec<_>>();
    let (year, month, day) = match (parts('/').as_slice(), parts('-').as_slice()) {
        ([day, month, year], _) | (_, [year, month, day]) => (*year, *month, *day),
        _ => ("", "", ""),
    };
    let digits = |text: &str, most: usize| text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    let found = if year.len() == 4 && digits(year, 4) && digits(month, 2) && digits(day, 2) {
        let month = month.parse::<u8>().ok().and_then(|month| Month::try_from(month).ok());
        month
            .zip(year.parse().ok())
            .zip(day.parse().ok())
            .and_then(|((month, year), day)| Date::from_calendar_date(year, month, day).ok())
    } else {
        None
    };
    match found {
        Some(date) if date.year() >= 1900 => Ok(date),
        _ => error(format!(
            "Recherche : « {key}:{value} » n'est pas une date. Écrivez jj/mm/aaaa (31/12/2026) ou aaaa-mm-jj."
        )),
    }
}

const fn opens(c: char) -> bool {
    matches!(c, '"' | '«' | '\u{201c}')
}

/// What stands between quotation marks at the beginning, and what follows them.
fn quoted(text: &str) -> Result<Option<(&str, &str)>, QueryError> {
    let close = match text.chars().next() {
        Some('"') => '"',
        Some('«') => '»',
        Some('\u{201c}') => '\u{201d}',
        _ => return Ok(None),
    };
    let mut after = text.chars();
    after.next();
    match after.as_str().split_once(close) {
        Some(pair) => Ok(Some(pair)),
        None => error("Recherche : un guillemet ouvert n'est pas fermé."),
    }
}

/// In lower case and without the accents that keys and words of this language can have.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        // Combining marks of decomposed text.
        .filter(|c| !matches!(c, '\u{300}'..='\u{36f}'))
        .map(|c| match c {
            'à' | 'â' => 'a',
            'é' | 'è' | 'ê' => 'e',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u8, day: u8) -> Date {
        Date::from_calendar_date(year, Month::try_from(month).unwrap(), day).unwrap()
    }

    #[test]
    fn a_whole_query() {
        let query = "de:martin À:expert@experts.example dossier:\"24/1234 bis\" est:NonLu  Apr\u{e8}s:01/09/2026 \
                     avant:2026-10-2 type:Pré-rapport étiquette:« à relire » expertise \"gros œuvre\" l'étude";
        let text = |text: &str| text.to_owned();
        assert_eq!(
            parse(query).unwrap(),
            [
                Term::From(text("martin")),
                Term::To(text("expert@experts.example")),
                Term::Procedure(text("24/1234 bis")),
                Term::Is(Is::Unread),
                Term::After(day(2026, 9, 1)),
                Term::Before(day(2026, 10, 2)),
                Term::Kind(MessageKind::DraftReport),
                Term::Label(text("à relire")),
                Term::Word(text("expertise")),
                Term::Phrase(text("gros œuvre")),
                Term::Word(text("l'étude")),
            ]
        );
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("  \"  \" ").unwrap(), []);
        assert_eq!(parse("avant:\"31/12/2026\"").unwrap(), [Term::Before(day(2026, 12, 31))]);
        assert_eq!(parse("mot\"deux mots\"").unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (query, said) in [
            ("objet:x", "« objet: » n'est pas un critère. Critères : de:, a:, dossier:"),
            (":x", "« : » n'est pas un critère"),
            ("de: martin", "« de: » attend une valeur"),
            ("de:\"\"", "« de: » attend une valeur"),
            ("est:lue", "attendu : nonlu, lu ou archive"),
            ("type:lettre", "attendu : mission, correspondance, pré-rapport, rapport, saisine, avis"),
            ("avant:31/02/2026", "« avant:31/02/2026 » n'est pas une date"),
            ("avant:1/1/26", "n'est pas une date"),
            ("apres:2026-13-01", "n'est pas une date"),
            ("apres:+2026-1-1", "n'est pas une date"),
            ("apres:demain", "jj/mm/aaaa"),
            ("\"pas fermé", "guillemet"),
            ("de:\"pas fermé", "guillemet"),
            ("« pas fermé", "guillemet"),
            ("a\0b", "caractère de contrôle"),
        ] {
            let error = parse(query).unwrap_err().to_string();
            assert!(error.starts_with("Recherche : ") && error.contains(said), "{query:?}: {error}");
        }
        assert!(parse(&"é".repeat(QUERY_MAX)).is_ok());
        assert!(parse(&"é".repeat(QUERY_MAX + 1)).is_err());
        assert!(parse(&"mot ".repeat(TERMS_MAX)).is_ok());
        assert!(parse(&"mot ".repeat(TERMS_MAX + 1)).is_err());
    }
}
