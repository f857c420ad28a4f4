//! The account of servers that refuse to run as root, and disks of their own for servers.

use std::ffi::OsString;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

/// The account that Debian's packages of PostgreSQL and PgBouncer create.
const NAME: &str = "postgres";

/// A user and its group, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Returns the account to switch to; `None` if this process is not root and can run the server itself.
    ///
    /// # Panics
    /// If the account does not exist.
    pub(crate) fn for_root() -> Option<Account> {
        rustix::process::geteuid().is_root().then(Account::of_packages)
    }

    /// Finds the account among the lines of `/etc/passwd`.
    fn find(users: &str) -> Option<Account> {
        let line = users.lines().find(|line| line.split(':').next() == Some(NAME))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(Account { user: numbers.next()?.ok()?, group: numbers.next()?.ok()? })
    }

    /// Returns the account that the packages create, whoever this process runs as.
    ///
    /// # Panics
    /// If the account does not exist.
    fn of_packages() -> Account {
        let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
        Account::find(&users)
            .unwrap_or_else(|| panic!("the user {NAME} does not exist; run `apt-get install postgresql`"))
    }

    /// Makes the account the owner of `path`.
    ///
    /// # Panics
    /// If the path does not exist.
    pub(crate) fn own(self, path: &Path) {
        chown(path, Some(self.user), Some(self.group)).expect("root may change the owner");
    }

    /// Returns the arguments of `setpriv` that run a program as this account.
    fn arguments(self) -> Vec<OsString> {
        vec![
            format!("--reuid={}", self.user).into(),
            format!("--regid={}", self.group).into(),
            "--clear-groups".into(),
            "--".into(),
        ]
    }
}

/// The user that runs a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runner {
    /// This process's own user.
    Own,
    Account(Account),
    /// This process's own user, which takes itself for the account of the packages, in namespaces of its own. There it may mount disks, and
    /// nobody else sees them.
    Isolated,
}

impl Runner {
    /// Returns the file and the first arguments of the command that runs `program`, in namespaces of its own after the shell commands of
    /// `setup`.
    pub(crate) fn command_line(self, program: &Path, setup: &str) -> (OsString, Vec<OsString>) {
        let account = match self {
            Runner::Own => return run_as(None, program),
            Runner::Account(account) => return run_as(Some(account), program),
            Runner::Isolated => Account::of_packages(),
        };
        // Only the root of a namespace may mount, and the server refuses to run as root. So it runs in a namespace within.
        let Account { user, group } = account;
        let within = format!("{setup} && exec unshare --user --map-user={user} --map-group={group} \"$@\"");
        let mut arguments: Vec<OsString> =
            ["--user", "--map-root-user", "--mount", "sh", "-c", &within, "sh"].map(OsString::from).into();
        arguments.push(program.into());
        ("unshare".into(), arguments)
    }
}

/// Returns the command that runs `program` as `account`, or as this process's own user: its file and its first arguments.
pub(crate) fn run_as(account: Option<Account>, program: &Path) -> (OsString, Vec<OsString>) {
    match account {
        Some(account) => {
            let mut arguments = account.arguments();
            arguments.push(program.into());
            ("setpriv".into(), arguments)
        }
        None => (program.into(), Vec::new()),
    }
}

/// Returns `program` as a command of `runner` in `folder`, which the runner can read.
pub(crate) fn command(runner: Runner, program: &Path, folder: &Path) -> Command {
    let (file, arguments) = runner.command_line(program, "true");
    let mut command = Command::new(file);
    command.args(arguments).current_dir(folder).env("HOME", folder);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104:Admin:/var:/bin/bash\n";
        let account = Account::find(users).unwrap();
        assert_eq!((account.user, account.group), (101, 104));
        assert!(Account::find("root:x:0:0:root:/root:/bin/bash\n").is_none());
    }
}
