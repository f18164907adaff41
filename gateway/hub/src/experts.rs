//! The experts' list: accounts are made, changed and closed by it.
//!
//! Reads the file twice: once to say what it would do, once to do it, in transactions of [`BATCH`] lines. One
//! transaction for all would keep SQLite's only writer, and with it the whole exchange, for minutes; each batch
//! is whole by itself, and a run that was cut is ended by running it again, since a line that is done already
//! changes nothing. Memory: one batch, and some 100 octets for each line, by which duplicates are known.
//!
//! Must never open an account that its expert has left ([`crate::withdrawal`]) or that something else than the list
//! has closed, and never touch an account that is not of the list.

use crate::boxes::{self, NewBox, Texts, places, tuples};
use crate::expert_list::{Encoding, Entry, List, ListError, Record, Wrong};
use crate::fault::{Fault, Result};
use crate::invitations::{self, Purpose};
use crate::journal::Event;
use crate::organisations::{self, Named};
use crate::uploads::const_sql;
use crate::{Hub, people, withdrawal};
use pli_api::{AccountId, BoxKind, OrganisationId, OrganisationKind, ProblemCode, Role, Time};
use pli_storage::{Args, Row, Tx, args};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Seek};
use uuid::Uuid;

/// Lines of one transaction.
const BATCH: usize = 200;
/// From so many open accounts on, a list that closes more than half of them is taken for half a list.
const FEW: u64 = 10;

/// What an operator asks for.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Whose experts these are: identifier or exact name. The only company there is, when absent.
    pub company: Option<String>,
    /// Does what would be done.
    pub apply: bool,
    /// Does it for the right lines though others are wrong.
    pub skip_wrong: bool,
    /// Believes a list from which more than half of the experts are gone.
    pub many_leave: bool,
}

/// Why a line is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its form.
    Form(Wrong),
    /// No electronic address.
    Address,
    /// The number was on an earlier line.
    NumberTwice(u64),
    /// The address was on an earlier line.
    AddressTwice(u64),
    /// The number is another company's expert.
    OtherCompany,
    /// The address is a service's.
    AddressOfService,
    /// The address is an account's that is not this expert's.
    AddressOfOther,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Form(wrong) => wrong.fmt(f),
            Self::Address => f.write_str("courriel : adresse mal formée"),
            Self::NumberTwice(line) => write!(f, "numero : déjà à la ligne {line}"),
            Self::AddressTwice(line) => write!(f, "courriel : déjà à la ligne {line}"),
            Self::OtherCompany => f.write_str("numero : expert d'une autre compagnie"),
            Self::AddressOfService => f.write_str("courriel : adresse d'un service"),
            Self::AddressOfOther => f.write_str("courriel : adresse d'un autre compte"),
        }
    }
}

/// One field that the list changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, as the documents name it.
    pub field: &'static str,
    /// What it is.
    pub old: String,
    /// What it will be.
    pub new: String,
}

/// What a line, or its absence, means. Told as it is found, so that nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The line is not taken.
    Wrong {
        /// Its number.
        line: u64,
        /// Why.
        reason: Reason,
    },
    /// A new account.
    Added {
        /// The line.
        line: u64,
        /// The expert's number.
        number: String,
        /// Name.
        name: String,
        /// Address.
        address: String,
    },
    /// An account changes.
    Changed {
        /// The line.
        line: u64,
        /// The expert's number.
        number: String,
        /// In what; nothing when the expert only came back.
        differences: Vec<Difference>,
        /// Whether the expert had left the list: the account opens again.
        returned: bool,
    },
    /// The expert is on the list and has opted out: nothing is touched.
    OptedOut {
        /// The line.
        line: u64,
        /// The expert's number.
        number: String,
    },
    /// The expert is on the list and the account was closed by something else: nothing is touched.
    Closed {
        /// The line.
        line: u64,
        /// The expert's number.
        number: String,
    },
    /// The expert is no longer on the list: the account closes.
    Left {
        /// The expert's number.
        number: String,
        /// Name.
        name: String,
    },
}

