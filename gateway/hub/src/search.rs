//! Search: the words of what was sent, and queries as conditions in SQL.
//!
//! Owns the table `message_words`. Must never find a message outside the caller's boxes: a condition only
//! narrows what the list of a box gives.

use crate::boxes::folded;
use crate::fault::{Fault, Result};
use crate::procedures;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pli_api::search::{Is, Term};
use pli_api::{MessageId, ProblemCode, Time};
use pli_storage::{Args, Sql, Tx, Value, args};
use rust_stemmers::{Algorithm, Stemmer};
use std::collections::BTreeSet;

/// The most characters of a word that are kept.
const WORD_MAX: usize = 40;
/// The most different words of a message that are kept: the first ones.
const WORDS_MAX: usize = 4000;
/// The most words of one query.
const ASKED_MAX: usize = 20;
/// Words written by one statement.
const BATCH: usize = 200;

/// French words that stand in nearly every text, folded and sorted.
const STOP: &[&str] = &[
    "ai", "ainsi", "alors", "apres", "as", "au", "aucun", "aussi", "autre", "autres", "aux", "avais",
    "avait", "avant", "avec", "avez", "avoir", "avons", "bien", "car", "ce", "ceci", "cela", "celle",
    "celles", "celui", "ces", "cet", "cette", "ceux", "chez", "ci", "comme", "dans", "de", "des", "donc",
    "dont", "du", "elle", "elles", "en", "entre", "es", "est", "et", "etaient", "etait", "etant", "ete",
    "etes", "etre", "eu", "eux", "faire", "fait", "font", "ici", "il", "ils", "je", "la", "le", "les",
    "leur", "leurs", "lors", "lui", "ma", "mais", "me", "meme", "memes", "mes", "moi", "mon", "ne", "ni",
    "nos", "notre", "nous", "on", "ont", "ou", "par", "pas", "plus", "pour", "qu", "quand", "que", "quel",
    "quelle", "quelles", "quels", "qui", "sa", "sans", "se", "sera", "seront", "ses", "si", "soit", "son",
    "sont", "sous", "suis", "sur", "ta", "te", "tes", "toi", "ton", "tous", "tout", "toute", "toutes", "tu",
    "un", "une", "vos", "votre", "vous",
];

/// The words of a text, in order, in the two forms by which they are found: the stem of the word as it is
/// written, and of the word without its accents, which people leave out when they search.
fn stems(text: &str) -> Vec<[String; 2]> {
    let stemmer = Stemmer::create(Algorithm::French);
    let lower = text.to_lowercase();
    let mut out = Vec::new();
    for word in lower.split(|c: char| !c.is_alphanumeric() && !matches!(c, '\u{300}'..='\u{36f}')) {
        // Folding may find more than one word in it: a ligature, a number with an odd mark.
        for plain in folded(word).split(' ') {
            let single = plain.len() == 1 && !plain.bytes().all(|b| b.is_ascii_digit());
            if plain.is_empty() || single || STOP.binary_search(&plain).is_ok() {
                continue;
            }
            let plain: String = plain.chars().take(WORD_MAX).collect();
            let written: String = word.chars().take(WORD_MAX).collect();
            out.push([folded(&stemmer.stem(&written)).replace(' ', ""), stemmer.stem(&plain).into_owned()]);
        }
    }
    out
}

/// Writes the words of a message that is being sent.
pub(crate) async fn index(tx: &mut Tx, id: MessageId, subject: &str, body: &str) -> Result<()> {
    let mut words = BTreeSet::new();
    for form in stems(subject).into_iter().chain(stems(body)).flatten() {
        if words.len() >= WORDS_MAX {
            break;
        }
        if !form.is_empty() {
            words.insert(form);
        }
    }
    let words: Vec<String> = words.into_iter().collect();
    for batch in words.chunks(BATCH) {
        let mut values: Args = args![id.0];
        let mut rows = Vec::with_capacity(batch.len());
        for word in batch {
            values.push(word.as_str());
            rows.push(format!("(${}, $1)", values.len()));
        }
        let sql = format!(
            "INSERT INTO message_words (word, message) VALUES {} ON CONFLICT (word, message) DO NOTHING",
            rows.join(", ")
        );
        tx.execute(Sql::assembled(sql), values).await?;
    }
    Ok(())
}

/// What a query asks, ready to narrow the list of a box.
pub(crate) struct Search {
    terms: Vec<Term>,
}

