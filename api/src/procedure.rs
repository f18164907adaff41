//! Procedures (dossiers): references, members, pieces (pièces), exhibits (scellés).

use crate::{
    BoxId, BoxKind, Document, DocumentId, ExhibitId, InvalidTransition, OrganisationId, Person, PieceId,
    ProcedureId, Time,
};
use serde::{Deserialize, Deserializer, Serialize};

states! {
    /// Where a procedure stands.
    ProcedureState {
        /// It takes pieces, exhibits and messages.
        Open = "open",
        /// Its members read it and nothing is added.
        Closed = "closed",
    }
}

impl ProcedureState {
    /// It is closed.
    ///
    /// # Errors
    /// Unless it is open.
    pub const fn close(self) -> Result<Self, InvalidTransition> {
        match self {
            Self::Open => Ok(Self::Closed),
            other => Err(InvalidTransition { from: other.as_str() }),
        }
    }

    /// It is taken up again (réouverture: CPP 188 to 190 for new charges).
    ///
    /// # Errors
    /// Unless it is closed.
    pub const fn reopen(self) -> Result<Self, InvalidTransition> {
        match self {
            Self::Closed => Ok(Self::Open),
            other => Err(InvalidTransition { from: other.as_str() }),
        }
    }
}

words! {
    /// Whose identifier a reference is.
    ReferenceKind {
        /// Numéro parquet, given by Cassiopée.
        Parquet = "parquet",
        /// Numéro d'instruction.
        Instruction = "instruction",
        /// Identifiant judiciaire.
        Idj = "idj",
        /// Numéro du répertoire général.
        Rg = "rg",
        /// Any other: pourvoi, procès-verbal, reference of an administration.
        Other = "other",
    }
}

words! {
    /// What a member may do in a procedure.
    MemberRole {
        /// Everything: members, references, closing.
        Manager = "manager",
        /// Reads and adds.
        Contributor = "contributor",
        /// Reads.
        Reader = "reader",
        /// Adds, and sees nothing but what they added.
        Depositor = "depositor",
    }
}

/// An identifier that another system gave the procedure, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Whose.
    pub kind: ReferenceKind,
    /// As typed: never rewritten.
    pub value: String,
}

/// Something that looks wrong and was done all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The field it is about.
    pub field: String,
    /// One sentence.
    pub message: String,
}

/// What `POST /procedures` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProcedure {
    /// What its members call it.
    pub title: String,
    /// Its references elsewhere.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// What `PATCH /procedures/{id}` takes: what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcedureChange {
    /// Another title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// All its references from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<Vec<Reference>>,
}

/// A procedure, as the caller sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Procedure {
    /// Identifier.
    pub id: ProcedureId,
    /// The organisation in whose name it was opened.
    pub organisation: OrganisationId,
    /// Title.
    pub title: String,
    /// References elsewhere.
    pub references: Vec<Reference>,
    /// State.
    pub state: ProcedureState,
    /// Raised by each change; in quotes it is the `ETag`.
    pub version: u64,
    /// When it was opened.
    pub created: Time,
    /// By whom.
    pub opened_by: Person,
    /// Since when it is closed.
    pub closed: Option<Time>,
    /// The caller's role in it: the widest, when several of their boxes are members.
    pub role: MemberRole,
    /// Whether the caller may see restricted pieces (secret de l'instruction).
    pub restricted: bool,
    /// What looks wrong in it; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<Warning>>,
}

/// What `POST /procedures/{id}/members` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// The address of the box: a person or a service.
    pub address: String,
    /// What they may do.
    pub role: MemberRole,
    /// Whether they may see restricted pieces.
    #[serde(default)]
    pub restricted: bool,
    /// When it ends by itself.
    #[serde(default)]
    pub ends: Option<Time>,
}

/// What `PATCH /procedures/{id}/members/{box}` takes: what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberChange {
    /// Another role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<MemberRole>,
    /// Whether they may see restricted pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restricted: Option<bool>,
    /// Another end; `null` for none.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ends: Option<Option<Time>>,
}

