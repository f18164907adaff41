//! What the pages say, as poppler reads it.

use std::process::Command;

use pli_receipt::{Block, Document, Field, JSON_MAX, Receipt, ReceiptError, Section};

use crate::NOW;
use crate::authority::run;
use crate::sample::receipt;

/// The text of the pages, on one line.
fn text(pdf: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt.pdf");
    std::fs::write(&path, pdf).unwrap();
    let text = run(Command::new("pdftotext").arg(&path).arg("-"));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn with_names(names: &[&str]) -> Receipt {
    let document = |name: &&str| Document { name: (*name).into(), size: 1, sha256: [0xAB; 32] };
    Receipt {
        sections: vec![Section {
            heading: "Documents".into(),
            blocks: vec![Block::Documents(names.iter().map(document).collect())],
        }],
        ..receipt(0)
    }
}

#[test]
fn the_same_receipt_gives_the_same_bytes() {
    assert_eq!(receipt(30).render().unwrap(), receipt(30).render().unwrap());
    assert_ne!(receipt(30).render().unwrap(), receipt(31).render().unwrap());
}

#[test]
fn everything_that_was_given_is_on_the_pages() {
    let receipt = receipt(120);
    let text = text(&receipt.render().unwrap());
    let without_spaces: String = text.split_whitespace().collect();
    let found = |expected: &str| {
        let expected: String = expected.split_whitespace().collect();
        assert!(without_spaces.contains(&expected), "{expected} is missing");
    };
    found(&receipt.issuer);
    for section in &receipt.sections {
        found(&section.heading);
        for block in &section.blocks {
            match block {
                Block::Paragraph(paragraph) => found(paragraph),
                Block::Fields(fields) => fields.iter().for_each(|field| {
                    found(&field.label);
                    // Lines of a value stand beside those of its label: word by word.
                    field.value.split(' ').for_each(found);
                }),
                Block::Verbatim(lines) => lines.iter().for_each(|line| found(line)),
                Block::Documents(documents) => documents.iter().for_each(|document| {
                    document
                        .name
                        .split(' ')
                        .for_each(|word| word.split_inclusive(['_', '-']).for_each(found));
                    found(&document.sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                }),
            }
        }
    }
    for page in 1..=7 {
        found(&format!("Page {page} sur 7"));
    }
}

#[test]
fn hostile_names_are_shown_for_what_they_are() {
    let shown = text(
        &with_names(&[
            "\u{202E}fdp.exe",
            "tab\tulation\r\n",
            "証.txt",
            "e\u{301}te\u{301}.pdf",
            "a\u{0}b",
            "\u{FFFF}\u{E000}",
        ])
        .render()
        .unwrap(),
    );
    for expected in [
        "[U+202E]fdp.exe",
        "tab[U+0009]ulation[U+000D][U+000A]",
        "[U+8A3C].txt",
        "a[U+0000]b",
        "[U+FFFF][U+E000]",
    ] {
        assert!(shown.contains(expected), "{expected} is missing:\n{shown}");
    }
    assert!(shown.contains("e\u{301}te\u{301}.pdf") || shown.contains("été.pdf"), "{shown}");
}

#[test]
fn names_and_values_of_any_length_are_wrapped_over_pages() {
    let long = "x".repeat(20_000);
    let mut receipt = with_names(&[&long, "", "fin.pdf"]);
    receipt.sections.push(Section {
        heading: "Suite".into(),
        blocks: vec![Block::Fields(vec![Field { label: "Valeur".into(), value: long.clone() }])],
    });
    let text: String = text(&receipt.render().unwrap()).split_whitespace().collect();
    assert!(text.matches('x').count() >= 40_000);
    assert!(text.contains("fin.pdf"));
}

#[test]
fn a_receipt_without_anything_is_still_a_document() {
    let empty = Receipt {
        issuer: String::new(),
        title: String::new(),
        reference: String::new(),
        sections: vec![Section {
            heading: String::new(),
            blocks: vec![Block::Documents(vec![]), Block::Fields(vec![])],
        }],
        json: b"{}".to_vec(),
        created: NOW,
    };
    assert!(text(&empty.render().unwrap()).contains("Page 1 sur 1"));
}

#[test]
fn json_and_time_have_bounds() {
    let with_json = |json| Receipt { json, ..receipt(1) }.render();
    assert_eq!(with_json(Vec::new()), Err(ReceiptError::Json));
    assert_eq!(with_json(vec![b' '; JSON_MAX + 1]), Err(ReceiptError::Json));
    let before_1970 = Receipt { created: pli_api::Time::from_micros(-1), ..receipt(1) };
    assert_eq!(before_1970.render(), Err(ReceiptError::Time));
}
