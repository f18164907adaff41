//! Who: organisations, accounts, tokens.

use crate::{AccountId, Delegation, OrganisationId, ServiceId, Time, TokenId};
use serde::{Deserialize, Serialize};

/// The kinds of organisation that Pli serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrganisationKind {
    /// A court.
    Court,
    /// An office of a court: cabinet d'instruction, parquet, greffe.
    Office,
    /// A company of judicial experts.
    Company,
    /// An administration.
    Administration,
}

impl OrganisationKind {
    /// The word kept in the database and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Court => "court",
            Self::Office => "office",
            Self::Company => "company",
            Self::Administration => "administration",
        }
    }
}

impl std::str::FromStr for OrganisationKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Court, Self::Office, Self::Company, Self::Administration]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| "one of court, office, company, administration".to_owned())
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word kept in the database and sent on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err([$($word,)*].join(", ")),
                }
            }
        }
    };
}

pub(crate) use words;

words! {
    /// What a person is in an organisation. What each may do stands in one table of the hub.
    Role {
        /// Magistrat.
        Magistrate = "magistrate",
        /// Greffier.
        Registrar = "registrar",
        /// Agent of an office or an administration.
        Agent = "agent",
        /// Judicial expert.
        Expert = "expert",
        /// Administers the organisation: people, services, roles.
        Manager = "manager",
        /// Reads the evidence of the organisation and nothing else.
        Auditor = "auditor",
    }
}

words! {
    /// What can be written to.
    BoxKind {
        /// A person.
        Person = "person",
        /// A service, whose members share its box.
        Service = "service",
    }
}

/// What `POST /session` takes.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The account's address.
    pub address: String,
    /// Its password. Never logged: this type has no `Debug`.
    pub password: String,
}

/// A person as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The electronic address, which names the account.
    pub address: String,
    /// The name to show.
    pub name: String,
}

/// A person as they see themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Identifier.
    pub id: AccountId,
    /// The electronic address, which names the account.
    pub address: String,
    /// The name to show.
    pub name: String,
    /// The name of the organisation.
    pub organisation: String,
}

/// What the caller may send, told before anything is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// The largest document, in bytes.
    pub max_size: u64,
    /// What the organisation may keep at one time, in bytes.
    pub quota: u64,
    /// What it keeps now, unfinished uploads included, in bytes.
    pub used: u64,
    /// The shortest retention, in days.
    pub retention_days_min: u32,
    /// The longest retention, in days.
    pub retention_days_max: u32,
    /// The most unfinished uploads an account may have.
    pub pending_uploads: u32,
}

/// What `GET /me` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Me {
    /// Who the caller is.
    pub account: Account,
    /// What the caller may send.
    pub limits: Limits,
    /// What the caller is, and where.
    #[serde(default)]
    pub roles: Vec<HeldRole>,
    /// The open services whose box the caller shares.
    #[serde(default)]
    pub services: Vec<SharedBox>,
    /// The delegations that the caller can use now.
    #[serde(default)]
    pub delegations: Vec<Delegation>,
}

/// A role of the caller's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRole {
    /// Where.
    pub organisation: OrganisationId,
    /// The organisation's name.
    pub name: String,
    /// What.
    pub role: Role,
}

/// A service whose box the caller shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedBox {
    /// Identifier.
    pub id: ServiceId,
    /// Its electronic address.
    pub address: String,
    /// Its name.
    pub name: String,
}

/// What `POST /tokens` takes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// A name by which its owner knows it again.
    pub name: String,
    /// Life in days, 1 to 366.
    pub days: u32,
}

/// A token just made: the only time its secret is told.
#[derive(Serialize, Deserialize)]
pub struct IssuedToken {
    /// Identifier, to revoke it.
    pub id: TokenId,
    /// The secret, shown once.
    pub token: String,
    /// When it ends.
    pub expires: Time,
}

/// A token as its owner sees it afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Identifier, to revoke it.
    pub id: TokenId,
    /// The owner's name for it.
    pub name: String,
    /// When it was made.
    pub created: Time,
    /// When it ends.
    pub expires: Time,
}
