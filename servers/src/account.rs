//! The account of servers that refuse to run as root.

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
        rustix::process::geteuid().is_root().then(|| {
            let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
            Account::find(&users)
                .unwrap_or_else(|| panic!("the user {NAME} does not exist; run `apt-get install postgresql`"))
        })
    }

    /// Finds the account among the lines of `/etc/passwd`.
    fn find(users: &str) -> Option<Account> {
        let line = users.lines().find(|line| line.split(':').next() == Some(NAME))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(Account { user: numbers.next()?.ok()?, group: numbers.next()?.ok()? })
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

/// Returns `program` as a command of `account` in `folder`, which the account can read.
pub(crate) fn command(account: Option<Account>, program: &Path, folder: &Path) -> Command {
    let (file, arguments) = run_as(account, program);
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
