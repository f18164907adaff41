//! A part of a test that runs in a process of its own, to be killed or watched by strace: the test
//! binary calls itself with the name of an ignored test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder given to a child; `None` when the ignored test was called by somebody else.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os("PLI_TEST_CHILD").map(PathBuf::from)
}

/// The command that runs the ignored test `name` in `folder`.
pub(crate) fn command(name: &str, folder: &Path) -> Command {
    under(&[], name, folder)
}

/// The same under strace, which writes to `folder/trace`.
pub(crate) fn traced(options: &[&str], name: &str, folder: &Path) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("strace").is_file()));
    assert!(found, "strace is missing: run tests/env/install.sh");
    let trace = folder.join("trace");
    let mut line = vec!["strace", "-f", "-qq", "-y", "-s", "64", "-o", trace.to_str().unwrap()];
    line.extend(options);
    under(&line, name, folder)
}

fn under(wrapper: &[&str], name: &str, folder: &Path) -> Command {
    let me = std::env::current_exe().unwrap();
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut c = Command::new(first);
            c.args(rest).arg(me);
            c
        }
        None => Command::new(me),
    };
    command
        .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("PLI_TEST_CHILD", folder)
        .stdin(Stdio::null());
    command
}
