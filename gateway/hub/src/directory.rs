//! The directory: who can be written to, as far as the caller may know.
//!
//! Reads `boxes`, `box_words` and `delegations`. Must never show a closed box, nor anyone beyond what the kind
//! of the caller's organisation allows ([`Sight`]). No request reads more than [`VISITED`] boxes of each source,
//! however large the directory is: a page may hold fewer entries than were asked for and still have a next one.

use crate::Hub;
use crate::access::Caller;
use crate::boxes::{WORD_MAX, WordField, places, words};
use crate::fault::{Fault, Result};
use crate::uploads::const_sql;
use axum::Json;
use axum::extract::{Query, State};
use pli_api::{
    Absence, BoxId, BoxKind, DirectoryEntry, OrganisationId, OrganisationKind, Page, Person, ProblemCode,
    Time,
};
use pli_storage::{Args, Row, Tx, Value, args};
use serde::Deserialize;
use std::collections::HashMap;
use uuid::Uuid;

/// The most boxes that one request visits in one source.
const VISITED: i64 = 2000;
/// The most words of a search, and the most characters.
const WORDS_MAX: usize = 8;
const QUERY_MAX: usize = 200;

/// What is looked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Beginnings of words of name, function, speciality, organisation and court; all of them.
    #[serde(default)]
    q: String,
    kind: Option<BoxKind>,
    organisation: Option<OrganisationId>,
    /// Beginnings of words of the speciality; all of them.
    #[serde(default)]
    speciality: String,
    after: Option<BoxId>,
    limit: Option<u32>,
}

/// How far someone sees, by the kind of their organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Courts and offices: each other, and the experts.
    Justice,
    /// Experts: their company, and whoever they have to do with.
    Expert,
    /// Administrations: their own, and the services that they send to.
    Administration,
}

impl From<OrganisationKind> for Sight {
    fn from(kind: OrganisationKind) -> Self {
        match kind {
            OrganisationKind::Court | OrganisationKind::Office => Self::Justice,
            OrganisationKind::Company => Self::Expert,
            OrganisationKind::Administration => Self::Administration,
        }
    }
}

/// The boxes that an account has to do with, beyond its own organisation, in SQL; the account is `{me}`. Each
/// line is one reason: whoever shares a procedure, or has written a message, is one more.
const ACQUAINTED: &[&str] = &[
    // Whoever sent them a deposit.
    "SELECT p.sender FROM recipients r JOIN deposits p ON p.id = r.deposit
     WHERE r.withdrawn IS NULL AND p.state IN ('available', 'expired')
     AND r.box IN (SELECT id FROM boxes WHERE id = {me}
         UNION ALL SELECT service FROM service_members WHERE account = {me})",
];

/// A statement in the making: texts of this program, values as arguments.
struct Statement {
    sql: String,
    args: Args,
}

impl Statement {
    fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), args: Args::default() }
    }

    /// The place of an argument.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.args.push(value);
        format!("${}", self.args.len())
    }

    fn add(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    async fn rows(self, tx: &mut Tx) -> Result<Vec<Row>> {
        Ok(tx.rows(const_sql(&[&self.sql]), self.args).await?)
    }
}

/// The beginning of a word, where it is looked for.
type Word = (WordField, String);

/// The octets between which every word lies that begins with this one: UTF-8 has no octet 0xFF.
fn range(word: &str) -> (Vec<u8>, Vec<u8>) {
    let low = word.as_bytes().to_vec();
    let mut high = low.clone();
    high.push(0xff);
    (low, high)
}

fn asked_words(asked: &Asked) -> Result<Vec<Word>> {
    let mut wanted: Vec<Word> = Vec::new();
    for (field, name, text) in
        [(WordField::Any, "q", &asked.q), (WordField::Speciality, "speciality", &asked.speciality)]
    {
        if text.chars().count() > QUERY_MAX {
            return Err(Fault::because(
                ProblemCode::Invalid,
                format!("{name} : {QUERY_MAX} caractères au plus."),
            ));
        }
        wanted.extend(words(text).into_iter().map(|word| (field, word)));
    }
    if wanted.len() > WORDS_MAX {
        return Err(Fault::because(ProblemCode::Invalid, format!("{WORDS_MAX} mots au plus.")));
    }
    debug_assert!(wanted.iter().all(|(_, word)| word.chars().count() <= WORD_MAX));
    Ok(wanted)
}

/// The word that the fewest boxes have, if these are few enough to be gone through.
async fn rarest(tx: &mut Tx, words: &[Word]) -> Result<Option<usize>> {
    let mut best: Option<(i64, usize)> = None;
    for (at, (field, word)) in words.iter().enumerate() {
        let (low, high) = range(word);
        let row = tx
            .one(
                "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM box_words
                 WHERE field = $1 AND word >= $2 AND word < $3 LIMIT $4) AS few",
                args![field.as_str(), low, high, VISITED + 1],
            )
            .await?;
        let count = row.get::<i64>("n")?;
        if count <= VISITED && best.is_none_or(|(least, _)| count < least) {
            best = Some((count, at));
        }
    }
    Ok(best.map(|(_, at)| at))
}