/// Tells `null` from absence.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// A member of a procedure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The box.
    #[serde(rename = "box")]
    pub id: BoxId,
    /// A person or a service.
    pub kind: BoxKind,
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// The name of its organisation.
    pub organisation: String,
    /// What they may do.
    pub role: MemberRole,
    /// Whether they may see restricted pieces.
    pub restricted: bool,
    /// Since when.
    pub added: Time,
    /// By whom.
    pub added_by: Person,
    /// When it ends by itself.
    pub ends: Option<Time>,
    /// Raised by each change; in quotes it is the `ETag`.
    pub version: u64,
}

states! {
    /// Where a piece stands.
    PieceState {
        /// In the procedure, its document can be read.
        Filed = "filed",
        /// The retention that its sender chose has ended: the document can no longer be read. Under a legal
        /// hold it is kept and given to nobody.
        Expired = "expired",
        /// The keys of its document are deleted; its digest remains.
        Erased = "erased",
        /// Taken out of the procedure with a motive; nobody reads it there.
        Withdrawn = "withdrawn",
    }
}

impl PieceState {
    /// It is taken out.
    ///
    /// # Errors
    /// When it is out already.
    pub const fn withdraw(self) -> Result<Self, InvalidTransition> {
        match self {
            Self::Withdrawn => Err(InvalidTransition { from: self.as_str() }),
            _ => Ok(Self::Withdrawn),
        }
    }
}

/// What `POST /procedures/{id}/pieces` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPiece {
    /// A document of a deposit at the caller's disposal.
    pub document: DocumentId,
    /// Its cote (`D27`), unique in the procedure; given later when absent.
    #[serde(default)]
    pub cote: Option<String>,
    /// What it is.
    pub title: String,
    /// Only for members who may see restricted pieces.
    #[serde(default)]
    pub restricted: bool,
}

/// What `PATCH /procedures/{id}/pieces/{piece}` takes: what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PieceChange {
    /// Another cote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cote: Option<String>,
    /// Another title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Only for members who may see restricted pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restricted: Option<bool>,
}

/// Why something is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Motive {
    /// In one line.
    pub motive: String,
}

/// A document filed in a procedure. No copy is made of it: it lasts as long as the deposit it came by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Identifier.
    pub id: PieceId,
    /// Its procedure.
    pub procedure: ProcedureId,
    /// Cote.
    pub cote: Option<String>,
    /// What it is.
    pub title: String,
    /// Only for members who may see restricted pieces.
    pub restricted: bool,
    /// State.
    pub state: PieceState,
    /// When it was filed.
    pub filed: Time,
    /// By which box.
    pub filed_by: Person,
    /// When the retention of its document ends.
    pub expires: Option<Time>,
    /// When it was withdrawn.
    pub withdrawn: Option<Time>,
    /// By whom.
    pub withdrawn_by: Option<Person>,
    /// Why.
    pub motive: Option<String>,
    /// Raised by each change; in quotes it is the `ETag`.
    pub version: u64,
    /// The document; read at `/documents/{id}/content` while the state is `filed`.
    pub document: Document,
}

states! {
    /// Where an exhibit is.
    ExhibitState {
        /// Under seal, in the keeping of the registry.
        Placed = "placed",
        /// With an expert, who may open and seal it anew (CPP 163).
        AtExpert = "at_expert",
        /// Handed back to who has a right to it (restitution: CPP 41-4, 99).
        Returned = "returned",
        /// Destroyed (CPP 41-5, 99-2), or used up by an analysis.
        Destroyed = "destroyed",
    }
}

impl ExhibitState {
    /// It moves there. From the expert it goes back to the registry (CPP 166) or is used up; what was handed
    /// back or destroyed does not move again.
    ///
    /// # Errors
    /// When it cannot, from where it is.
    pub const fn to(self, next: Self) -> Result<Self, InvalidTransition> {
        match (self, next) {
            (Self::Placed, Self::AtExpert | Self::Returned | Self::Destroyed)
            | (Self::AtExpert, Self::Placed | Self::Destroyed) => Ok(next),
            _ => Err(InvalidTransition { from: self.as_str() }),
        }
    }
}

