//! Connections through the public API: encryption, sockets, password files, several hosts, and the texts of errors.

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use cloakroom::{ErrorKind, PostgresProvider, Provider};
use servers::{Certificates, Postgres};

use crate::server::{a_table, shared};

/// Connects with a table of its own, and returns whether sessions can be counted.
async fn connected(text: &str) -> cloakroom::Result<u64> {
    let provider = PostgresProvider::builder(text).table(&a_table()).connect().await?;
    provider.count().await
}

/// Returns the kind of the error, and its text with those of its causes.
async fn refused(text: &str) -> (ErrorKind, String) {
    let error = connected(text).await.unwrap_err();
    let mut shown = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(deeper) = cause {
        shown += &format!(" {deeper} {deeper:?}");
        cause = deeper.source();
    }
    (error.kind(), shown)
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_verified_connection_stores_sessions() {
    let authority = shared().certificates().authority.display();
    let url = shared().url(&format!("sslmode=verify-full&sslrootcert={authority}&channel_binding=require"));
    assert_eq!(connected(&url).await.unwrap(), 0);
    let folder = tempfile::tempdir().unwrap();
    let other = Certificates::write(folder.path()).authority;
    let (kind, text) =
        refused(&shared().url(&format!("sslmode=verify-ca&sslrootcert={}", other.display()))).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("check the server's certificate, sslrootcert and the host's name"), "{text}");
    let misnamed =
        format!("sslmode=verify-full&sslrootcert={authority}&host=wrong.example&hostaddr=127.0.0.1");
    assert!(refused(&shared().url(&misnamed)).await.1.contains("not valid for name"));
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_socket_and_a_password_file_store_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwords");
    let password = Postgres::PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    fs::write(&path, format!("localhost:*:app:{}:{password}\n", Postgres::USER)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let (socket, port) = (shared().socket_folder().display(), shared().address().port());
    let (user, file) = (Postgres::USER, path.display());
    let text = format!("host='{socket}' port={port} user={user} dbname=app passfile='{file}'");
    assert_eq!(connected(&text).await.unwrap(), 0);
    // Another user may read the file now, so it is ignored, and no password is left.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let (kind, shown) = refused(&text).await;
    assert_eq!(kind, ErrorKind::Config);
    assert!(shown.contains("write password, use a password file"), "{shown}");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn the_first_host_that_runs_stores_sessions() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hosts = format!("{free},{}", shared().address());
    assert_eq!(connected(&Postgres::url_at(&hosts, "")).await.unwrap(), 0);
    let (kind, text) = refused(&Postgres::url_at(&free.to_string(), "deadline=1s")).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("host 1: the connection failed; check that the server runs"), "{text}");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn an_error_tells_the_cause_and_no_login() {
    let user = Postgres::USER;
    for (params, kind, expected) in [
        ("password=wr0ng", ErrorKind::Config, "28P01"),
        ("dbname=nothing", ErrorKind::Config, "3D000"),
        ("sslmod=require", ErrorKind::Config, "did you mean sslmode?"),
        ("sslcrl=/x", ErrorKind::Config, "lists of revoked certificates are not read"),
        ("no_such_setting=1", ErrorKind::Config, "42704"),
        ("sslrootcert=/nonexistent", ErrorKind::Config, "sslrootcert: expected a readable file"),
    ] {
        let (found, text) = refused(&shared().url(params)).await;
        assert_eq!(found, kind, "{params}: {text}");
        assert!(text.contains(expected), "{params}: {text}");
        for secret in [user, "wr0ng", "p@ss", "p%40ss", "nothing"] {
            assert!(!text.contains(secret), "{params}: {text}");
        }
    }
}