/// A row's place in the order of the directory.
#[derive(Clone)]
struct Place {
    folded: String,
    id: Uuid,
}

/// Where the boxes come from when no word is rare: conditions that an index serves in the directory's order.
fn sources(statement: &mut Statement, sight: Sight, caller: &Caller, asked: &Asked) -> Vec<String> {
    if let Some(organisation) = asked.organisation {
        let place = statement.value(organisation.0);
        return vec![format!("organisation = {place}")];
    }
    match sight {
        Sight::Justice => match asked.kind {
            Some(kind) => {
                let place = statement.value(kind.as_str());
                vec![format!("kind = {place}")]
            }
            None => vec!["TRUE".to_owned()],
        },
        Sight::Expert => {
            let place = statement.value(caller.organisation.0);
            vec![format!("organisation = {place}")]
        }
        Sight::Administration => {
            let place = statement.value(caller.organisation.0);
            vec![format!("organisation = {place}"), "kind = 'service'".to_owned()]
        }
    }
}

/// The place behind which no source has been visited yet, when one of them goes on beyond [`VISITED`] boxes.
async fn horizon(
    tx: &mut Tx,
    sight: Sight,
    caller: &Caller,
    asked: &Asked,
    after: &Place,
) -> Result<Option<Place>> {
    let mut statement = Statement::new("");
    let (folded, id) = (statement.value(&after.folded), statement.value(after.id));
    let skip = statement.value(VISITED - 1);
    for (n, source) in sources(&mut statement, sight, caller, asked).into_iter().enumerate() {
        let union = if n == 0 { "" } else { " UNION ALL " };
        statement.add(&format!(
            "{union}SELECT folded, id FROM (SELECT folded, id FROM boxes WHERE {source} AND (folded, id) > ({folded}, {id})
             ORDER BY folded, id LIMIT 1 OFFSET {skip}) AS source{n}"
        ));
    }
    statement.add(" ORDER BY folded, id LIMIT 1");
    let rows = statement.rows(tx).await?;
    let place = |row: &Row| -> Result<Place> { Ok(Place { folded: row.get("folded")?, id: row.get("id")? }) };
    rows.first().map(place).transpose()
}

/// GET /directory.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<Page<DirectoryEntry>>> {
    let wanted = asked_words(&asked)?;
    let limit = asked.limit.unwrap_or(50).clamp(1, 200);
    let mut tx = hub.db().read().await?;
    let kind = tx.one("SELECT kind FROM organisations WHERE id = $1", args![caller.organisation.0]).await?;
    let kind: OrganisationKind = kind.get::<String>("kind")?.parse().map_err(Fault::internal)?;
    let sight = Sight::from(kind);
    let after = match asked.after {
        None => Place { folded: String::new(), id: Uuid::nil() },
        Some(id) => {
            let row = tx.optional("SELECT folded FROM boxes WHERE id = $1", args![id.0]).await?;
            let row = row.ok_or_else(|| Fault::because(ProblemCode::Invalid, "after : page inconnue."))?;
            Place { folded: row.get("folded")?, id: id.0 }
        }
    };

    let rare = rarest(&mut tx, &wanted).await?;
    let until = match rare {
        Some(_) => None,
        None => horizon(&mut tx, sight, &caller, &asked, &after).await?,
    };
    let mut page = Statement::new("");
    candidates(
        &mut page,
        sight,
        &caller,
        &asked,
        (&after, until.as_ref()),
        rare.and_then(|at| wanted.get(at)),
    );
    visible(&mut page, sight, &caller);
    if let Some(kind) = asked.kind {
        let place = page.value(kind.as_str());
        page.add(&format!(" AND b.kind = {place}"));
    }
    if let Some(organisation) = asked.organisation {
        let place = page.value(organisation.0);
        page.add(&format!(" AND b.organisation = {place}"));
    }
    for (field, word) in &wanted {
        let (low, high) = range(word);
        let (field, low, high) = (page.value(field.as_str()), page.value(low), page.value(high));
        page.add(&format!(
            " AND EXISTS (SELECT 1 FROM box_words w WHERE w.box = b.id AND w.field = {field}
                AND w.word >= {low} AND w.word < {high})"
        ));
    }
    let most = page.value(i64::from(limit) + 1);
    page.add(&format!(" ORDER BY b.folded || '', b.id LIMIT {most}"));

    let rows = page.rows(&mut tx).await?;
    let mut items: Vec<_> = rows.iter().take(limit as usize).map(entry).collect::<Result<_>>()?;
    let next = if rows.len() > items.len() {
        items.last().map(|item| item.id.to_string())
    } else {
        until.map(|place| place.id.to_string())
    };
    absences(&mut tx, hub.now(), &mut items).await?;
    Ok(Json(Page { items, next }))
}

