//! Where received documents are written: names made by others, turned into paths that stay inside
//! the chosen folder, hold on every system, and never meet.

use std::collections::HashSet;
use std::path::PathBuf;

/// Added to a file while it is not whole.
pub(super) const PART: &str = ".part";
/// Added to the name of the file that says how far a file in stripes is.
pub(super) const STATE: &str = ".part.state";
/// Added to that while it is written.
pub(super) const NEW: &str = ".new";

/// Bytes of one path component, room left for a number and these endings within the usual 255.
const COMPONENT: usize = 220;

/// A relative path for each document name, in the order given: the same list always gives the same
/// paths, which is what lets a download resume.
pub(super) fn paths<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<PathBuf> {
    let names: Vec<Vec<String>> = names.into_iter().map(components).collect();
    let mut folders = HashSet::new();
    for name in &names {
        for depth in 1..name.len() {
            folders.insert(key(name.get(..depth).unwrap_or_default()));
        }
    }
    let mut taken = HashSet::new();
    names.into_iter().map(|name| place(name, &folders, &mut taken)).collect()
}

/// The first free variant of a name: itself, then « name (2).ext », « name (3).ext »…
fn place(mut name: Vec<String>, folders: &HashSet<String>, taken: &mut HashSet<String>) -> PathBuf {
    let file = name.pop().unwrap_or_default();
    for number in 1_u64.. {
        name.push(if number == 1 { file.clone() } else { numbered(&file, number) });
        let full = key(&name);
        let keys = ["", PART, STATE, ".part.state.new"].map(|ending| format!("{full}{ending}"));
        if keys.iter().all(|k| !taken.contains(k) && !folders.contains(k)) {
            taken.extend(keys);
            break;
        }
        name.pop();
    }
    name.iter().collect()
}

/// Names that a file system may hold to be the same: case does not count on Windows and macOS.
fn key(components: &[String]) -> String {
    components.join("/").to_lowercase()
}

fn numbered(file: &str, number: u64) -> String {
    match file.rfind('.').filter(|dot| *dot > 0) {
        Some(dot) => {
            let (stem, extension) = file.split_at(dot);
            format!("{stem} ({number}){extension}")
        }
        None => format!("{file} ({number})"),
    }
}

fn components(name: &str) -> Vec<String> {
    let parts: Vec<String> =
        name.split(['/', '\\']).filter(|p| !p.is_empty() && *p != ".").map(component).collect();
    if parts.is_empty() { vec!["document".into()] } else { parts }
}

/// One component that means the same on every system: nothing that Windows refuses or reads
/// otherwise, nothing that hides a file or shows it under another name.
fn component(part: &str) -> String {
    let forbidden =
        |c: char| super::format::is_deceptive(c) || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*');
    let mut name: String = part.chars().map(|c| if forbidden(c) { '_' } else { c }).collect();
    if name.len() > COMPONENT {
        name = shortened(&name);
    }
    // Windows drops what ends in dots or spaces; a leading dot would hide the file, or make it one
    // that a program obeys (`.bashrc`), and `..` would leave the folder.
    let kept = name.trim_end_matches(['.', ' ']).len();
    let tail = name.len() - kept;
    name.truncate(kept);
    name.extend(std::iter::repeat_n('_', tail));
    let start = name.trim_start();
    name = start.strip_prefix('.').map_or_else(|| start.to_owned(), |rest| format!("_{rest}"));
    if is_reserved(&name) {
        name.insert(0, '_');
    }
    if name.is_empty() { "_".into() } else { name }
}

fn shortened(name: &str) -> String {
    let (stem, extension) = match name.rfind('.').filter(|dot| name.len() - dot <= 20) {
        Some(dot) => name.split_at(dot),
        None => (name, ""),
    };
    let mut end = COMPONENT.saturating_sub(extension.len()).min(stem.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", stem.get(..end).unwrap_or_default())
}

/// Device names of Windows, with any extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|n| {
            matches!(n, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
        })
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> String {
        let path = paths([name]).remove(0);
        // Whatever the name, the path stays inside: only ordinary components.
        assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))), "{path:?}");
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn ordinary_names_are_kept() {
        for name in
            ["pv.pdf", "procédure/D1/énoncé nº 2 — l'été.pdf", "a.b.c", "Ω/中文.txt", "sans extension"]
        {
            assert_eq!(one(name), name);
        }
    }

    #[test]
    fn nothing_leaves_the_folder() {
        for (name, expected) in [
            ("/etc/passwd", "etc/passwd"),
            ("../../etc/passwd", "__/__/etc/passwd"),
            ("a/../../b", "a/__/__/b"),
            ("..", "__"),
            ("...", "___"),
            ("", "document"),
            ("/", "document"),
            ("./.", "document"),
            ("C:\\Windows\\a", "C_/Windows/a"),
            ("\\\\server\\share", "server/share"),
            (" ..", "___"),
            (".. ", "___"),
            (".bashrc", "_bashrc"),
            (".ssh/authorized_keys", "_ssh/authorized_keys"),
        ] {
            assert_eq!(one(name), expected, "{name:?}");
        }
    }

    #[test]
    fn nothing_that_windows_or_a_terminal_reads_otherwise() {
        for (name, expected) in [
            ("CON", "_CON"),
            ("nul.pdf", "_nul.pdf"),
            ("com1.tar.gz", "_com1.tar.gz"),
            ("LPT²", "_LPT²"),
            ("COM", "COM"),
            ("console.pdf", "console.pdf"),
            ("qui ? quoi : \"où\"*.pdf", "qui _ quoi _ _où__.pdf"),
            ("a.pdf.", "a.pdf_"),
            ("a.pdf  ", "a.pdf__"),
            ("fdp\u{202e}.exe", "fdp_.exe"),
            ("a\u{1b}[2J\n\0", "a_[2J__"),
            ("   ", "___"),
        ] {
            assert_eq!(one(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_names_fit_and_keep_their_extension() {
        let name = one(&format!("{}.pdf", "é".repeat(300)));
        assert!(name.len() <= COMPONENT && name.ends_with("é.pdf"), "{}", name.len());
        let name = one(&format!("a.{}", "é".repeat(300)));
        assert!(name.len() <= COMPONENT);
        assert!(name.len() + " (1000)".len() + STATE.len() + NEW.len() <= 255);
    }

    #[test]
    fn names_never_meet() {
        let names = ["a.pdf", "A.PDF", "a.pdf", "a.pdf.part", "dir", "dir/x", "DIR/X", "x?", "x*", "é", "É"];
        let paths = paths(names);
        let texts: Vec<&str> = paths.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(
            texts,
            [
                "a.pdf",
                "A (2).PDF",
                "a (3).pdf",
                "a.pdf (2).part",
                "dir (2)",
                "dir/x",
                "DIR/X (2)",
                "x_",
                "x_ (2)",
                "é",
                "É (2)"
            ]
        );
    }
}
