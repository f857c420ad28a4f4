//! One step of a task: a program that runs with its output passed through, and how long it took.

use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs `command` as the step called `name`: its output goes out unchanged, a failure ends the task.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<(), StepError> {
    eprintln!("\n== {name}: {}", shown(command));
    let start = Instant::now();
    // Nobody answers a prompt in CI, so none is offered anywhere.
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|source| StepError::NotStarted {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    eprintln!("== {name}: {}", seconds(start.elapsed()));
    match status.success() {
        true => Ok(()),
        false => Err(StepError::Failed { name: name.to_owned(), status }),
    }
}

/// A `cargo` command: the very cargo that runs this task.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// The command as one could type it: the variables it sets, the program's name, the arguments.
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
    match text.is_empty() || text.contains(char::is_whitespace) {
        true => format!("'{text}'"),
        false => text.to_owned(),
    }
}

/// A duration as a person reads it: `4.2 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        whole @ 60.. => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// Why a task ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the step \"{name}\" failed ({status}); its output is above")]
    Failed { name: String, status: ExitStatus },
    #[error("{program} could not be started: {source}; is it installed and on the PATH?")]
    NotStarted { program: String, source: std::io::Error },
    #[error(
        "the tests need {packages}, and there is no apt-get here to install them; install what your system \
         calls these Debian packages, or run `cargo xtask test --quick` for the tests that need none"
    )]
    NoPackageManager { packages: String },
    #[error("apt-get has installed {packages}; still not on the PATH: {programs}; its output is above")]
    StillMissing { packages: String, programs: String },
    #[error("fuzzing needs {what}, and it is not here; {remedy}")]
    FuzzNeeds { what: &'static str, remedy: &'static str },
    #[error("{} could not be made: {source}", corpus.display())]
    Folder { corpus: std::path::PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    File { path: std::path::PathBuf, source: std::io::Error },
    #[error("expected a list of packages from `cargo metadata`, found {found}")]
    Metadata { found: &'static str },
    #[error("expected JSON from `cargo metadata`: {0}")]
    MetadataForm(#[from] serde_json::Error),
}

impl StepError {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> StepError {
        StepError::File { path: path.to_owned(), source }
    }

    /// The failing step's own exit code, so that a caller of the task sees what it would have seen.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let code = match self {
            // A step killed by a signal has no code.
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
    fn a_command_is_shown_as_it_could_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn durations_read_well_on_both_sides_of_a_minute() {
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
    fn a_program_that_is_not_there_is_named() {
        let error = step("none", &mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    }
}