impl Search {
    /// A query as it was typed.
    ///
    /// # Errors
    /// 422 with a French sentence for a query that cannot be understood or that asks nothing.
    pub(crate) fn of(query: &str) -> Result<Self> {
        let refused = |text: String| Fault::because(ProblemCode::Invalid, text);
        let terms = pli_api::search::parse(query).map_err(|error| refused(error.to_string()))?;
        let (mut words, mut asked, mut empty) = (0_usize, 0_usize, None);
        for term in &terms {
            match term {
                Term::Word(text) | Term::Phrase(text) => match stems(text).len() {
                    0 => empty = Some(text),
                    found => {
                        words = words.saturating_add(found);
                        asked = asked.saturating_add(1);
                    }
                },
                Term::From(text) | Term::To(text) | Term::Procedure(text) | Term::Label(text)
                    if folded(text).is_empty() =>
                {
                    return Err(refused(format!("Recherche : « {text} » ne contient ni lettre ni chiffre.")));
                }
                _ => asked = asked.saturating_add(1),
            }
        }
        // Common words and marks among others ask nothing more; alone they would find everything.
        if let (Some(text), 0) = (empty, asked) {
            return Err(refused(format!("Recherche : « {text} » est trop courant ou n'est pas un mot.")));
        }
        if words > ASKED_MAX {
            return Err(refused(format!("Recherche : {ASKED_MAX} mots au plus.")));
        }
        Ok(Self { terms })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub(crate) fn asks_for(&self, state: Is) -> bool {
        self.terms.contains(&Term::Is(state))
    }

    /// ` AND …` for each term, on delivery `v`, its message `m` and the sender's box `s`. Account `$2`,
    /// instant `$3` and scope `$4` are the caller's; the values of the terms are added to `values`.
    pub(crate) fn conditions(&self, values: &mut Args) -> String {
        let mut sql = String::new();
        for term in &self.terms {
            for condition in condition(term, values) {
                sql.push_str(" AND ");
                sql.push_str(&condition);
            }
        }
        sql
    }
}

fn place(values: &mut Args, value: impl Into<Value>) -> String {
    values.push(value);
    format!("${}", values.len())
}

/// Every word of a name or function begins a word of the box's; with `@`, an address or the end of one.
fn names_box(alias: &str, text: &str, values: &mut Args) -> String {
    if text.contains('@') {
        let address = text.to_lowercase();
        return match address.starts_with('@') {
            false => format!("{alias}.address = {}", place(values, address)),
            true => {
                let address = address.replace('!', "!!").replace('%', "!%").replace('_', "!_");
                format!("{alias}.address LIKE {} ESCAPE '!'", place(values, format!("%{address}")))
            }
        };
    }
    // Folded texts hold letters, digits and spaces only: nothing in them is a pattern.
    let words = folded(text);
    let each = words
        .split(' ')
        .map(|word| format!("(' ' || {alias}.folded) LIKE {}", place(values, format!("% {word}%"))));
    format!("({})", each.collect::<Vec<_>>().join(" AND "))
}

fn condition(term: &Term, values: &mut Args) -> Vec<String> {
    match term {
        Term::Word(text) => words(text, values),
        Term::Phrase(text) => {
            let mut all = words(text, values);
            if all.is_empty() {
                return all;
            }
            let phrase = place(values, format!("% {} %", folded(text)));
            all.push(format!("(' ' || m.folded || ' ') LIKE {phrase}"));
            all
        }
        Term::From(text) => vec![names_box("s", text, values)],
        Term::To(text) => vec![format!(
            "EXISTS (SELECT 1 FROM deliveries d JOIN boxes r ON r.id = d.box WHERE d.message = v.message
             AND d.role <> 'sender' AND d.withdrawn IS NULL AND {})",
            names_box("r", text, values)
        )],
        Term::Procedure(text) => {
            let words = folded(text);
            let reference = place(values, words.replace(' ', ""));
            let title = words
                .split(' ')
                .map(|word| format!("(' ' || c.folded) LIKE {}", place(values, format!("% {word}%"))))
                .collect::<Vec<_>>()
                .join(" AND ");
            vec![format!(
                "EXISTS (SELECT 1 FROM procedures c WHERE c.id = v.procedure AND {}
                 AND (({title}) OR EXISTS (SELECT 1 FROM procedure_references f
                     WHERE f.procedure = c.id AND f.folded = {reference})))",
                procedures::VISIBLE
            )]
        }
        Term::Is(Is::Unread) => vec!["v.role <> 'sender' AND v.read IS NULL".to_owned()],
        Term::Is(Is::Read) => vec!["v.role <> 'sender' AND v.read IS NOT NULL".to_owned()],
        Term::Is(Is::Archived) => vec!["v.archived IS NOT NULL".to_owned()],
        Term::Before(day) => vec![format!("v.at < {}", place(values, begins(*day)))],
        Term::After(day) => vec![format!("v.at >= {}", place(values, begins(*day)))],
        Term::Kind(kind) => vec![format!("m.kind = {}", place(values, kind.as_str()))],
        Term::Label(name) => vec![format!(
            "EXISTS (SELECT 1 FROM delivery_labels d JOIN labels l ON l.id = d.label
             WHERE d.message = v.message AND l.box = v.box AND l.folded = {})",
            place(values, folded(name))
        )],
    }
}