/// What `POST /procedures/{id}/exhibits` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewExhibit {
    /// Its number, unique in the procedure.
    pub number: String,
    /// What it is.
    pub label: String,
    /// Where it is kept.
    pub place: String,
    /// When it was placed under seal; now, when absent.
    #[serde(default)]
    pub at: Option<Time>,
}

/// What `PATCH /procedures/{id}/exhibits/{exhibit}` takes: what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExhibitChange {
    /// Another number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Another label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What `POST /procedures/{id}/exhibits/{exhibit}/movements` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMovement {
    /// What becomes of it.
    pub state: ExhibitState,
    /// Where it is from now on, or with whom.
    pub place: String,
    /// When it moved; now, when absent.
    #[serde(default)]
    pub at: Option<Time>,
    /// What is to be said of it.
    #[serde(default)]
    pub note: Option<String>,
}

/// A movement of an exhibit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Movement {
    /// What became of it.
    pub state: ExhibitState,
    /// Where it went.
    pub place: String,
    /// When it moved, as told.
    pub at: Time,
    /// When that was written down.
    pub told: Time,
    /// By whom.
    pub by: Person,
    /// What was said of it.
    pub note: Option<String>,
}

/// A sealed exhibit (scellé).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exhibit {
    /// Identifier.
    pub id: ExhibitId,
    /// Its procedure.
    pub procedure: ProcedureId,
    /// Its number, unique in the procedure.
    pub number: String,
    /// What it is.
    pub label: String,
    /// What has become of it.
    pub state: ExhibitState,
    /// Where it is.
    pub place: String,
    /// When it was entered.
    pub created: Time,
    /// By whom.
    pub created_by: Person,
    /// Raised by each change; in quotes it is the `ETag`.
    pub version: u64,
    /// Its movements, the first one first; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub movements: Option<Vec<Movement>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procedure_is_closed_once_and_reopened_once() {
        let closed = ProcedureState::Open.close().unwrap();
        assert_eq!(closed.close(), Err(InvalidTransition { from: "closed" }));
        assert_eq!(closed.reopen(), Ok(ProcedureState::Open));
        assert_eq!(ProcedureState::Open.reopen(), Err(InvalidTransition { from: "open" }));
    }

    #[test]
    fn a_piece_is_withdrawn_once_whatever_became_of_its_document() {
        for state in [PieceState::Filed, PieceState::Expired, PieceState::Erased] {
            assert_eq!(state.withdraw(), Ok(PieceState::Withdrawn));
        }
        assert!(PieceState::Withdrawn.withdraw().is_err());
    }

    #[test]
    fn an_exhibit_moves_as_the_law_lets_it() {
        use ExhibitState::{AtExpert, Destroyed, Placed, Returned};
        let all = [Placed, AtExpert, Returned, Destroyed];
        let mut allowed = Vec::new();
        for from in all {
            allowed.extend(all.into_iter().filter(|to| from.to(*to).is_ok()).map(|to| (from, to)));
        }
        let law = [
            (Placed, AtExpert),
            (Placed, Returned),
            (Placed, Destroyed),
            (AtExpert, Placed),
            (AtExpert, Destroyed),
        ];
        assert_eq!(allowed, law);
    }

    #[test]
    fn no_end_is_not_the_same_as_nothing_said_of_it() {
        let parse = |text: &str| serde_json::from_str::<MemberChange>(text).unwrap().ends;
        assert_eq!(parse("{}"), None);
        assert_eq!(parse(r#"{"ends":null}"#), Some(None));
        assert!(parse(r#"{"ends":"2026-01-01T00:00:00Z"}"#).unwrap().is_some());
        assert!(serde_json::from_str::<MemberChange>(r#"{"end":null}"#).is_err());
    }
}
