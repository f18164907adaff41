//! The experts' list as a hostile file. Nothing may panic, every line is told once, and what is accepted keeps its
//! promises.

#![no_main]

#[path = "../../gateway/hub/src/expert_list.rs"]
#[allow(dead_code, unreachable_pub)]
mod expert_list;

use expert_list::{Column, LINE_MAX, List};
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|data: &[u8]| {
    let Ok(mut list) = List::open(Cursor::new(data)) else { return };
    assert!(matches!(list.separator(), ';' | ','));
    let mut last = 1;
    while let Some(record) = list.next_record().expect("memory is read without a fault") {
        assert!(record.line > last, "lines are told in order, each once");
        last = record.line;
        let Ok(entry) = record.entry else { continue };
        assert_eq!(record.number.as_deref(), Some(entry.number.as_str()));
        for (column, value) in [
            (Column::Number, &entry.number),
            (Column::LastName, &entry.last_name),
            (Column::FirstName, &entry.first_name),
            (Column::Address, &entry.address),
            (Column::Speciality, &entry.speciality),
            (Column::Court, &entry.court),
        ] {
            assert!(!value.is_empty() || !column.is_required());
            assert!(value.chars().count() <= column.most() && value.len() <= LINE_MAX * 3);
            assert!(!value.chars().any(char::is_control));
            assert_eq!(value.trim(), value);
        }
    }
    let lines = data.split(|octet| *octet == b'\n').count() as u64;
    assert!(last <= lines);
});
