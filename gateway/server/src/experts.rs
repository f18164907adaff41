//! `pli experts import`: what the list would change, in words, and then the change.
//!
//! Owns what is printed. What a field holds was checked for control characters when it was read, so that no list
//! can write to the operator's terminal anything but text.

use std::fs::File;
use std::io::{BufReader, Write};

use anyhow::Context;
use pli_hub::experts::{self, Finding, ImportOptions, ImportReport};

use crate::backend;
use crate::cli::{ExpertsCommand, ExpertsImport};
use crate::commands::{Amiss, say};
use crate::config::Config;

pub(crate) async fn run(config: Config, asked: ExpertsCommand) -> anyhow::Result<()> {
    let ExpertsCommand::Import(ExpertsImport { file, company, apply, skip_wrong, many_leave }) = asked;
    let opened = File::open(&file).with_context(|| format!("lecture impossible de {}", file.display()))?;
    let options = ImportOptions { company, apply, skip_wrong, many_leave };
    let hub = backend::hub(&config).await?;
    let outcome = experts::import(&hub, BufReader::new(opened), &options, |finding| {
        say!("{}", told(finding));
    })
    .await;
    hub.db().close().await;
    let report = outcome?;
    say!("{}", summary(&report));
    match verdict(&report, apply) {
        Ok(sentence) => {
            say!("{sentence}");
            Ok(())
        }
        Err(sentence) => Err(Amiss(sentence).into()),
    }
}

/// One line of the difference. Its first sign says what it is, as in `diff`.
fn told(finding: &Finding) -> String {
    match finding {
        Finding::Wrong { line, reason } => format!("! ligne {line} : {reason}"),
        Finding::Added { line, number, name, address } => {
            format!("+ ligne {line} : n° {number}, {name} <{address}>")
        }
        Finding::Changed { line, number, differences, returned } => {
            let back = if *returned { " : de retour sur la liste, compte rouvert" } else { "" };
            let mut text = format!("~ ligne {line} : n° {number}{back}");
            for difference in differences {
                text.push_str(&format!(
                    "\n    {} : « {} » devient « {} »",
                    difference.field, difference.old, difference.new
                ));
            }
            text
        }
        Finding::OptedOut { line, number } => {
            format!("= ligne {line} : n° {number} s'est retiré ; seul lui revient, rien n'est changé")
        }
        Finding::Closed { line, number } => {
            format!(
                "= ligne {line} : n° {number}, compte fermé autrement que par la liste ; rien n'est changé"
            )
        }
        Finding::Left { number, name } => format!("- n° {number}, {name} : plus sur la liste, compte fermé"),
    }
}

fn summary(report: &ImportReport) -> String {
    let mut text = String::new();
    if let (Some(encoding), Some(separator)) = (report.encoding, report.separator) {
        text.push_str(&format!("Liste lue en {encoding}, séparée par « {separator} ».\n"));
    }
    if !report.ignored.is_empty() {
        // Headers are not checked as fields are.
        let names: Vec<_> = report.ignored.iter().map(|name| name.escape_debug().to_string()).collect();
        text.push_str(&format!("Colonnes sans usage : {}.\n", names.join(", ")));
    }
    text.push_str(&format!(
        "{} : {} lignes ; {} nouveaux, {} modifiés, {} partis, {} inchangés, {} retirés, {} fermés autrement, {} lignes fausses.",
        report.company,
        report.lines,
        report.added,
        report.changed,
        report.left,
        report.unchanged,
        report.opted_out,
        report.closed,
        report.wrong
    ));
    if report.held_back > 0 {
        text.push_str(&format!(
            "\n{} comptes absents de la liste restent ouverts : le numéro d'une ligne fausse ne se lit pas, et c'est peut-être l'un d'eux.",
            report.held_back
        ));
    }
    text
}

/// What came of it: done, not asked for, or refused.
fn verdict(report: &ImportReport, asked: bool) -> Result<String, String> {
    let wrong = report.wrong > 0;
    if report.applied && wrong {
        return Ok(format!("Fait, sauf {} lignes fausses.", report.wrong));
    }
    if report.applied {
        return Ok("Fait.".to_owned());
    }
    if report.too_many_leave {
        return Err("plus de la moitié des experts ont disparu de la liste : rien n'a été changé ; --many-leave si c'est exact".to_owned());
    }
    if wrong && asked {
        return Err(format!(
            "{} lignes fausses : rien n'a été changé ; corrigez la liste, ou --skip-wrong",
            report.wrong
        ));
    }
    if wrong {
        return Err(format!("{} lignes fausses ; rien n'a été changé", report.wrong));
    }
    Ok("Rien n'a été changé ; --apply le fait.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pli_hub::experts::{Difference, Reason};

    #[test]
    fn each_finding_is_one_readable_line() {
        let changed = Finding::Changed {
            line: 3,
            number: "12".into(),
            differences: vec![Difference { field: "courriel", old: "a@b".into(), new: "c@d".into() }],
            returned: false,
        };
        assert_eq!(told(&changed), "~ ligne 3 : n° 12\n    courriel : « a@b » devient « c@d »");
        let wrong = Finding::Wrong { line: 9, reason: Reason::NumberTwice(4) };
        assert_eq!(told(&wrong), "! ligne 9 : numero : déjà à la ligne 4");
    }

    #[test]
    fn what_was_not_done_is_no_success() {
        let report = |wrong, applied, too_many_leave| ImportReport {
            wrong,
            applied,
            too_many_leave,
            ..ImportReport::default()
        };
        assert!(verdict(&report(0, false, false), false).is_ok());
        assert!(verdict(&report(0, true, false), true).is_ok());
        assert!(verdict(&report(1, true, false), true).is_ok());
        assert!(verdict(&report(1, false, false), true).is_err());
        assert!(verdict(&report(1, false, false), false).is_err());
        assert!(verdict(&report(0, false, true), true).is_err());
    }
}
