//! Backup and restore as an operator runs them: real processes, killed in the middle.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pli");

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A folder prepared by `pli init`.
struct Site(PathBuf);

impl Site {
    fn new(folder: &Path, name: &str) -> Self {
        let home = folder.join(name);
        let output = pli(&["init", home.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Self(home)
    }

    fn command(&self, rest: &[&str]) -> Command {
        let config = self.0.join("pli.toml");
        pli(&[&["--config", config.to_str().unwrap()], rest].concat())
    }

    fn must(&self, rest: &[&str]) -> String {
        let output = self.command(rest).output().unwrap();
        assert!(output.status.success(), "pli {rest:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, rest: &[&str]) -> (i32, String) {
        let output = self.command(rest).output().unwrap();
        assert!(!output.status.success(), "{}", said(&output));
        (output.status.code().unwrap(), said(&output))
    }

    /// Objects that nobody names: to a backup they are objects like any others.
    fn objects(&self, count: u32) {
        for number in 0..count {
            let name = format!("{number:02x}{}", "0".repeat(30));
            let fan = self.0.join("objects/segments").join(&name[..2]);
            std::fs::create_dir_all(&fan).unwrap();
            std::fs::write(fan.join(name), number.to_le_bytes().repeat(50_000)).unwrap();
        }
    }
}

fn pli(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLI_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path);
            }
        }
    }
    all
}

#[test]
fn a_site_is_restored_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), "ici");
    let org = site.must(&["org", "add", "Cabinet d'instruction"]);
    site.must(&["user", "add", "greffe@cabinet.example", "--name", "Greffe", "--org", org.trim()]);
    site.objects(3);
    let backup = folder.path().join("sauvegarde");
    let to = backup.to_str().unwrap();

    let text = site.must(&["backup", to]);
    assert!(text.contains("3 objets") && text.contains("Sans les clés"), "{text}");
    let passphrase = std::fs::read_to_string(site.0.join("keys/passphrase")).unwrap();
    let no_secret = |path: &PathBuf| {
        let content = std::fs::read(path).unwrap();
        let holds = |what: &[u8]| content.windows(what.len()).any(|window| window == what);
        assert!(!holds(passphrase.trim().as_bytes()), "the passphrase in {}", path.display());
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        holds(b"PGP PRIVATE KEY") || path.ends_with("hub.asc")
    };
    assert!(!files(&backup).iter().any(no_secret), "no key unless it is asked for");

    let text = site.must(&["backup", to, "--with-keys"]);
    assert!(text.contains("dont 0 nouveaux"), "{text}");
    assert_eq!(files(&backup).iter().filter(|path| no_secret(path)).count(), 1);
    assert!(site.must(&["backup", to, "--verify"]).contains("Sauvegarde du"));

    // Without a key of its own, there; the passphrase comes by another way.
    let there = Site(folder.path().join("là"));
    std::fs::create_dir(&there.0).unwrap();
    std::fs::write(there.0.join("pli.toml"), "data = \".\"\n").unwrap();
    let text = there.must(&["restore", to, "--with-keys"]);
    assert!(text.contains("3 objets remis") && text.contains("1 clés remises"), "{text}");
    assert!(!there.0.join("keys/passphrase").exists());
    std::fs::copy(site.0.join("keys/passphrase"), there.0.join("keys/passphrase")).unwrap();
    assert_eq!(there.must(&["keys", "show"]), site.must(&["keys", "show"]));
    let accounts = there.must(&["stats"]);
    assert!(accounts.contains("Cabinet d'instruction,office,1099511627776,0,1,0,0,0,0,0,0"), "{accounts}");
    for number in 0..3 {
        let name = format!("objects/segments/{number:02x}/{number:02x}{}", "0".repeat(30));
        assert_eq!(std::fs::read(there.0.join(&name)).unwrap(), std::fs::read(site.0.join(&name)).unwrap());
    }

    // Over something: never.
    let (code, text) = there.fails(&["restore", to]);
    assert!(code == 1 && text.contains("pas vide"), "{code} {text}");
    let (code, text) = site.fails(&["restore", to, "--with-keys"]);
    assert!(code == 3 && text.contains("contient déjà une clé"), "{code} {text}");

    // Damage has a code of its own.
    let object = files(&backup.join("objects")).pop_first().unwrap();
    std::fs::write(&object, b"x").unwrap();
    let (code, text) = site.fails(&["backup", to, "--verify"]);
    assert!(code == 5 && text.contains(object.file_name().unwrap().to_str().unwrap()), "{code} {text}");
    let (code, text) = site.fails(&["backup", folder.path().to_str().unwrap(), "--verify"]);
    assert!(code == 1 && text.contains("ne contient pas de sauvegarde"), "{code} {text}");
}

#[test]
fn one_that_is_killed_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), "ici");
    site.must(&["org", "add", "Avant"]);
    site.objects(20);
    let backup = folder.path().join("sauvegarde");
    let to = backup.to_str().unwrap();
    site.must(&["backup", to]);
    let manifest = || std::fs::read(backup.join("backup.json")).unwrap();
    let first = manifest();
    site.must(&["org", "add", "Après"]);
    site.objects(200);
    let kept = files(&backup.join("objects/segments")).len();

    // Killed once it has begun to copy.
    let mut child =
        site.command(&["backup", to]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while files(&backup.join("objects/segments")).len() == kept {
        assert!(child.try_wait().unwrap().is_none(), "it was too fast to be killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(manifest(), first);
    site.must(&["backup", to, "--verify"]);
    let there = Site::new(folder.path(), "là");
    there.must(&["restore", to]);
    let names = there.must(&["stats"]);
    assert!(names.contains("Avant") && !names.contains("Après"), "{names}");

    // The next one goes on with what the killed one had copied.
    let copied = files(&backup.join("objects/segments")).len();
    let text = site.must(&["backup", to]);
    assert!(text.contains(&format!("dont {} nouveaux", 200 - copied)), "{copied} {text}");
    let databases = std::fs::read_dir(&backup).unwrap();
    let is_database =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("database-");
    assert_eq!(databases.filter(|entry| is_database(entry.as_ref().unwrap())).count(), 1);
}

#[test]
fn jobs_are_listed_and_nothing_is_dead() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), "ici");
    assert_eq!(site.must(&["jobs", "list", "--state", "dead"]), "");
    assert!(site.must(&["jobs", "retry", "--all"]).contains("0 tâches"));
    let (code, _) = site.fails(&["jobs", "retry"]);
    assert_eq!(code, 2);
    let org = site.must(&["org", "add", "Cabinet, d'instruction"]);
    site.must(&["org", "quota", org.trim(), "5 GiB"]);
    assert!(site.must(&["stats", "--days", "7"]).contains("\"Cabinet, d'instruction\",office,5368709120,"));
}
