//! What a manager sees and changes of their organisation: people with their roles, services.

use crate::{AccountId, OrganisationId, Role, ServiceId, Time};
use serde::{Deserialize, Serialize};

/// A person of an organisation, with what they are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Colleague {
    /// Identifier.
    pub account: AccountId,
    /// The electronic address.
    pub address: String,
    /// The name.
    pub name: String,
    /// What they do there; may be empty.
    pub function: String,
    /// From then on the account opens nothing.
    pub closed: Option<Time>,
    /// Their roles in the organisation.
    pub roles: Vec<Role>,
}

/// What `POST /services` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewService {
    /// The organisation; the caller's own when absent.
    #[serde(default)]
    pub organisation: Option<OrganisationId>,
    /// The electronic address of the shared box.
    pub address: String,
    /// Its name, 1 to 200 characters.
    pub name: String,
    /// What it does, at most 200 characters.
    #[serde(default)]
    pub function: String,
}

/// What `PATCH /services/{id}` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceChange {
    /// The version that was read: a change of another one's is not overwritten.
    pub version: i64,
    /// The new name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it does.
    #[serde(default)]
    pub function: Option<String>,
}

/// A service with a shared box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Identifier.
    pub id: ServiceId,
    /// Its organisation.
    pub organisation: OrganisationId,
    /// The electronic address of the shared box.
    pub address: String,
    /// Its name.
    pub name: String,
    /// What it does; may be empty.
    pub function: String,
    /// Raised by each change.
    pub version: i64,
    /// When it was made.
    pub created: Time,
    /// From then on nobody writes to it; its past stays.
    pub closed: Option<Time>,
    /// Who shares the box; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<ServiceMember>>,
}

/// Someone who shares a service's box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMember {
    /// Identifier.
    pub account: AccountId,
    /// The electronic address.
    pub address: String,
    /// The name.
    pub name: String,
    /// Since when.
    pub added: Time,
}
