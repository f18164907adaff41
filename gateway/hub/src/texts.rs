//! What a notice says, in French: the one catalogue of the texts that Pli mails.
//!
//! A match and no template files: a kind without its text, or a text without its place, does not compile,
//! nothing is parsed while the program runs, and there is nothing to escape but what [`Part`] names. Must never
//! take a subject, a file name or the name of a case: there is no parameter for them. The one secret is that of an
//! invitation, which its mail exists to carry.

use pli_api::{NoticeKind, NoticeReason, Time};

/// The words of a kind of notice.
pub(crate) struct Text {
    /// The mail's subject.
    pub(crate) subject: &'static str,
    /// What happened.
    pub(crate) sentence: &'static str,
    /// Its line in a digest, after « 1 » and after a greater number.
    one: &'static str,
    many: &'static str,
}

/// The subject of a digest, and of mail that is encrypted.
pub(crate) const DIGEST_SUBJECT: &str = "Pli : vos avis du jour";
pub(crate) const SEALED_SUBJECT: &str = "Pli : un avis vous attend";

pub(crate) const fn of(kind: NoticeKind) -> Text {
    let (subject, sentence, one, many) = match kind {
        NoticeKind::MessageReceived => (
            "Pli : nouveau message",
            "Un nouveau message est arrivé.",
            "nouveau message",
            "nouveaux messages",
        ),
        NoticeKind::DepositAvailable => (
            "Pli : avis de mise à disposition",
            "Un dépôt de documents est mis à disposition. Il peut être téléchargé jusqu'à sa date d'expiration.",
            "dépôt mis à disposition",
            "dépôts mis à disposition",
        ),
        NoticeKind::DepositExpiring => (
            "Pli : un dépôt expire bientôt",
            "Un dépôt de documents qui n'a pas encore été téléchargé expire bientôt. Passé cette date, il ne pourra plus être lu.",
            "dépôt non téléchargé qui expire bientôt",
            "dépôts non téléchargés qui expirent bientôt",
        ),
        NoticeKind::DepositUnread => (
            "Pli : dépôt expiré sans avoir été lu par tous",
            "Un dépôt a expiré, et tous ses destinataires ne l'ont pas téléchargé. La liste est dans le suivi du dépôt.",
            "dépôt expiré sans avoir été lu par tous",
            "dépôts expirés sans avoir été lus par tous",
        ),
        NoticeKind::DepositDownloaded => (
            "Pli : dépôt téléchargé",
            "Un dépôt a été téléchargé par un destinataire.",
            "dépôt téléchargé",
            "dépôts téléchargés",
        ),
        NoticeKind::ProcedureJoined => (
            "Pli : accès à une procédure",
            "L'accès à une procédure a été ouvert.",
            "accès ouvert à une procédure",
            "accès ouverts à des procédures",
        ),
        NoticeKind::PieceFiled => (
            "Pli : pièce versée",
            "Une pièce a été versée dans une procédure.",
            "pièce versée",
            "pièces versées",
        ),
        NoticeKind::DelegationGranted => (
            "Pli : délégation",
            "Une délégation a été accordée.",
            "délégation accordée",
            "délégations accordées",
        ),
        NoticeKind::ScanInfected => (
            "Pli : fichier refusé par l'antivirus",
            "Un virus a été trouvé dans un document d'un dépôt. Ce document ne peut pas être téléchargé.",
            "document refusé par l'antivirus",
            "documents refusés par l'antivirus",
        ),
        NoticeKind::NoticeBounced => (
            "Pli : adresse en échec",
            "L'adresse électronique d'un destinataire refuse les avis de Pli. Le dépôt reste à sa disposition, mais il faut le prévenir autrement.",
            "destinataire dont l'adresse refuse les avis",
            "destinataires dont l'adresse refuse les avis",
        ),
        NoticeKind::HoldPlaced => (
            "Pli : suppression suspendue",
            "La suppression d'un dépôt ou d'une procédure est suspendue.",
            "suppression suspendue",
            "suppressions suspendues",
        ),
        NoticeKind::HoldLifted => (
            "Pli : fin de la suspension",
            "La suppression d'un dépôt ou d'une procédure n'est plus suspendue.",
            "suspension levée",
            "suspensions levées",
        ),
        NoticeKind::AccountInvited => (
            "Pli : votre compte",
            "Un compte a été ouvert à votre nom sur Pli, avec cette adresse électronique.",
            "compte ouvert",
            "comptes ouverts",
        ),
    };
    Text { subject, sentence, one, many }
}

/// Why who reads this gets it; nothing to say when it is their own.
pub(crate) const fn reason(reason: NoticeReason) -> Option<&'static str> {
    match reason {
        NoticeReason::Own => None,
        NoticeReason::Member => Some("Cet avis concerne la boîte d'un service dont vous êtes membre."),
        NoticeReason::Substitute => Some("Vous recevez cet avis en remplacement d'une personne absente."),
    }
}

