//! Sealed receipts before independent judges: pdfsig, pdfdetach and qpdf; pyHanko; pdfluent for PDF/A-3a.

use std::path::Path;
use std::process::Command;

use pli_receipt::open;

use crate::authority::{Authority, Usage, clients, run};
use crate::sample::receipt;
use crate::{NOW, Seal, seal, sealed, stamped};

/// What `judge_pdf.py` says, as JSON in one line.
fn judge(path: &Path, roots: &[&Path]) -> String {
    let clients = clients();
    let mut command = Command::new(clients.join("python/bin/python"));
    command.arg(clients.join("judge_pdf.py")).arg(path);
    for root in roots {
        command.arg("--trust").arg(root);
    }
    run(&mut command)
}

fn judged(bytes: &[u8], seal: &Seal, authority: Option<&Authority>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("receipt.pdf"), bytes).unwrap();
    std::fs::write(at("root.pem"), &seal.authority).unwrap();

    run(Command::new("qpdf").arg("--check").arg(at("receipt.pdf")));
    let said = run(Command::new("pdfsig").arg("-nocert").arg(at("receipt.pdf")));
    for expected in [
        "Signature is Valid",
        "Total document signed",
        "Type: ETSI.CAdES.detached",
        "cachet de développement",
    ] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
    run(Command::new("pdfdetach")
        .args(["-savefile", "recu.json", "-o"])
        .arg(at("out.json"))
        .arg(at("receipt.pdf")));
    assert_eq!(std::fs::read(at("out.json")).unwrap(), receipt(1).json);

    let tsa_root = authority.map(|authority| authority.path("root.pem"));
    let root = at("root.pem");
    let roots: Vec<&Path> = [Some(root.as_path()), tsa_root.as_deref()].into_iter().flatten().collect();
    let said = judge(&at("receipt.pdf"), &roots);
    for expected in [
        r#""intact": true, "valid": true, "trusted": true, "coverage": "ENTIRE_FILE", "modification": "NONE", "bottom_line": true"#,
        r#""claimed": "2026-11-27T22:59:33+00:00""#,
        r#""pdfa": {"level": "PDF/A-3A", "findings": []}"#,
        match authority {
            Some(_) => r#""timestamp": {"valid": true, "intact": true, "trusted": true"#,
            None => r#""timestamp": null"#,
        },
    ] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
}

#[test]
fn a_receipt_is_accepted_by_every_judge() {
    let seal = seal();
    for documents in [1, 40] {
        let bytes = sealed(&receipt(documents), &seal);
        judged(&bytes, &seal, None);
        let opened = open(&bytes, &seal.trust).unwrap();
        assert_eq!(opened.json, receipt(1).json);
        assert_eq!((opened.signer, opened.claimed_time), (seal.key.certificate().clone(), NOW));
        assert_eq!(opened.timestamp, None);
    }
}

#[test]
fn a_receipt_with_a_timestamp_is_accepted_by_every_judge() {
    let mut seal = seal();
    let authority = Authority::new(Usage::Right);
    let bytes = stamped(&receipt(3), &seal, &authority);
    judged(&bytes, &seal, Some(&authority));
    seal.trust.timestamps = vec![authority.root.clone()];
    let opened = open(&bytes, &seal.trust).unwrap();
    assert_eq!(*opened.timestamp.unwrap().authority(), authority.own);
}

/// The judge of PDF/A is not blind: it sees what breaks the rules.
#[test]
fn the_judge_of_pdfa_sees_faults() {
    let seal = seal();
    let bytes = sealed(&receipt(1), &seal);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("root.pem"), &seal.authority).unwrap();
    for (from, to) in [
        ("/AFRelationship", "/AXRelationship"),
        ("/StructTreeRoot", "/StructXreeRoot"),
        ("/Marked true", "/Markex true"),
    ] {
        let mut faulty = bytes.clone();
        let places: Vec<usize> = faulty
            .windows(from.len())
            .enumerate()
            .filter(|(_, window)| *window == from.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "{from}");
        for place in places {
            faulty[place..place + to.len()].copy_from_slice(to.as_bytes());
        }
        std::fs::write(at("faulty.pdf"), faulty).unwrap();
        let said = judge(&at("faulty.pdf"), &[&at("root.pem")]);
        assert!(!said.contains(r#""findings": []"#), "{from}: {said}");
        assert!(said.contains(r#""intact": false"#), "{said}");
    }
}
