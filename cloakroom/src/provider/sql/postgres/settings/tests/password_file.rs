use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// Writes a password file with these permissions.
fn file(folder: &Path, content: &str, mode: u32) -> PathBuf {
    let path = folder.join("passwords");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Returns the password that a connection to the first host of `text` uses.
fn stored(text: &str, environment: &Environment) -> Option<String> {
    let settings = Settings::parse_in(text, environment).unwrap();
    let login = &settings.login;
    let file = login.file.as_ref()?;
    let password = file.password(&settings.hosts[0], login.database(), &login.user).unwrap();
    password.map(|password| String::from_utf8(password).unwrap())
}

#[test]
fn the_first_line_that_fits_has_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let content = "# db:5432:app:u:comment\n\
                   db:5432:app:u:first\n\
                   db:5432:app:u:second\n\
                   db:*:other\\:base:us\\\\er:p\\:w\\\\d:ignored\r\n\
                   \n\
                   too:few:fields\n\
                   localhost:5433:*:*:socket\n\
                   /run/pg:*:*:*:folder\n\
                   ::1:*:*:*:wrong\n\
                   \\:\\:1:*:*:*:address\n\
                   *:*:any:*:wild\n\
                   last:1:*:u:end";
    let path = file(folder.path(), content, 0o600);
    for (text, expected) in [
        ("host=db user=u dbname=app", Some("first")),
        ("host=db user=u dbname=app port=1", None),
        ("host=db user='us\\\\er' dbname=other:base port=7", Some("p:w\\d")),
        ("host=/anywhere port=5433 user=u", Some("socket")),
        ("host=/run/pg user=u", Some("folder")),
        ("hostaddr=::1 user=u", Some("address")),
        ("host=x hostaddr=::1 user=u dbname=any", Some("wild")),
        ("host=last port=1 user=u", Some("end")),
        // Without a database, the user's name is the database's.
        ("host=x user=any", Some("wild")),
        ("host=x user=u dbname=y", None),
    ] {
        let text = format!("{text} passfile='{}'", path.display());
        assert_eq!(stored(&text, &bare()).as_deref(), expected, "{text}");
    }
}

#[test]
fn a_password_file_that_others_may_read_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    for (mode, expected) in
        [(0o600, Some("p")), (0o400, Some("p")), (0o640, None), (0o604, None), (0o610, None)]
    {
        let path = file(folder.path(), "*:*:*:*:p", mode);
        assert_eq!(
            stored(&format!("passfile='{}'", path.display()), &bare()).as_deref(),
            expected,
            "{mode:o}"
        );
        fs::remove_file(path).unwrap();
    }
    assert_eq!(stored(&format!("passfile='{}'", folder.path().display()), &bare()), None);
}

#[test]
fn the_string_comes_before_variable_and_home() {
    let home = tempfile::tempdir().unwrap();
    fs::rename(file(home.path(), "*:*:*:*:home", 0o600), home.path().join(".pgpass")).unwrap();
    let environment = Environment { home: Some(home.path().into()), ..bare() };
    assert_eq!(stored("", &environment).as_deref(), Some("home"));
    let other = tempfile::tempdir().unwrap();
    let path = file(other.path(), "*:*:*:*:other", 0o600);
    let variable = with_variables(&[("$PGPASSFILE", path.to_str().unwrap())]);
    let environment = Environment { home: environment.home, ..variable };
    assert_eq!(stored("", &environment).as_deref(), Some("other"));
    assert!(Settings::parse_in("password=p", &environment).unwrap().login.file.is_none());
    assert_eq!(stored("", &bare()), None);
    let missing = with_variables(&[("$PGPASSFILE", "/nonexistent/file")]);
    assert_eq!(stored("", &missing), None);
}

#[test]
fn a_missing_file_that_the_string_names_is_an_error() {
    let settings = parsed("passfile=/nonexistent/file");
    let file = settings.login.file.unwrap();
    let error = file.password(&settings.hosts[0], "app", "u").unwrap_err();
    assert_eq!(
        error.to_string(),
        "passfile: expected a readable file, found none; check its path and its permissions"
    );
}
