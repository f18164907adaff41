//! Notices: what a person is told of, by which channel, and when.

use crate::person::words;
use crate::{BoxId, DepositId, DocumentId, MessageId, NoticeId, ProcedureId, Time};
use serde::{Deserialize, Serialize};

words! {
    /// What a notice is about.
    NoticeKind {
        /// The box has a new message.
        MessageReceived = "message.received",
        /// A deposit is at the box's disposal.
        DepositAvailable = "deposit.available",
        /// A deposit that the box has not read ends soon.
        DepositExpiring = "deposit.expiring",
        /// A deposit of the box's has ended, and not everyone had read it.
        DepositUnread = "deposit.unread",
        /// A deposit of the box's was downloaded.
        DepositDownloaded = "deposit.downloaded",
        /// The box was made a member of a procedure.
        ProcedureJoined = "procedure.member_added",
        /// Something was filed in a procedure.
        PieceFiled = "piece.filed",
        /// Someone may act for the person, or the person for someone.
        DelegationGranted = "delegation.granted",
        /// A virus was found in a deposit.
        ScanInfected = "scan.infected",
        /// Mail to a recipient of the box's deposit is refused.
        NoticeBounced = "notice.bounced",
        /// A deposit or a procedure is held.
        HoldPlaced = "hold.placed",
        /// A hold was lifted.
        HoldLifted = "hold.lifted",
        /// An account was made for the person.
        AccountInvited = "account.invited",
    }
}

words! {
    /// How a notice reaches a person.
    Channel {
        /// By electronic mail, without content.
        Mail = "mail",
        /// In the list of notices of the portal.
        Portal = "portal",
    }
}

words! {
    /// When a notice goes.
    NoticeTiming {
        /// At once.
        AtOnce = "at_once",
        /// With the others of the day, in one mail.
        Daily = "daily",
        /// Not at all.
        None = "none",
    }
}

words! {
    /// Why a person gets a notice.
    NoticeReason {
        /// It is for them.
        Own = "own",
        /// It is for a service of which they are a member.
        Member = "member",
        /// They are the substitute of someone who is away.
        Substitute = "substitute",
    }
}

impl NoticeKind {
    /// The timings that a person may choose for a channel.
    #[must_use]
    pub const fn choices(self, channel: Channel) -> &'static [NoticeTiming] {
        use NoticeTiming::{AtOnce, Daily, None};
        match (channel, self) {
            // These carry a right or a delay: nobody can say that they did not want to know.
            (Channel::Mail, Self::AccountInvited | Self::ScanInfected) => &[AtOnce],
            (Channel::Mail, Self::DepositAvailable | Self::DepositExpiring | Self::DelegationGranted) => {
                &[AtOnce, Daily]
            }
            (Channel::Mail, _) => &[AtOnce, Daily, None],
            (
                Channel::Portal,
                Self::AccountInvited
                | Self::ScanInfected
                | Self::DepositAvailable
                | Self::DepositExpiring
                | Self::DelegationGranted,
            ) => &[AtOnce],
            (Channel::Portal, _) => &[AtOnce, None],
        }
    }

    /// What holds for who chose nothing.
    #[must_use]
    pub const fn usual(self, channel: Channel) -> NoticeTiming {
        match (channel, self) {
            (
                Channel::Mail,
                Self::DepositDownloaded | Self::PieceFiled | Self::HoldPlaced | Self::HoldLifted,
            ) => NoticeTiming::Daily,
            _ => NoticeTiming::AtOnce,
        }
    }
}

/// One choice of a person, in the list that `GET /notices/preferences` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoticePreference {
    /// What about.
    pub kind: NoticeKind,
    /// By which channel.
    pub channel: Channel,
    /// When.
    pub timing: NoticeTiming,
    /// What may be chosen.
    pub choices: Vec<NoticeTiming>,
}

/// One choice, in the list that `PUT /notices/preferences` takes; what it does not name stays.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPreference {
    /// What about.
    pub kind: NoticeKind,
    /// By which channel.
    pub channel: Channel,
    /// When.
    pub timing: NoticeTiming,
}

/// A notice in the portal's list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// Identifier.
    pub id: NoticeId,
    /// What about.
    pub kind: NoticeKind,
    /// The box it is for.
    #[serde(rename = "box")]
    pub which: BoxId,
    /// Why the caller gets it.
    pub reason: NoticeReason,
    /// The deposit it is about.
    pub deposit: Option<DepositId>,
    /// The document it is about.
    pub document: Option<DocumentId>,
    /// The procedure it is about.
    pub procedure: Option<ProcedureId>,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// When.
    pub created: Time,
}

/// A box whose address refuses mail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bounce {
    /// The box.
    #[serde(rename = "box")]
    pub which: BoxId,
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: Time,
    /// The last refusal.
    pub last: Time,
    /// The SMTP reply code (RFC 5321, 4.2); absent when the address is malformed or the server put Pli off
    /// for days.
    pub code: Option<u16>,
}

/// The OpenPGP certificate that mail to the caller is encrypted to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Fingerprint, in upper-case hexadecimal.
    pub fingerprint: String,
    /// Since when.
    pub added: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_may_be_chosen() {
        for kind in NoticeKind::ALL {
            for channel in Channel::ALL {
                assert!(kind.choices(*channel).contains(&kind.usual(*channel)), "{}", kind.as_str());
            }
            assert!(!kind.choices(Channel::Portal).contains(&NoticeTiming::Daily));
        }
    }
}
