//! What an operator sees of a site from beside the gateway: the rows of the database, the findings of
//! `pli check`, what waits unread in the sockets. Reads only.

use std::fmt::Display;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::gateway;
use crate::site::{Backend, Site};

/// What `pli check` said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Exit code.
    pub code: i32,
    /// Named objects that the store does not have.
    pub missing: Vec<String>,
    /// Named objects of another length.
    pub wrong_length: Vec<String>,
    /// Documents that do not open, or have another digest.
    pub damaged: Vec<String>,
    /// Objects that no row names.
    pub orphans: Vec<String>,
    /// Objects that no row names yet.
    pub recent: Vec<String>,
    /// How many objects a job is about to delete.
    pub leaving: u64,
    /// Organisations whose account of used bytes is wrong.
    pub quotas: Vec<String>,
    /// Lines of another kind, the last one left out.
    pub others: Vec<String>,
}

impl Findings {
    fn read(code: i32, said: &str) -> Self {
        let mut found = Self { code, ..Self::default() };
        for line in said.lines() {
            let (what, item) = line.split_once(" : ").unwrap_or((line, ""));
            match what {
                "objet absent du magasin" => found.missing.push(item.to_owned()),
                "objet d'une autre longueur" => found.wrong_length.push(item.to_owned()),
                "document endommagé" => found.damaged.push(item.to_owned()),
                "objet que rien ne nomme" => found.orphans.push(item.to_owned()),
                "objet récent que rien ne nomme encore" => found.recent.push(item.to_owned()),
                "organisation dont l'espace compté est faux" => found.quotas.push(item.to_owned()),
                "Rien à signaler." => {}
                _ if line.ends_with("objets nommés par la base de données.") => {}
                _ => match line.strip_suffix(" objets attendent leur suppression.").map(str::parse) {
                    Some(Ok(leaving)) => found.leaving = leaving,
                    _ => found.others.push(line.to_owned()),
                },
            }
        }
        found
    }

    /// Fails when anything is amiss. Objects that no row names yet are not: a writer that was killed left them,
    /// and they are removed once they are old; nor are those that a job is about to delete.
    ///
    /// # Errors
    /// Something is amiss.
    pub fn sound(self) -> Result<Self> {
        let expected = Self { recent: self.recent.clone(), leaving: self.leaving, ..Self::default() };
        ensure!(self == expected, "{self:?}");
        Ok(self)
    }
}

impl Site {
    /// The rows that a statement gives, each value as the database's own program prints it.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn rows(&self, statement: &str) -> Result<Vec<Vec<String>>> {
        let mut command = match self.backend() {
            Backend::Embedded => {
                let mut sqlite = Command::new("sqlite3");
                sqlite.args(["-batch", "-cmd", ".timeout 10000"]).arg(self.data().join("pli.db"));
                sqlite
            }
            Backend::Services => {
                let mut psql = Command::new("psql");
                psql.args(["-XAtq", "-d"]).arg(self.database_url()).arg("-c");
                psql
            }
        };
        command.arg(statement);
        let output = gateway::output(command).await.context("running the database's program")?;
        ensure!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
    }

    /// One number.
    ///
    /// # Errors
    /// The statement gives something else.
    pub async fn number(&self, statement: &str) -> Result<i64> {
        let rows = self.rows(statement).await?;
        let value = rows.first().and_then(|row| row.first()).context("no row")?;
        value.parse().with_context(|| value.clone())
    }

    /// An identifier as this database writes it in a statement.
    pub fn literal(&self, id: impl Display) -> String {
        match self.backend() {
            Backend::Embedded => format!("x'{}'", id.to_string().replace('-', "")),
            Backend::Services => format!("'{id}'"),
        }
    }

    /// The events of a kind about a document in the journal: the detail of each, oldest first.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn journal(&self, kind: &str, document: impl Display) -> Result<Vec<String>> {
        let document = self.literal(document);
        let sql =
            format!("SELECT detail FROM events WHERE kind = '{kind}' AND document = {document} ORDER BY id");
        Ok(self.rows(&sql).await?.into_iter().map(|row| row.join("|")).collect())
    }

    /// The objects of a document's segments, in the order of its content: key, start, length.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn segments(&self, document: impl Display) -> Result<Vec<(String, u64, u64)>> {
        let sql = format!(
            "SELECT s.object, p.start + s.start, s.length FROM segments s
             JOIN document_parts p ON p.upload = s.upload WHERE p.document = {} ORDER BY 2",
            self.literal(document)
        );
        let rows = self.rows(&sql).await?;
        rows.iter()
            .map(|row| {
                let [object, start, length] = row.as_slice() else { anyhow::bail!("{row:?}") };
                Ok((object.clone(), start.parse()?, length.parse()?))
            })
            .collect()
    }

    /// What `pli check` finds; `deep` opens every segment.
    ///
    /// # Errors
    /// It cannot be run, or ends with another code than 0 or 5.
    pub async fn findings(&self, deep: bool) -> Result<Findings> {
        let output = self.output(if deep { &["check", "--deep"] } else { &["check"] }).await?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let code = output.status.code().context("pli check was killed")?;
        ensure!(matches!(code, 0 | 5), "pli check ended with {code}\n{out}{err}");
        Ok(Findings::read(code, &out))
    }

    /// Bytes on their way to the gateway that it has not read: in its sockets, and in those of its clients
    /// on this machine.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn unread(&self) -> Result<u64> {
        let port = format!(":{:04X}", self.address().port());
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let mut sum = 0;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, _, queues, ..] = fields.as_slice() else { continue };
            let (sent, received) = queues.split_once(':').context("no queues")?;
            if remote.ends_with(&port) {
                sum += u64::from_str_radix(sent, 16)?;
            }
            if local.ends_with(&port) {
                sum += u64::from_str_radix(received, 16)?;
            }
        }
        Ok(sum)
    }
}