/// What the list would do, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// The company.
    pub company: String,
    /// How the file was read.
    pub encoding: Option<Encoding>,
    /// What stands between its fields.
    pub separator: Option<char>,
    /// Columns that mean nothing here.
    pub ignored: Vec<String>,
    /// Lines with an expert on them.
    pub lines: u64,
    /// Accounts made.
    pub added: u64,
    /// Accounts changed, or opened again.
    pub changed: u64,
    /// Accounts that are as the list says.
    pub unchanged: u64,
    /// Accounts closed.
    pub left: u64,
    /// Experts of the list who opted out.
    pub opted_out: u64,
    /// Experts of the list whose account something else closed.
    pub closed: u64,
    /// Lines not taken.
    pub wrong: u64,
    /// Experts who are not on the list and whose accounts stay, because a wrong line may be theirs.
    pub held_back: u64,
    /// The list closes more than half of the accounts, and nobody said that it should.
    pub too_many_leave: bool,
    /// Whether it was done.
    pub applied: bool,
}

impl From<ListError> for Fault {
    fn from(error: ListError) -> Self {
        Self::because(ProblemCode::Invalid, format!("Liste des experts : {error}."))
    }
}

/// Reads the list, says by `told` what it means, and does it where it is asked to. The file is read with blocking
/// calls: this is an operator's command.
///
/// # Errors
/// 404 without such a company, 422 when the file is no list, 409 when file or accounts change meanwhile in such a
/// way that a line which was right is wrong; what was done then stays done.
pub async fn import<F: BufRead + Seek>(
    hub: &Hub,
    mut file: F,
    options: &ImportOptions,
    mut told: impl FnMut(&Finding),
) -> Result<ImportReport> {
    let mut tx = hub.db().read().await?;
    let company = company(&mut tx, options.company.as_deref()).await?;
    tx.rollback().await?;
    let mut report = ImportReport { company: company.name, ..ImportReport::default() };

    let mut list = List::open(&mut file)?;
    report.encoding = Some(list.encoding());
    report.separator = Some(list.separator());
    report.ignored = list.ignored().to_vec();
    let mut seen = Seen::default();
    loop {
        let lines = batch(&mut list, &mut seen)?;
        if lines.is_empty() {
            break;
        }
        let mut tx = hub.db().read().await?;
        for (line, deed) in deeds(&mut tx, company.id, lines).await? {
            report.count(&deed);
            if let Some(finding) = deed.finding(line) {
                told(&finding);
            }
        }
        tx.rollback().await?;
    }
    let open = open_experts(hub, company.id).await?;
    let mut leaving = Departures::new(company.id);
    while let Some(gone) = leaving.next(hub, &seen).await? {
        for expert in gone.iter().filter(|expert| expert.shows) {
            if seen.nameless == 0 {
                report.left = report.left.saturating_add(1);
                told(&Finding::Left { number: expert.number.clone(), name: expert.name.clone() });
            } else {
                report.held_back = report.held_back.saturating_add(1);
            }
        }
    }
    report.too_many_leave = !options.many_leave && open >= FEW && report.left > open / 2;
    if !options.apply || report.too_many_leave || (report.wrong > 0 && !options.skip_wrong) {
        return Ok(report);
    }
    drop(list);
    file.rewind().map_err(ListError::from)?;
    apply(hub, &mut file, company.id, options, &report).await?;
    report.applied = true;
    Ok(report)
}

/// The company that the list is for.
async fn company(tx: &mut Tx, named: Option<&str>) -> Result<Named> {
    if let Some(name) = named {
        let company = organisations::named(tx, name).await?;
        if company.kind != OrganisationKind::Company {
            let why = "Cette organisation n'est pas une compagnie d'experts.";
            return Err(Fault::because(ProblemCode::Invalid, why));
        }
        return Ok(company);
    }
    let rows = tx.rows("SELECT id, name FROM organisations WHERE kind = 'company' LIMIT 2", args![]).await?;
    match rows.as_slice() {
        [row] => Ok(Named {
            id: OrganisationId(row.get("id")?),
            kind: OrganisationKind::Company,
            name: row.get("name")?,
        }),
        _ => Err(Fault::because(
            ProblemCode::NotFound,
            "Aucune compagnie d'experts, ou plusieurs : nommez-la.",
        )),
    }
}

