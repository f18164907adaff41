//! `generate-procedure`: writes a criminal procedure of several hundred PDF files in French, with people who
//! plainly do not exist, a part that looks scanned, and one large binary file. The demonstration and the
//! tests send it through Pli. The same arguments give the same bytes. Knows nothing of Pli itself.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod acts;
mod case;
mod paper;
mod random;
mod scan;
mod seized;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::acts::{Kind, Piece};
use crate::case::Case;
use crate::random::Random;

/// Writes a fictitious criminal procedure: PDF files in folders and one large binary file.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The whole procedure, in a folder that does not exist yet or is empty.
    Folder {
        folder: PathBuf,
        #[arg(long, default_value_t = 2026)]
        seed: u64,
        /// How many PDF files.
        #[arg(long, default_value_t = 320)]
        pdf: usize,
        /// How many in a hundred look scanned.
        #[arg(long, default_value_t = 18)]
        scanned: u64,
        /// The size of the large binary file, in bytes or with K, M, G; 0 for none.
        #[arg(long, default_value = "2463219137", value_parser = size)]
        large: u64,
        /// A text placed in pages and in the large file, to be looked for where it must not be.
        #[arg(long, default_value = "")]
        canary: String,
    },
    /// Only the bytes of the large file, to the standard output: an input that needs no disk.
    Stream {
        #[arg(long, default_value_t = 2026)]
        seed: u64,
        #[arg(long, value_parser = size)]
        size: u64,
        #[arg(long, default_value = "")]
        canary: String,
    },
}

fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text} is not a size"))?;
    number.checked_mul(unit).ok_or_else(|| format!("{text} is too large"))
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Stream { seed, size, canary } => seized::write(&mut io::stdout().lock(), size, seed, &canary)
            .context("writing to the standard output"),
        What::Folder { folder, seed, pdf, scanned, large, canary } => {
            ensure!(
                canary.len() <= 64 && !canary.contains(char::is_control),
                "the canary does not fit in a line"
            );
            if folder.exists() && fs::read_dir(&folder)?.next().is_some() {
                bail!("{} is not empty", folder.display());
            }
            let told = procedure(&folder, seed, pdf, scanned, large, &canary)?;
            let mut out = io::stdout().lock();
            writeln!(
                out,
                "Procédure fictive : {} fichiers PDF ({} pages, dont {} numérisées), {:.1} Mo de PDF, un scellé numérique de {:.2} Gio.",
                told.files,
                told.pages,
                told.scanned_pages,
                told.bytes as f64 / 1e6,
                large as f64 / f64::from(1 << 30)
            )?;
            Ok(())
        }
    }
}

#[derive(Default)]
struct Told {
    files: usize,
    pages: usize,
    scanned_pages: usize,
    bytes: usize,
}

fn procedure(root: &Path, seed: u64, pdf: usize, scanned: u64, large: u64, canary: &str) -> Result<Told> {
    let case = Case::new(seed);
    let pieces = plan(&case, seed, pdf, scanned);
    for folder in pieces.iter().map(|piece| &piece.folder).collect::<BTreeSet<_>>() {
        fs::create_dir_all(root.join(folder))?;
    }
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let mut told = Told::default();
    thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| write_pieces(root, &case, &pieces, &next, seed, canary)))
            .collect();
        for worker in running {
            let Ok(done) = worker.join() else { bail!("a writer stopped") };
            let done = done?;
            told.files += done.files;
            told.pages += done.pages;
            told.scanned_pages += done.scanned_pages;
            told.bytes += done.bytes;
        }
        Ok(())
    })?;
    if large > 0 {
        let folder = root.join("E – Scellés numériques");
        fs::create_dir_all(&folder)?;
        let path = folder
            .join(format!("Scellé n° 7 – copie intégrale du téléphone de {}.bin", case.suspects[0].short()));
        let file = fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        seized::write(&mut BufWriter::with_capacity(1 << 20, file), large, seed, canary)?;
    }
    Ok(told)
}

/// Takes pieces one after another until none is left, beside the other workers.
fn write_pieces(
    root: &Path,
    case: &Case,
    pieces: &[Piece],
    next: &AtomicUsize,
    seed: u64,
    canary: &str,
) -> Result<Told> {
    let mut told = Told::default();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(piece) = pieces.get(index) else { return Ok(told) };
        let mut random = Random::new(seed).part(1000 + index as u64);
        let packed = random.percent(60);
        let (sheets, marks) = acts::write(case, piece, random, canary);
        let bytes = paper::bind(&sheets, &marks, packed);
        let path = root.join(&piece.folder).join(file_name(case, piece));
        fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
        told.files += 1;
        told.pages += sheets.len();
        told.scanned_pages += if piece.kind == Kind::Scanned { sheets.len() } else { 0 };
        told.bytes += bytes.len();
    }
}