fn words(text: &str, values: &mut Args) -> Vec<String> {
    let each = stems(text).into_iter().map(|[written, plain]| {
        let (written, plain) = (place(values, written), place(values, plain));
        format!(
            "EXISTS (SELECT 1 FROM message_words w WHERE w.word IN ({written}, {plain}) AND w.message = v.message)"
        )
    });
    each.collect()
}

/// The instant at which a day begins in metropolitan France. The rule of the European Union since 1996; what
/// Pli keeps is younger.
fn begins(day: time::Date) -> Time {
    let far = Time::from_micros(i64::MIN);
    let (Ok(year), Ok(month), Ok(number)) =
        (i16::try_from(day.year()), i8::try_from(u8::from(day.month())), i8::try_from(day.day()))
    else {
        return far;
    };
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3");
    let instant = Date::new(year, month, number).and_then(|date| date.to_zoned(zone?));
    instant.map_or(far, |zoned| Time::from_micros(zoned.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    fn found(text: &str, query: &str) -> bool {
        let forms: BTreeSet<String> = stems(text).into_iter().flatten().collect();
        stems(query).iter().all(|word| word.iter().any(|form| forms.contains(form)))
    }

    #[test]
    fn the_stop_words_are_sorted_and_folded() {
        assert!(STOP.is_sorted());
        assert!(STOP.iter().all(|word| folded(word) == *word));
    }

    #[test]
    fn words_are_found_in_their_other_forms() {
        let text =
            "Les expertises judiciaires ordonnées à l'égard de l'œuvre désignée ; gros-œuvre n° 24/1234.";
        for query in [
            "expertise",
            "EXPERTISES",
            "judiciaire",
            "ordonnée",
            "ordonnees",
            "oeuvre",
            "œuvres",
            "designee",
            "désigné",
            "designe\u{301}e",
            "1234",
            "24",
        ] {
            assert!(found(text, query), "{query}");
        }
        for query in ["expert-comptable", "travaux", "5"] {
            assert!(!found(text, query), "{query}");
        }
        assert!(stems("le la l' d' à !").is_empty());
        assert_eq!(stems(&"x".repeat(500))[0][1].len(), WORD_MAX);
    }

    #[test]
    fn a_day_begins_in_france() {
        assert_eq!(begins(date!(2026 - 07 - 14)).to_string(), "2026-07-13T22:00:00Z");
        assert_eq!(begins(date!(2026 - 12 - 31)).to_string(), "2026-12-30T23:00:00Z");
        assert_eq!(begins(date!(2026 - 03 - 29)).to_string(), "2026-03-28T23:00:00Z");
        assert_eq!(begins(date!(2026 - 10 - 26)).to_string(), "2026-10-25T23:00:00Z");
    }

    #[test]
    fn what_asks_nothing_is_refused() {
        for query in ["le", "le la", "\"...\"", "de:!", "dossier:\"-\""] {
            assert_eq!(Search::of(query).err().unwrap().code(), ProblemCode::Invalid, "{query}");
        }
        assert!(Search::of("").unwrap().is_empty());
        for query in ["le rapport", "pli - rapport", "\"le\" est:lu"] {
            assert!(Search::of(query).is_ok(), "{query}");
        }
    }

    #[test]
    fn every_value_is_an_argument() {
        let query =
            "de:o'brien a:@x.example dossier:24/12 avant:1/1/2026 type:rapport etiquette:x mot \"deux mots\"";
        let mut values = args![1_i64, 2_i64, 3_i64, 4_i64];
        let sql = Search::of(query).unwrap().conditions(&mut values);
        for n in 5..=values.len() {
            assert!(sql.contains(&format!("${n}")), "${n} in {sql}");
        }
        assert!(!sql.contains("brien") && !sql.contains("deux"));
    }
}
