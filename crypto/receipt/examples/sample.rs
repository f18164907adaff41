//! Writes a sealed sample receipt, with a development seal, to see what receipts look like:
//! `cargo run -p pli-receipt --example sample -- OUT.pdf [NUMBER OF DOCUMENTS]`. Everybody in it is fictitious.

use std::error::Error;

use pli_api::Time;
use pli_receipt::{Block, Document, Field, Receipt, Section};
use pli_signature::{Level, SealKey, Statement, development_seal, prepare};

/// 27 November 2026, 22:59:33 UTC.
const CREATED: Time = Time::from_micros(1_795_820_373_000_000);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().ok_or("usage: sample OUT.pdf [NUMBER OF DOCUMENTS]")?;
    let documents = arguments.next().map_or(Ok(4), |number| number.parse())?;

    let development = development_seal(CREATED, 30)?;
    let seal = SealKey::from_pem(&development.certificates, &development.key)?;
    let statement =
        Statement { name: "Pli – greffe de démonstration".into(), reason: "Reçu de dépôt".into() };
    let pdf = receipt(documents).render()?;
    std::fs::write(&out, prepare(&pdf, &seal, Level::BaselineB, &statement, CREATED)?.sign()?.finish()?)?;
    std::fs::write(format!("{out}.pem"), development.authority)?;
    Ok(())
}

/// A receipt of a deposit of some documents.
pub(crate) fn receipt(documents: usize) -> Receipt {
    let field = |label: &str, value: &str| Field { label: label.into(), value: value.into() };
    let names = [
        "D1 – Réquisition à expert.pdf",
        "Rapport d’expertise définitif – téléphonie.pdf",
        "Scellé n° 3 – image du disque dur de l’ordinateur portable, copie intégrale avec espaces non alloués (format brut).dd",
        "annexe_photographique_de_la_scène_avec_un_nom_vraiment_très_long_que_personne_ne_voudrait_lire_jusqu_au_bout_2026-11-27_version_finale_corrigée.zip",
    ];
    let document = |index: usize| Document {
        name: if index < names.len() { names[index].into() } else { format!("Cote D{}.pdf", index + 1) },
        size: 48_211 + (index as u64 % 7).pow(9) * 1_234_567,
        sha256: std::array::from_fn(|byte| (index * 37 + byte * 101 + 13) as u8),
    };
    Receipt {
        issuer: "Tribunal judiciaire de Démonstration-sur-Seine".into(),
        title: "Reçu de dépôt".into(),
        reference: "0193-7a41-6f5c-R".into(),
        sections: vec![
            Section {
                heading: "Le dépôt".into(),
                blocks: vec![Block::Fields(vec![
                    field("Déposant", "Camille Exemple, expert près la cour d’appel de Démonstration"),
                    field("Destinataires", "Cabinet d’instruction n° 2 (Dominique Modèle, juge d’instruction ; greffe du cabinet)"),
                    field("Procédure", "Parquet n° 26/000/123 – Instruction n° JI/26/45"),
                    field("Reçu le", "27 novembre 2026 à 23 h 59 min 33 s (heure de Paris)"),
                    field("Disponible jusqu’au", "27 décembre 2026"),
                    field("Événement", "A.1 – dépôt accepté (modelé sur ETSI EN 319 522)"),
                ])],
            },
            Section {
                heading: "Documents déposés".into(),
                blocks: vec![Block::Documents((0..documents).map(document).collect())],
            },
            Section {
                heading: "Preuve".into(),
                blocks: vec![
                    Block::Paragraph(
                        "L’événement est inscrit au journal des preuves. Sa feuille, le chemin qui la relie à la racine \
                         et le point de contrôle signé figurent dans le fichier joint recu.json ; la commande « pli receipt \
                         verify » les vérifie hors ligne."
                            .into(),
                    ),
                    Block::Verbatim(vec![
                        "pli.demonstration.example/journal".into(),
                        "128412".into(),
                        "kz9yq4bXrGOfCDAAeiSeNRzXmSd5rG0sZP6JXhQyXcE=".into(),
                    ]),
                    Block::Paragraph(
                        "Ce reçu atteste que la plateforme a reçu les octets dont les empreintes figurent ci-dessus. Il ne \
                         se prononce pas sur leur contenu."
                            .into(),
                    ),
                ],
            },
        ],
        json: br#"{"version":1,"event":"A.1","note":"sample"}"#.to_vec(),
        created: CREATED,
    }
}