/// The boxes to be looked at. They are named by a list of ids, which a database goes through however it plans
/// the rest: `|| ''` keeps it from walking the whole directory in order instead.
fn candidates(
    page: &mut Statement,
    sight: Sight,
    caller: &Caller,
    asked: &Asked,
    (after, until): (&Place, Option<&Place>),
    rare: Option<&Word>,
) {
    page.add(
        "SELECT b.id, b.kind, b.address, b.name, b.function, b.speciality, b.organisation,
            o.name AS organisation_name, o.kind AS organisation_kind, c.name AS court
         FROM boxes b JOIN organisations o ON o.id = b.organisation LEFT JOIN organisations c ON c.id = o.court
         WHERE b.id IN (",
    );
    let (folded, id) = (page.value(&after.folded), page.value(after.id));
    let mut within = format!(" AND (b.folded || '', b.id) > ({folded}, {id})");
    if let Some((field, word)) = rare {
        let (low, high) = range(word);
        let (field, low, high) = (page.value(field.as_str()), page.value(low), page.value(high));
        page.add(&format!(
            "SELECT box FROM box_words WHERE field = {field} AND word >= {low} AND word < {high}"
        ));
    } else {
        let mut bounds = format!("(folded, id) > ({folded}, {id})");
        if let Some(until) = until {
            let (folded, id) = (page.value(&until.folded), page.value(until.id));
            bounds.push_str(&format!(" AND (folded, id) <= ({folded}, {id})"));
            within.push_str(&format!(" AND (b.folded || '', b.id) <= ({folded}, {id})"));
        }
        let sources = sources(page, sight, caller, asked);
        let selects: Vec<_> = sources
            .iter()
            .map(|source| format!("SELECT id FROM boxes WHERE {source} AND {bounds}"))
            .collect();
        page.add(&selects.join(" UNION "));
        if sight == Sight::Expert && asked.organisation.is_none() {
            let me = page.value(caller.account.0);
            for reason in ACQUAINTED {
                page.add(&format!(" UNION {}", reason.replace("{me}", &me)));
            }
        }
    }
    page.add(&format!(") AND b.closed IS NULL{within}"));
}

/// What the caller may know of.
fn visible(page: &mut Statement, sight: Sight, caller: &Caller) {
    let mine = page.value(caller.organisation.0);
    match sight {
        Sight::Justice => {
            page.add(&format!(" AND (b.organisation = {mine} OR o.kind IN ('court', 'office', 'company'))"));
        }
        Sight::Expert => {
            let me = page.value(caller.account.0);
            let known: Vec<_> = ACQUAINTED.iter().map(|reason| reason.replace("{me}", &me)).collect();
            page.add(&format!(" AND (b.organisation = {mine} OR b.id IN ({}))", known.join(" UNION ")));
        }
        Sight::Administration => {
            page.add(&format!(
                " AND (b.organisation = {mine} OR (b.kind = 'service' AND o.kind IN ('court', 'office')))"
            ));
        }
    }
}

fn entry(row: &Row) -> Result<DirectoryEntry> {
    Ok(DirectoryEntry {
        id: BoxId(row.get("id")?),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        address: row.get("address")?,
        name: row.get("name")?,
        function: row.get("function")?,
        speciality: row.get("speciality")?,
        organisation: OrganisationId(row.get("organisation")?),
        organisation_name: row.get("organisation_name")?,
        organisation_kind: row.get::<String>("organisation_kind")?.parse().map_err(Fault::internal)?,
        court: row.get("court")?,
        absence: None,
    })
}

/// Says who of these is away now, and who acts for them.
async fn absences(tx: &mut Tx, now: Time, items: &mut [DirectoryEntry]) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    let mut values = args![now];
    let list = places(&mut values, items.iter().map(|item| item.id.0));
    let sql = const_sql(&[
        "SELECT d.delegator, d.ends, t.address, t.name FROM delegations d JOIN boxes t ON t.id = d.delegate
         WHERE d.kind = 'absence' AND d.revoked IS NULL AND d.starts <= $1 AND d.ends > $1 AND t.closed IS NULL
         AND d.delegator IN (",
        &list,
        ") ORDER BY d.ends",
    ]);
    let mut away = HashMap::new();
    for row in tx.rows(sql, values).await? {
        let substitute = Person { address: row.get("address")?, name: row.get("name")? };
        away.insert(row.get::<Uuid>("delegator")?, Absence { until: row.get("ends")?, substitute });
    }
    for item in items {
        item.absence = away.remove(&item.id.0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_range_of_octets() {
        let (low, high) = range("dup");
        for inside in ["dup", "dupont", "dupé", "dup\u{10ffff}"] {
            assert!(low.as_slice() <= inside.as_bytes() && inside.as_bytes() < high.as_slice(), "{inside}");
        }
        for outside in ["duo", "duq", "du"] {
            assert!(
                !(low.as_slice() <= outside.as_bytes() && outside.as_bytes() < high.as_slice()),
                "{outside}"
            );
        }
    }
}