/// « D12 – Procès-verbal d'audition de témoin – Mme FICTIVE-LHÔPITAL.pdf ». A name is kept in the database, where
/// it is looked for: it never carries the canary.
fn file_name(case: &Case, piece: &Piece) -> String {
    format!("{} – {}.pdf", piece.cote, piece.kind.title(case, piece.who))
}

/// The pieces in the order of the file: A forme, B personnalité, C contrôle judiciaire, D fond.
fn plan(case: &Case, seed: u64, pdf: usize, scanned: u64) -> Vec<Piece> {
    let mut random = Random::new(seed).part(2);
    let (forms, person, custody) = (pdf / 16, pdf / 12, pdf / 30);
    let substance = [
        (Kind::Findings, 8),
        (Kind::Witness, 20),
        (Kind::Victim, 12),
        (Kind::Custody, 10),
        (Kind::Search, 7),
        (Kind::Telephone, 7),
        (Kind::Bank, 6),
        (Kind::Requisition, 10),
        (Kind::Confrontation, 5),
        (Kind::FirstAppearance, 3),
        (Kind::ExpertReport, 3),
        (Kind::Letter, 9),
    ];
    let mut date = case.start;
    let mut pieces = Vec::with_capacity(pdf);
    for index in 0..pdf {
        let (letter, number, folder, kind) = if index < forms {
            let kind = match index {
                0 => Kind::Referral,
                1 => Kind::ExpertOrder,
                _ => random.choose(&[Kind::Letter, Kind::Requisition, Kind::ExpertOrder]),
            };
            ('A', index + 1, "A – Pièces de forme".to_owned(), kind)
        } else if index < forms + person {
            let number = index - forms + 1;
            ('B', number, "B – Renseignements et personnalité".to_owned(), Kind::Personality)
        } else if index < forms + person + custody {
            let number = index - forms - person + 1;
            ('C', number, "C – Contrôle judiciaire".to_owned(), Kind::Supervision)
        } else {
            let number = index - forms - person - custody + 1;
            let low = (number - 1) / 50 * 50 + 1;
            let tome = low / 50 + 1;
            let part = [
                "Enquête préliminaire",
                "Flagrance et saisies",
                "Commission rogatoire",
                "Suites de l'instruction",
            ][(tome - 1) % 4];
            (
                'D',
                number,
                format!("D – Pièces de fond/Tome {tome} (D{low} à D{}) – {part}", low + 49),
                weighted(&mut random, &substance),
            )
        };
        let kind = if index > 1 && letter != 'C' && random.percent(scanned) { Kind::Scanned } else { kind };
        date = date.later(random.between(0, 1) as u32);
        pieces.push(Piece {
            folder,
            cote: format!("{letter}{number}"),
            kind,
            who: random.next() as usize % 997,
            date,
        });
    }
    pieces
}

fn weighted(random: &mut Random, from: &[(Kind, u64)]) -> Kind {
    let mut left = random.between(1, from.iter().map(|(_, weight)| weight).sum());
    for (kind, weight) in from {
        if left <= *weight {
            return *kind;
        }
        left -= weight;
    }
    Kind::Findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(seed: u64, canary: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        procedure(folder.path(), seed, 40, 20, 3 << 20, canary).unwrap();
        let mut waiting = vec![folder.path().to_path_buf()];
        let mut files = Vec::new();
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                files.push((
                    path.strip_prefix(folder.path()).unwrap().to_path_buf(),
                    fs::read(&path).unwrap(),
                ));
            }
        }
        files.sort();
        files
    }

    #[test]
    fn the_same_seed_gives_the_same_files() {
        let first = made(3, "CANARI-3");
        assert_eq!(first.len(), 41);
        assert!(first == made(3, "CANARI-3"));
        assert!(first != made(4, "CANARI-3"));
    }

    #[test]
    fn the_canary_is_plain_in_every_file_and_in_no_name() {
        let canary = b"CANARI-5ed1";
        let files = made(5, "CANARI-5ed1");
        assert!(files.iter().all(|(_, bytes)| bytes.windows(canary.len()).any(|w| w == canary)));
        assert!(!files.iter().any(|(path, _)| path.to_string_lossy().contains("CANARI-5ed1")));
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(size("20G"), Ok(20 << 30));
        assert_eq!(size("123"), Ok(123));
        assert!(size("many").is_err() && size("99999999999G").is_err());
    }
}