async fn open_experts(hub: &Hub, company: OrganisationId) -> Result<u64> {
    let row = hub
        .db()
        .optional(
            "SELECT COUNT(*) AS n FROM accounts a JOIN boxes b ON b.id = a.id
             WHERE b.organisation = $1 AND a.expert_number IS NOT NULL AND b.closed IS NULL",
            args![company.0],
        )
        .await?;
    row.map_or(Ok(0), |row| Ok(row.get("n")?))
}

/// What the lines before have named, by digest: a list is long, and its memory short.
#[derive(Default)]
struct Seen {
    numbers: HashMap<[u8; 16], u32>,
    addresses: HashMap<[u8; 16], u32>,
    /// Every number that can be read, of wrong lines too: these experts have not left.
    named: HashSet<[u8; 16]>,
    /// Wrong lines whose expert cannot be known.
    nameless: u64,
}

fn digest(text: &str) -> [u8; 16] {
    let mut first = [0; 16];
    first.iter_mut().zip(Sha256::digest(text.as_bytes())).for_each(|(to, from)| *to = from);
    first
}

/// A line as it is looked up: what it wants, or why it is not taken.
struct Line {
    line: u64,
    wanted: Result<Wanted, Reason>,
}

/// What a line wants an account to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    number: String,
    address: String,
    name: String,
    function: String,
    speciality: String,
}

impl Wanted {
    fn of(entry: &Entry) -> Result<Self, Reason> {
        let function = match entry.court.as_str() {
            "" => "Expert judiciaire".to_owned(),
            court => format!("Expert judiciaire, {court}"),
        };
        let name = [entry.first_name.as_str(), entry.last_name.as_str()].join(" ").trim().to_owned();
        Ok(Self {
            number: entry.number.clone(),
            address: people::address(&entry.address).map_err(|_| Reason::Address)?,
            name,
            function,
            speciality: entry.speciality.clone(),
        })
    }
}

impl Seen {
    /// What a record wants, unless one before wanted the same.
    fn look(&mut self, record: Record) -> Line {
        let number = record.number.as_deref().map(digest);
        match number {
            Some(number) => {
                self.named.insert(number);
            }
            None => self.nameless = self.nameless.saturating_add(1),
        }
        let here = u32::try_from(record.line).unwrap_or(u32::MAX);
        let wanted = record.entry.map_err(Reason::Form).and_then(|entry| {
            let wanted = Wanted::of(&entry)?;
            let (number, address) = (digest(&wanted.number), digest(&wanted.address));
            if let Some(line) = self.numbers.get(&number) {
                return Err(Reason::NumberTwice(u64::from(*line)));
            }
            if let Some(line) = self.addresses.get(&address) {
                return Err(Reason::AddressTwice(u64::from(*line)));
            }
            self.numbers.insert(number, here);
            self.addresses.insert(address, here);
            Ok(wanted)
        });
        Line { line: record.line, wanted }
    }
}

/// The next lines of the list; none at its end.
fn batch<F: BufRead + Seek>(list: &mut List<F>, seen: &mut Seen) -> Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(BATCH);
    while lines.len() < BATCH {
        let Some(record) = list.next_record()? else { break };
        lines.push(seen.look(record));
    }
    Ok(lines)
}

/// What a line does.
enum Deed {
    Wrong(Reason),
    Add(Wanted),
    Change { account: AccountId, wanted: Wanted, differences: Vec<Difference>, returned: bool, joined: bool },
    Unchanged,
    OptedOut { account: AccountId, number: String, delisted: bool },
    Closed { number: String },
}

impl Deed {
    fn finding(&self, line: u64) -> Option<Finding> {
        Some(match self {
            Self::Wrong(reason) => Finding::Wrong { line, reason: reason.clone() },
            Self::Add(wanted) => Finding::Added {
                line,
                number: wanted.number.clone(),
                name: wanted.name.clone(),
                address: wanted.address.clone(),
            },
            Self::Change { wanted, differences, returned, .. } => Finding::Changed {
                line,
                number: wanted.number.clone(),
                differences: differences.clone(),
                returned: *returned,
            },
            Self::OptedOut { number, .. } => Finding::OptedOut { line, number: number.clone() },
            Self::Closed { number } => Finding::Closed { line, number: number.clone() },
            Self::Unchanged => return None,
        })
    }
}

