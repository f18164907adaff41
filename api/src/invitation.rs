//! How someone comes in for the first time, or comes back.

use serde::{Deserialize, Serialize};

/// What `POST /opt-in` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptIn {
    /// The address of the account that was left.
    pub address: String,
}

/// What `POST /invitations/accept` takes. Never logged: this type has no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptInvitation {
    /// The secret from the invitation's mail.
    pub secret: String,
    /// The password that the person chooses, 12 to 1,000 characters.
    pub password: String,
}

/// What an accepted invitation gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedInvitation {
    /// Whether the account is open now. It is not for someone who came back and has left the experts' list
    /// meanwhile: the list opens it again.
    pub open: bool,
}
