//! What each role may do, as one table: the filters of the handlers and the tests read it.
//!
//! Owns the table `roles` and [`TABLE`]. Must never give a right that the table does not name.

use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use pli_api::{AccountId, HeldRole, OrganisationId, ProblemCode, Role, Time};
use pli_storage::{DbError, Row, Tx, args};

/// Something that not everyone may do in an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Open a procedure in the organisation's name.
    OpenProcedure,
    /// Write messages and deposits in the organisation's name.
    Write,
    /// Administer people, services and roles of the organisation.
    Manage,
    /// Place and lift legal holds on what the organisation sent.
    Hold,
    /// Read the journal and the statistics of the organisation.
    ReadEvidence,
}

/// Who may what. A role that is not named here may nothing beyond reading what is addressed to it.
pub const TABLE: &[(Role, &[Permission])] = &[
    (
        Role::Magistrate,
        &[Permission::OpenProcedure, Permission::Write, Permission::Hold, Permission::ReadEvidence],
    ),
    (Role::Registrar, &[Permission::OpenProcedure, Permission::Write, Permission::Hold]),
    (Role::Agent, &[Permission::Write]),
    (Role::Expert, &[Permission::Write]),
    (Role::Manager, &[Permission::Manage, Permission::ReadEvidence]),
    (Role::Auditor, &[Permission::ReadEvidence]),
];

/// Whether a role has a permission.
#[must_use]
pub fn allows(role: Role, permission: Permission) -> bool {
    TABLE.iter().any(|(named, permissions)| *named == role && permissions.contains(&permission))
}

/// The roles of an account in an organisation.
pub(crate) async fn of(tx: &mut Tx, account: AccountId, organisation: OrganisationId) -> Result<Vec<Role>> {
    let sql = "SELECT role FROM roles WHERE account = $1 AND organisation = $2 ORDER BY role";
    let rows = tx.rows(sql, args![account.0, organisation.0]).await?;
    rows.iter().map(|row| row.get::<String>("role")?.parse().map_err(Fault::internal)).collect()
}

/// Refuses unless the caller has the permission in this organisation.
///
/// # Errors
/// 403.
pub(crate) async fn require(
    tx: &mut Tx,
    caller: &Caller,
    organisation: OrganisationId,
    permission: Permission,
) -> Result<()> {
    let roles = of(tx, caller.account, organisation).await?;
    if roles.into_iter().any(|role| allows(role, permission)) {
        Ok(())
    } else {
        Err(ProblemCode::Forbidden.into())
    }
}

/// The roles that have a permission, as a list for SQL.
pub(crate) fn words_with(permission: Permission) -> String {
    let words: Vec<_> = Role::ALL
        .iter()
        .filter(|role| allows(**role, permission))
        .map(|r| format!("'{}'", r.as_str()))
        .collect();
    words.join(", ")
}

/// Every role of an account, in every organisation.
pub(crate) async fn held(tx: &mut Tx, account: AccountId) -> Result<Vec<HeldRole>> {
    let sql =
        "SELECT r.organisation, o.name, r.role FROM roles r JOIN organisations o ON o.id = r.organisation
               WHERE r.account = $1 ORDER BY o.name, o.id, r.role";
    let rows = tx.rows(sql, args![account.0]).await?;
    let role = |row: &Row| -> Result<HeldRole> {
        Ok(HeldRole {
            organisation: OrganisationId(row.get("organisation")?),
            name: row.get("name")?,
            role: row.get::<String>("role")?.parse().map_err(Fault::internal)?,
        })
    };
    rows.iter().map(role).collect()
}

/// Takes a role away; gives whether the account had it. Not the last open manager's: an organisation would be
/// left to the operator. Its managers are counted one request after the other, or two would dismiss each other.
///
/// # Errors
/// 409 for the last manager.
pub(crate) async fn revoke(
    tx: &mut Tx,
    account: AccountId,
    organisation: OrganisationId,
    role: Role,
) -> Result<bool> {
    if role == Role::Manager {
        tx.lock(&format!("managers of {organisation}")).await?;
        let others = tx
            .one(
                "SELECT COUNT(*) AS n FROM roles r JOIN boxes b ON b.id = r.account
                 WHERE r.organisation = $1 AND r.role = $2 AND r.account <> $3 AND b.closed IS NULL",
                args![organisation.0, role.as_str(), account.0],
            )
            .await?;
        if others.get::<i64>("n")? == 0 {
            return Err(Fault::because(
                ProblemCode::Conflict,
                "Une organisation garde au moins un gestionnaire : nommez-en d'abord un autre.",
            ));
        }
    }
    let sql = "DELETE FROM roles WHERE account = $1 AND organisation = $2 AND role = $3";
    Ok(tx.execute(sql, args![account.0, organisation.0, role.as_str()]).await? > 0)
}

/// That a role was given or taken, for the journal.
pub(crate) fn event(
    kind: &'static str,
    account: AccountId,
    organisation: OrganisationId,
    role: Role,
) -> Event {
    Event::new(kind)
        .detail(serde_json::json!({ "account": account, "organisation": organisation, "role": role }))
}

/// Gives a role; without effect when the account has it, and then gives `false`.
pub(crate) async fn grant(
    tx: &mut Tx,
    now: Time,
    account: AccountId,
    organisation: OrganisationId,
    role: Role,
) -> Result<bool, DbError> {
    let granted = tx
        .execute(
            "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, organisation, role) DO NOTHING",
            args![account.0, organisation.0, role.as_str(), now],
        )
        .await?;
    Ok(granted > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_stands_once_in_the_table() {
        for role in Role::ALL {
            assert_eq!(TABLE.iter().filter(|(named, _)| named == role).count(), 1, "{}", role.as_str());
        }
    }

    #[test]
    fn the_list_for_sql_is_the_table() {
        assert_eq!(words_with(Permission::Manage), "'manager'");
        assert_eq!(words_with(Permission::OpenProcedure), "'magistrate', 'registrar'");
    }
}
