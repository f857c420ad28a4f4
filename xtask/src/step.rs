//! One step of a task: a program whose output is passed through, and its duration.

use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs `command` as the step `name`. Its output is passed through; a failure ends the task.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<(), StepError> {
    eprintln!("\n== {name}: {}", shown(command));
    let start = Instant::now();
    // A prompt cannot be answered in CI, so a step gets no input anywhere.
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|source| StepError::NotStarted {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    eprintln!("== {name}: {}", seconds(start.elapsed()));
    if status.success() { Ok(()) } else { Err(StepError::Failed { name: name.to_owned(), status }) }
}

/// A command of the same `cargo` that runs this task.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Formats the command as you could type it: its variables, the program's name and the arguments.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let program = program.to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| quoted(&arg.to_string_lossy()));
    variables.chain([program]).chain(args).collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains(char::is_whitespace) { format!("'{text}'") } else { text.to_owned() }
}

/// Formats a duration for people, as in `4.2 s` or `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        whole @ 60.. => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// The reason why a task failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(
        "the step \"{name}\" failed ({status}); read its output above, then run the command after \"== {name}:\" again"
    )]
    Failed { name: String, status: ExitStatus },
    #[error("cannot start {program}: {source}; install it, or add its folder to the PATH")]
    NotStarted { program: String, source: std::io::Error },
    #[error(
        "expected apt-get to install {packages}, found none; install your system's versions of these Debian packages, \
        or run `cargo xtask test --quick`, which needs none of them"
    )]
    NoPackageManager { packages: String },
    #[error(
        "expected root or sudo to install {packages}, found neither; run `apt-get install {packages}` as root, \
        or run `cargo xtask test --quick`, which needs none of them"
    )]
    NotRoot { packages: String },
    #[error("apt-get installed {packages}, but {programs} is not on the PATH; read its output above")]
    StillMissing { packages: String, programs: String },
    #[error("expected {what}, found none; {remedy}")]
    FuzzNeeds { what: &'static str, remedy: &'static str },
    #[error("cannot create the folder {}: {source}; check its permissions", corpus.display())]
    Folder { corpus: std::path::PathBuf, source: std::io::Error },
    #[error("cannot unpack a server into {}: {source}; delete target/servers and run the task again", path.display())]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error(
        "expected a list of packages from `cargo metadata`, found {found}; run `cargo metadata --no-deps` to see it"
    )]
    Metadata { found: &'static str },
    #[error(
        "expected JSON from `cargo metadata`, found other text: {0}; run `cargo metadata --no-deps` to see it"
    )]
    MetadataForm(#[from] serde_json::Error),
}

impl StepError {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> StepError {
        StepError::File { path: path.to_owned(), source }
    }

    /// Returns the failed step's own exit code, so that CI sees the same code as without xtask.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let code = match self {
            // A step killed by a signal has no exit code.
            StepError::Failed { status, .. } => status.code().and_then(|code| u8::try_from(code).ok()),
            _ => None,
        };
        ExitCode::from(code.unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_you_could_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn durations_are_shown_in_seconds_or_minutes() {
        assert_eq!(seconds(Duration::from_millis(4_210)), "4.2 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }

    #[cfg(unix)]
    #[test]
    fn a_failing_steps_exit_code_is_passed_on() {
        let error = step("fail", Command::new("sh").args(["-c", "exit 101"])).unwrap_err();
        assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", ExitCode::from(101)));
    }

    #[test]
    fn the_error_names_a_program_that_is_missing() {
        let error = step("none", &mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    }
}
