//! The directory: who can be written to.

use crate::{BoxId, BoxKind, OrganisationId, OrganisationKind, Person, Time};
use serde::{Deserialize, Serialize};

/// A box as the directory shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Identifier.
    pub id: BoxId,
    /// A person or a service.
    pub kind: BoxKind,
    /// The electronic address, to which to write.
    pub address: String,
    /// The name.
    pub name: String,
    /// What they do there; may be empty.
    pub function: String,
    /// Headings of the experts' nomenclature; empty for others.
    pub speciality: String,
    /// The organisation.
    pub organisation: OrganisationId,
    /// Its name.
    pub organisation_name: String,
    /// Its kind.
    pub organisation_kind: OrganisationKind,
    /// The court that an office belongs to.
    pub court: Option<String>,
    /// Set while they are away.
    pub absence: Option<Absence>,
}

/// Someone is away, and who acts for them meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Until when.
    pub until: Time,
    /// Who acts for them.
    pub substitute: Person,
}
