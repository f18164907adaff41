//! One run of `pli serve`. Owns the child process: nothing a test starts outlives the test.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::site::Site;

/// How long a gateway may take until it is ready, on a machine that compiles something else meanwhile.
const READY: Duration = Duration::from_secs(60);

/// The program under test: `PLI_BIN`, or `pli` beside the folder of the test's own executable.
///
/// # Errors
/// It has not been built.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PLI_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let folder = own.ancestors().find(|path| path.join("pli").is_file());
    let folder = folder.context("the program is not built: cargo build -p pli, or set PLI_BIN")?;
    Ok(folder.join("pli"))
}

/// A command of the program, with none of the test's own settings in its environment.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLI_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end without holding up the other tasks of the test.
pub(crate) async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// A gateway that runs. Dropping it kills it.
pub struct Gateway {
    child: Child,
    log: PathBuf,
    operations: String,
}

impl Gateway {
    /// Starts `pli serve` on the site and waits until it says that it is ready.
    pub(crate) async fn start(
        site: &Site,
        configuration: &Path,
        operations: &str,
        variables: &[(String, String)],
    ) -> Result<Self> {
        let mut gateway = Self::spawn(site, configuration, operations, variables)?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Starts it without waiting.
    pub(crate) fn spawn(
        site: &Site,
        configuration: &Path,
        operations: &str,
        variables: &[(String, String)],
    ) -> Result<Self> {
        let log = site.folder().join("pli.log");
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = command()?;
        command.arg("--config").arg(configuration).arg("serve");
        command.envs(variables.iter().cloned());
        command.stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().context("starting pli serve")?;
        Ok(Self { child, log, operations: operations.to_owned() })
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// The process ended, or it was not ready within a minute; the end of its log is in the error.
    pub async fn ready(&mut self) -> Result<()> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let deadline = Instant::now() + READY;
        let mut said = String::from("nothing");
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("pli serve ended with {status}\n{}", self.end_of_log());
            }
            match client.get(format!("{}/readyz", self.operations)).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => said = answer.text().await.unwrap_or_default(),
                Err(error) => said = error.to_string(),
            }
            // There is no event to wait for across two processes but the answer itself.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("pli serve was not ready within {READY:?}, it said {said}\n{}", self.end_of_log())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// It had ended by itself before: a crash that the test must see.
    pub async fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("pli serve had ended with {status} before it was killed\n{}", self.end_of_log());
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(status.signal() == Some(9), "pli serve ended with {status}\n{}", self.end_of_log());
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and gives its exit status.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub async fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("TERM").await?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("pli serve did not stop within {limit:?}\n{}", self.end_of_log())
    }

    /// Sends a signal by its name: TERM, HUP, STOP, CONT.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.pid().to_string());
        ensure!(output(kill).await?.status.success(), "kill -{name} failed");
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Resident memory in bytes: now, and at its highest.
    ///
    /// # Errors
    /// The process has ended.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibi = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kibi.map(|kibi| kibi << 10).with_context(|| format!("no {name} in /proc"))
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// The status of `/readyz`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn readiness(&self) -> Result<u16> {
        Ok(reqwest::get(format!("{}/readyz", self.operations)).await?.status().as_u16())
    }

    /// The open files of the process that hold these bytes, those without a name any more included.
    ///
    /// # Errors
    /// The process has ended.
    pub fn open_files_holding(&self, needle: &[u8]) -> Result<Vec<PathBuf>> {
        let mut holding = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.pid()))? {
            let path = entry?.path();
            // One that was closed since, a socket or a pipe holds nothing on a disk.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if metadata.is_file() && crate::site::contains(&std::fs::read(&path)?, needle) {
                holding.push(std::fs::read_link(&path)?);
            }
        }
        Ok(holding)
    }

    /// One value of `/metrics`: the line that is `name` or begins with `name{…}` and these labels.
    ///
    /// # Errors
    /// It does not answer, or has no such line.
    pub async fn metric(&self, line_start: &str) -> Result<f64> {
        let text = reqwest::get(format!("{}/metrics", self.operations)).await?.text().await?;
        let line = text.lines().find(|line| line.starts_with(line_start));
        let value = line
            .and_then(|line| line.rsplit(' ').next())
            .with_context(|| format!("no metric {line_start}"))?;
        Ok(value.parse()?)
    }

    fn end_of_log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already; what matters is that it is gone and waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
