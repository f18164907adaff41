//! Problems: RFC 9457 bodies with codes that never change their meaning.

use serde::{Deserialize, Serialize};

macro_rules! problems {
    ($($(#[$doc:meta])* $variant:ident, $code:literal, $status:literal, $title:literal;)*) => {
        /// Why a request was not done. The code is stable: clients may decide by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemCode { $($(#[$doc])* $variant,)* }

        impl ProblemCode {
            /// Every code, for the tests and the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// One sentence for the person at the other end.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problems! {
    /// Malformed request.
    BadRequest, "bad-request", 400, "La requête est mal formée.";
    /// A tus header or metadata value is missing or malformed.
    BadMetadata, "bad-metadata", 400, "Les métadonnées du dépôt sont absentes ou mal formées.";
    /// `Upload-Checksum` is malformed or names an algorithm that is not offered.
    BadChecksum, "bad-checksum", 400, "L'empreinte annoncée est mal formée ou son algorithme n'est pas proposé.";
    /// No or wrong credentials.
    SignInRequired, "sign-in-required", 401, "Authentification nécessaire.";
    /// Address or password wrong; never says which.
    SignInRefused, "sign-in-refused", 401, "Adresse ou mot de passe incorrect.";
    /// The caller is known and may not.
    Forbidden, "forbidden", 403, "Cette action n'est pas permise.";
    /// No delegation of this name lets the caller do this now.
    NotDelegated, "not-delegated", 403, "Aucune délégation en cours ne permet cette action.";
    /// The antivirus found something in the document.
    Infected, "infected", 403, "L'antivirus a trouvé une menace : ce document ne peut être ni transmis ni téléchargé.";
    /// The document was not analysed, and the caller's organisation does not take such documents.
    NotAnalysed, "not-analysed", 403, "Ce document n'a pas pu être analysé et votre organisation n'accepte que ce qui l'a été.";
    /// A request with a session cookie came from another origin.
    CrossOrigin, "cross-origin", 403, "Requête refusée : elle ne vient pas de ce site.";
    /// Absent, or not the caller's: the two are not told apart.
    NotFound, "not-found", 404, "Introuvable.";
    /// The route exists with another method.
    MethodNotAllowed, "method-not-allowed", 405, "Méthode non permise.";
    /// The request's body stood still for too long.
    TooSlow, "too-slow", 408, "L'envoi n'avance plus ; reprenez-le.";
    /// The state does not allow it.
    Conflict, "conflict", 409, "L'état actuel ne permet pas cette action.";
    /// `Upload-Offset` is not the durable offset.
    WrongOffset, "wrong-offset", 409, "La position annoncée n'est pas celle du serveur.";
    /// A newer request took over this upload.
    TakenOver, "taken-over", 409, "Un envoi plus récent a pris la suite de celui-ci.";
    /// Documents are still being received.
    DepositIncomplete, "deposit-incomplete", 409, "Des documents de ce dépôt ne sont pas entièrement reçus.";
    /// Nothing to send.
    DepositEmpty, "deposit-empty", 409, "Ce dépôt ne contient aucun document.";
    /// The deposit was sent and takes no change.
    DepositSent, "deposit-sent", 409, "Ce dépôt est déjà envoyé.";
    /// The message was sent and takes no change.
    MessageSent, "message-sent", 409, "Ce message est déjà envoyé.";
    /// The document is still being received or finished.
    NotReady, "not-ready", 409, "Ce document n'est pas encore disponible.";
    /// A partial upload was already concatenated.
    PartUsed, "part-used", 409, "Une de ces parties appartient déjà à un document.";
    /// The resource was there and has ended.
    Gone, "gone", 410, "Cette ressource n'existe plus.";
    /// `Tus-Resumable` is absent or of another version.
    TusVersion, "tus-version", 412, "Version du protocole tus non prise en charge.";
    /// An `If-Match` or `If-Unmodified-Since` did not hold.
    PreconditionFailed, "precondition-failed", 412, "La version demandée n'est plus celle du document.";
    /// Larger than the limit.
    TooLarge, "too-large", 413, "La taille dépasse la limite.";
    /// Over the organisation's quota.
    QuotaExceeded, "quota-exceeded", 413, "L'espace de l'organisation ne suffit pas.";
    /// The body's media type is not the one expected.
    MediaType, "media-type", 415, "Type de contenu inattendu.";
    /// The range cannot be satisfied.
    RangeNotSatisfiable, "range-not-satisfiable", 416, "L'intervalle demandé est hors du document.";
    /// Well-formed and not acceptable.
    Invalid, "invalid", 422, "Une valeur n'est pas acceptable.";
    /// A recipient has no account.
    UnknownRecipient, "unknown-recipient", 422, "Un destinataire n'a pas de compte.";
    /// The change is not tied to a version (RFC 6585, 3).
    PreconditionRequired, "precondition-required", 428, "Indiquez la version que vous modifiez (If-Match).";
    /// Too many unfinished uploads, sign-in attempts or requests.
    TooMany, "too-many", 429, "Trop de demandes ; réessayez plus tard.";
    /// The request's header is too large.
    HeadersTooLarge, "headers-too-large", 431, "L'en-tête de la requête est trop grand.";
    /// The bytes do not have the announced checksum (tus 1.0.0, checksum).
    ChecksumMismatch, "checksum-mismatch", 460, "L'empreinte des octets reçus n'est pas celle annoncée.";
    /// A fault of ours.
    Internal, "internal", 500, "Erreur interne.";
    /// Stored bytes do not open as they were sealed.
    Damaged, "damaged", 500, "Une partie de ce document est endommagée et n'a pas été transmise.";
    /// Database or store out of reach; try again.
    Unavailable, "unavailable", 503, "Service momentanément indisponible.";
    /// The server is stopping; resume.
    Stopping, "stopping", 503, "Le service redémarre ; reprenez l'envoi.";
    /// The store has no room.
    StorageFull, "storage-full", 507, "L'espace de stockage est plein.";
}

/// The body of an answer that is not a success (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:pli:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What more can be said without harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The request's identifier, to quote to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Problem {
    /// The problem of this code.
    #[must_use]
    pub fn new(code: ProblemCode, detail: Option<String>) -> Self {
        Self {
            kind: format!("urn:pli:problem:{}", code.code()),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.code().to_owned(),
            detail,
            request: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: BTreeSet<_> = ProblemCode::ALL.iter().map(|c| c.code()).collect();
        assert_eq!(codes.len(), ProblemCode::ALL.len());
        assert!(ProblemCode::ALL.iter().all(|c| (400..600).contains(&c.status())));
    }
}
