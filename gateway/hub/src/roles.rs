//! What each role may do, as one table: the filters of the handlers and the tests read it.
//!
//! Owns the table `roles` and [`TABLE`]. Must never give a right that the table does not name.

use crate::access::Caller;
use crate::fault::{Fault, Result};
use pli_api::{AccountId, OrganisationId, ProblemCode, Role, Time};
use pli_storage::{DbError, Tx, args};

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

/// Gives a role; without effect when the account has it.
pub(crate) async fn grant(
    tx: &mut Tx,
    now: Time,
    account: AccountId,
    organisation: OrganisationId,
    role: Role,
) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, organisation, role) DO NOTHING",
        args![account.0, organisation.0, role.as_str(), now],
    )
    .await?;
    Ok(())
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
}