/// A piece of a mail, written as text and as HTML from the same words.
pub(crate) enum Part {
    /// A paragraph.
    Paragraph(String),
    /// A list.
    Items(Vec<String>),
    /// A button in HTML, an address in text.
    Link { label: &'static str, url: String },
    /// A paragraph that matters less.
    Small(&'static str),
}

/// The mail of one notice.
pub(crate) fn single(kind: NoticeKind, why: NoticeReason, url: &str) -> Vec<Part> {
    let mut parts = vec![Part::Paragraph(of(kind).sentence.to_owned())];
    parts.extend(reason(why).map(|why| Part::Paragraph(why.to_owned())));
    closing(parts, url)
}

/// The mail of a day's notices: how many of each kind.
pub(crate) fn digest(counts: &[(NoticeKind, usize)], url: &str) -> Vec<Part> {
    let line = |(kind, count): &(NoticeKind, usize)| {
        let text = of(*kind);
        format!("{count} {}", if *count == 1 { text.one } else { text.many })
    };
    let parts = vec![
        Part::Paragraph("Depuis le dernier récapitulatif :".to_owned()),
        Part::Items(counts.iter().map(line).collect()),
    ];
    closing(parts, url)
}

/// The subject of an invitation.
pub(crate) const INVITATION_SUBJECT: &str = "Pli : votre invitation";

/// The mail of an invitation: the secret stands behind `#`, which browsers send to no server, and nothing happens
/// before a password is chosen there. `back`: for someone who had left.
pub(crate) fn invitation(back: bool, expires: Time, url: &str, secret: &str) -> Vec<Part> {
    let said = if back {
        "Vous avez demandé à utiliser de nouveau votre compte. Choisissez un mot de passe pour le rouvrir."
    } else {
        "Un compte vous est ouvert sur Pli, la passerelle d'échanges de documents. Choisissez un mot de passe pour y entrer."
    };
    let text = expires.to_string();
    let mut day: Vec<&str> = text.split('T').next().unwrap_or_default().split('-').collect();
    day.reverse();
    let until = day.join("/");
    vec![
        Part::Paragraph(said.to_owned()),
        Part::Link { label: "Choisir un mot de passe", url: format!("{url}/invitation#{secret}") },
        Part::Paragraph(format!("Ce lien ne sert qu'une fois, jusqu'au {until}.")),
        Part::Small(
            "Si vous n'attendez rien de tel, ne faites rien : sans vous, ce lien n'ouvre aucun compte.",
        ),
    ]
}

fn closing(mut parts: Vec<Part>, url: &str) -> Vec<Part> {
    parts.push(Part::Link { label: "Ouvrir Pli", url: url.to_owned() });
    parts.push(Part::Small(
        "Par sécurité, ce message ne dit ni de quelle affaire ni de quels documents il s'agit, et son lien n'ouvre pas de session : \
         connectez-vous comme d'habitude. Pli ne demande jamais de mot de passe par courriel.",
    ));
    parts.push(Part::Small(
        "Message automatique, merci de ne pas y répondre. Vos préférences d'avis se règlent dans Pli.",
    ));
    parts
}

/// The parts as plain text.
pub(crate) fn plain(parts: &[Part]) -> String {
    let mut out = String::from("Bonjour,\n");
    for part in parts {
        out.push('\n');
        match part {
            Part::Paragraph(text) => out.push_str(text),
            Part::Small(text) => out.push_str(text),
            Part::Link { label, url } => out.push_str(&format!("{label} : {url}")),
            Part::Items(items) => {
                out.push_str(&items.iter().map(|i| format!("- {i}")).collect::<Vec<_>>().join("\n"));
            }
        }
        out.push('\n');
    }
    out
}

/// The parts as a page without images, scripts, or anything fetched from elsewhere.
pub(crate) fn html(parts: &[Part]) -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang=\"fr\"><head><meta charset=\"utf-8\"><title>Pli</title></head>\n\
         <body style=\"font-family:Arial,sans-serif;font-size:16px;line-height:1.5;color:#161616;max-width:36em\">\n\
         <p>Bonjour,</p>\n",
    );
    for part in parts {
        match part {
            Part::Paragraph(text) => out.push_str(&format!("<p>{}</p>\n", escaped(text))),
            Part::Small(text) => {
                out.push_str(&format!("<p style=\"font-size:14px;color:#555\">{}</p>\n", escaped(text)));
            }
            Part::Link { label, url } => out.push_str(&format!(
                "<p><a href=\"{0}\">{1}</a><br><span style=\"font-size:14px\">{0}</span></p>\n",
                escaped(url),
                escaped(label)
            )),
            Part::Items(items) => {
                out.push_str("<ul>\n");
                for item in items {
                    out.push_str(&format!("<li>{}</li>\n", escaped(item)));
                }
                out.push_str("</ul>\n");
            }
        }
    }
    out.push_str("</body></html>\n");
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        for kind in NoticeKind::ALL {
            let parts = single(*kind, NoticeReason::Substitute, "https://pli.example/?a=1&b=<x>");
            let (text, page) = (plain(&parts), html(&parts));
            assert!(text.contains(of(*kind).sentence) && text.contains("https://pli.example/?a=1&b=<x>"));
            assert!(page.contains(&escaped(of(*kind).sentence)));
            assert!(
                page.contains("href=\"https://pli.example/?a=1&amp;b=&lt;x&gt;\"") && !page.contains("<x>")
            );
            assert!(text.contains("en remplacement"));
            assert!(of(*kind).subject.starts_with("Pli : ") && of(*kind).subject.chars().count() < 60);
        }
    }

    #[test]
    fn a_digest_counts() {
        let parts = digest(
            &[(NoticeKind::PieceFiled, 1), (NoticeKind::DepositDownloaded, 12)],
            "https://pli.example",
        );
        let text = plain(&parts);
        assert!(text.contains("- 1 pièce versée\n- 12 dépôts téléchargés\n"), "{text}");
    }
}