impl ImportReport {
    fn count(&mut self, deed: &Deed) {
        self.lines = self.lines.saturating_add(1);
        let count = match deed {
            Deed::Wrong(_) => &mut self.wrong,
            Deed::Add(_) => &mut self.added,
            Deed::Change { .. } => &mut self.changed,
            Deed::Unchanged => &mut self.unchanged,
            Deed::OptedOut { .. } => &mut self.opted_out,
            Deed::Closed { .. } => &mut self.closed,
        };
        *count = count.saturating_add(1);
    }
}

/// What each of these lines does, by the accounts there are.
async fn deeds(tx: &mut Tx, company: OrganisationId, lines: Vec<Line>) -> Result<Vec<(u64, Deed)>> {
    let wanted = || lines.iter().filter_map(|line| line.wanted.as_ref().ok());
    let (mut experts, mut addresses) = (HashMap::new(), HashMap::new());
    if wanted().next().is_some() {
        let mut values = Args::default();
        let numbers = places(&mut values, wanted().map(|w| w.number.as_str()));
        let sql = const_sql(&[
            "SELECT a.id, a.expert_number, a.opted_out, a.delisted, a.password IS NOT NULL AS joined,
                b.organisation, b.address, b.name, b.function, b.speciality, b.closed
             FROM accounts a JOIN boxes b ON b.id = a.id WHERE a.expert_number IN (",
            &numbers,
            ")",
        ]);
        for row in tx.rows(sql, values).await? {
            experts.insert(row.get::<String>("expert_number")?, row);
        }
        let mut values = Args::default();
        let list = places(&mut values, wanted().map(|w| w.address.as_str()));
        let sql = const_sql(&["SELECT id, kind, address FROM boxes WHERE address IN (", &list, ")"]);
        for row in tx.rows(sql, values).await? {
            addresses
                .insert(row.get::<String>("address")?, (row.get::<Uuid>("id")?, row.get::<String>("kind")?));
        }
    }
    let mut deeds = Vec::with_capacity(lines.len());
    for Line { line, wanted } in lines {
        let deed = match wanted {
            Err(reason) => Deed::Wrong(reason),
            Ok(wanted) => {
                let holder = addresses.get(&wanted.address);
                deed(company, experts.get(&wanted.number), holder, wanted)?
            }
        };
        deeds.push((line, deed));
    }
    Ok(deeds)
}

fn deed(
    company: OrganisationId,
    expert: Option<&Row>,
    holder: Option<&(Uuid, String)>,
    wanted: Wanted,
) -> Result<Deed> {
    let account: Option<Uuid> = expert.map(|row| row.get("id")).transpose()?;
    let taken = match holder {
        Some((id, _)) if Some(*id) == account => None,
        Some((_, kind)) if kind == BoxKind::Service.as_str() => Some(Reason::AddressOfService),
        Some(_) => Some(Reason::AddressOfOther),
        None => None,
    };
    let (Some(row), Some(account)) = (expert, account.map(AccountId)) else {
        return Ok(taken.map_or(Deed::Add(wanted), Deed::Wrong));
    };
    if row.get::<Uuid>("organisation")? != company.0 {
        return Ok(Deed::Wrong(Reason::OtherCompany));
    }
    let is_set = |column: &str| -> Result<bool> { Ok(row.get::<Option<Time>>(column)?.is_some()) };
    let delisted = is_set("delisted")?;
    if is_set("opted_out")? {
        return Ok(Deed::OptedOut { account, number: wanted.number, delisted });
    }
    if is_set("closed")? && !delisted {
        return Ok(Deed::Closed { number: wanted.number });
    }
    if let Some(reason) = taken {
        return Ok(Deed::Wrong(reason));
    }
    let mut differences = Vec::new();
    for (field, column, new) in [
        ("courriel", "address", &wanted.address),
        ("nom", "name", &wanted.name),
        ("fonction", "function", &wanted.function),
        ("specialites", "speciality", &wanted.speciality),
    ] {
        let old: String = row.get(column)?;
        if old != *new {
            differences.push(Difference { field, old, new: new.clone() });
        }
    }
    if differences.is_empty() && !delisted {
        return Ok(Deed::Unchanged);
    }
    Ok(Deed::Change { account, wanted, differences, returned: delisted, joined: row.get("joined")? })
}

async fn apply<F: BufRead + Seek>(
    hub: &Hub,
    file: F,
    company: OrganisationId,
    options: &ImportOptions,
    report: &ImportReport,
) -> Result<()> {
    let mut list = List::open(file)?;
    let mut seen = Seen::default();
    loop {
        let lines = batch(&mut list, &mut seen)?;
        if lines.is_empty() {
            break;
        }
        let now = hub.now();
        let mut tx = hub.db().write().await?;
        let deeds = deeds(&mut tx, company, lines).await?;
        if !options.skip_wrong && deeds.iter().any(|(_, deed)| matches!(deed, Deed::Wrong(_))) {
            return Err(Fault::because(
                ProblemCode::Conflict,
                "La liste ou les comptes ont changé pendant l'import : recommencez-le.",
            ));
        }
        perform(&mut tx, now, company, deeds).await?;
        tx.commit().await?;
        hub.inner.bell.notify_waiters();
    }
    if seen.nameless == 0 {
        let mut leaving = Departures::new(company);
        while let Some(gone) = leaving.next(hub, &seen).await? {
            let now = hub.now();
            let mut tx = hub.db().write().await?;
            for expert in gone {
                leave(&mut tx, now, expert.account).await?;
            }
            tx.commit().await?;
        }
    }
    let now = hub.now();
    let detail = serde_json::json!({
        "organisation": company, "lines": report.lines, "added": report.added, "changed": report.changed,
        "left": report.left, "wrong": report.wrong,
    });
    let mut tx = hub.db().write().await?;
    Event::new("experts.imported").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}

async fn perform(tx: &mut Tx, now: Time, company: OrganisationId, deeds: Vec<(u64, Deed)>) -> Result<()> {
    let mut new = Vec::new();
    for (_, deed) in deeds {
        match deed {
            Deed::Add(wanted) => new.push((AccountId::new(), wanted)),
            Deed::Change { account, wanted, differences, returned, joined } => {
                change(tx, now, account, &wanted, &differences, (returned, joined)).await?;
            }
            // Back on the list: should the expert come back too, the account opens.
            Deed::OptedOut { account, delisted: true, .. } => {
                let sql = "UPDATE accounts SET delisted = NULL WHERE id = $1";
                tx.execute(sql, args![account.0]).await?;
                note(tx, now, "account.listed", account, serde_json::json!({})).await?;
            }
            Deed::OptedOut { .. } | Deed::Closed { .. } | Deed::Unchanged | Deed::Wrong(_) => {}
        }
    }
    add(tx, now, company, &new).await
}

async fn note(
    tx: &mut Tx,
    now: Time,
    kind: &'static str,
    account: AccountId,
    mut detail: serde_json::Value,
) -> Result<()> {
    if let Some(object) = detail.as_object_mut() {
        object.insert("account".to_owned(), serde_json::json!(account));
        object.insert("by".to_owned(), serde_json::json!("list"));
    }
    Event::new(kind).detail(detail).write(tx, now).await?;
    Ok(())
}

/// Makes these accounts, with few statements for all of them.
async fn add(tx: &mut Tx, now: Time, company: OrganisationId, new: &[(AccountId, Wanted)]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let boxes: Vec<_> = new
        .iter()
        .map(|(account, wanted)| NewBox {
            id: (*account).into(),
            kind: BoxKind::Person,
            organisation: company,
            address: &wanted.address,
            name: &wanted.name,
            function: &wanted.function,
            speciality: &wanted.speciality,
        })
        .collect();
    boxes::insert_all(tx, now, &boxes).await?;
    let (mut accounts, mut roles) = (Args::default(), Args::default());
    for (account, wanted) in new {
        accounts.push(account.0);
        accounts.push(wanted.number.as_str());
        roles.push(account.0);
        roles.push(company.0);
        roles.push(Role::Expert.as_str());
        roles.push(now);
    }
    let sql = const_sql(&["INSERT INTO accounts (id, expert_number) ", &tuples(2, new.len())]);
    tx.execute(sql, accounts).await?;
    let sql =
        const_sql(&["INSERT INTO roles (account, organisation, role, granted) ", &tuples(4, new.len())]);
    tx.execute(sql, roles).await?;
    for (account, _) in new {
        invitations::invite_new(tx, now, *account, Purpose::Join).await?;
        note(tx, now, "account.added", *account, serde_json::json!({})).await?;
    }
    Ok(())
}

async fn change(
    tx: &mut Tx,
    now: Time,
    account: AccountId,
    wanted: &Wanted,
    differences: &[Difference],
    (returned, joined): (bool, bool),
) -> Result<()> {
    // Holds the account's row: an opt-out at this very moment comes before, and then nothing is touched, or after.
    let sql = "UPDATE accounts SET delisted = NULL WHERE id = $1 AND opted_out IS NULL";
    if tx.execute(sql, args![account.0]).await? == 0 {
        return Ok(());
    }
    if !differences.is_empty() {
        let texts = Texts { name: &wanted.name, function: &wanted.function, speciality: &wanted.speciality };
        boxes::describe(tx, account.into(), None, texts).await?;
        let sql = "UPDATE boxes SET address = $2 WHERE id = $1";
        tx.execute(sql, args![account.0, wanted.address.as_str()]).await?;
        let fields: Vec<_> = differences.iter().map(|difference| difference.field).collect();
        note(tx, now, "account.changed", account, serde_json::json!({ "fields": fields })).await?;
    }
    if returned {
        let sql = "UPDATE boxes SET closed = NULL, version = version + 1 WHERE id = $1";
        tx.execute(sql, args![account.0]).await?;
        note(tx, now, "account.reopened", account, serde_json::json!({})).await?;
    }
    // Whoever has not come in yet is invited where they are now; an invitation to the old address opens nothing.
    let moved = differences.iter().any(|difference| difference.field == "courriel");
    if !joined && (returned || moved) {
        invitations::invite(tx, now, account, Purpose::Join).await?;
    }
    Ok(())
}

async fn leave(tx: &mut Tx, now: Time, account: AccountId) -> Result<()> {
    let sql = "UPDATE accounts SET delisted = $2 WHERE id = $1 AND delisted IS NULL RETURNING opted_out";
    let Some(row) = tx.optional(sql, args![account.0, now]).await? else { return Ok(()) };
    if row.get::<Option<Time>>("opted_out")?.is_some() {
        return note(tx, now, "account.delisted", account, serde_json::json!({})).await;
    }
    withdrawal::shut(tx, now, account).await?;
    note(tx, now, "account.closed", account, serde_json::json!({})).await
}

/// An expert who is not on the list.
struct Gone {
    account: AccountId,
    number: String,
    name: String,
    /// Whether it shows: the account is open.
    shows: bool,
}

/// The experts of the company whom the list does not name, some at a time.
struct Departures {
    company: OrganisationId,
    after: Uuid,
}

impl Departures {
    fn new(company: OrganisationId) -> Self {
        Self { company, after: Uuid::nil() }
    }

    /// The next who are gone, none of them perhaps; `None` at the end. Accounts that something else than the list
    /// has closed are left alone.
    async fn next(&mut self, hub: &Hub, seen: &Seen) -> Result<Option<Vec<Gone>>> {
        let rows = hub
            .db()
            .rows(
                "SELECT a.id, a.expert_number, b.name, b.closed FROM accounts a JOIN boxes b ON b.id = a.id
                 WHERE b.organisation = $1 AND a.expert_number IS NOT NULL AND a.delisted IS NULL
                 AND (b.closed IS NULL OR a.opted_out IS NOT NULL) AND a.id > $2 ORDER BY a.id LIMIT 200",
                args![self.company.0, self.after],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        self.after = last.get("id")?;
        let mut gone = Vec::new();
        for row in &rows {
            let number: String = row.get("expert_number")?;
            if !seen.named.contains(&digest(&number)) {
                let shows = row.get::<Option<Time>>("closed")?.is_none();
                gone.push(Gone { account: AccountId(row.get("id")?), number, name: row.get("name")?, shows });
            }
        }
        Ok(Some(gone))
    }
}
