//! Errors of the server: each message names the cause, and the other operations still work.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, Error, ErrorKind, PostgresProvider, Provider,
    providers::{Created, Record, Renamed, StoreKey, Updated},
};
use servers::{Postgres, PostgresOptions};

use crate::server::{a_table, shared, url_with};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn at(version: u64) -> Record {
    record(&Clock::system()).version(version).principal("alice").value("n", version).build()
}

async fn version(provider: &PostgresProvider, key: &StoreKey) -> Option<u64> {
    provider.load(key).await.unwrap().map(|record| record.version())
}

async fn refused(url: &str) -> Error {
    PostgresProvider::connect(url).await.expect_err("it is refused")
}

/// Creates a user with `rights`, and returns its URL for `table`.
fn user(name: &str, table: &str, rights: &[String]) -> String {
    shared().sql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw'"));
    for right in rights {
        shared().sql(&format!("GRANT {right} TO {name}"));
    }
    format!("postgres://{name}:pw@{}/app?table={table}", shared().address())
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_missing_right_is_named_at_the_start() {
    let t = a_table();
    // The table is missing, and this user may not create it.
    let url = user("maker", &t, &[]);
    let error = refused(&url).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("missing and that this user may not create it; GRANT CREATE"),
        "{error}"
    );
    shared().sql(&crate::server::schema(&t));
    let (sessions, index) = (["SELECT", "INSERT", "UPDATE", "DELETE"], ["SELECT", "INSERT", "DELETE"]);
    let all = |table: &str, rights: &[&str]| format!("{} ON {table}", rights.join(", "));
    let enough = [all(&t, &sessions), all(&format!("{t}_index"), &index)];
    let url = user("enough", &t, &enough);
    let provider = PostgresProvider::connect(&url).await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
    for lacking in sessions {
        let rights: Vec<_> = sessions.into_iter().filter(|right| *right != lacking).collect();
        let url = user(&format!("no_{}", lacking.to_lowercase()), &t, &[all(&t, &rights), enough[1].clone()]);
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        let expected = format!("expected the right {lacking} on the table");
        assert!(error.to_string().contains(&expected), "{lacking}: {error}");
    }
    shared().sql(&format!("REVOKE UPDATE ON {t} FROM enough"));
    let error = provider.update(&key("one"), &at(3), &base(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("lacks a right (42501)"), "{error}");
    assert!(provider.delete(&key("one")).await.unwrap());
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_wrong_login_or_database_is_a_configuration_error() {
    let place = shared().address().to_string();
    for (url, word) in [
        (format!("postgres://nobody:pw@{place}/app"), "28P01"),
        (Postgres::url_at(&place, "").replace("/app", "/missing"), "3D000"),
    ] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(word) && !error.to_string().contains("nobody"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_killed_connection_is_replaced() {
    let t = a_table();
    let provider = PostgresProvider::connect(url_with(&format!("table={t}&pool=1&application_name=k{t}")))
        .await
        .unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let kill = async || {
        let ended = shared().sql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'k{t}'"
        ));
        assert_eq!(ended.trim(), "1");
        // The end of the connection arrives before the next call.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    kill().await;
    assert_eq!(version(&provider, &key("one")).await, Some(1));
    // The connection is known to have ended before a statement is sent, so a change is not lost either.
    kill().await;
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
    kill().await;
    let renamed = provider.rename(&key("one"), &key("two"), &at(3), 2, Some(&at(3))).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_lock_that_is_held_is_waited_for_and_named() {
    let t = a_table();
    let builder = PostgresProvider::builder(url_with("pool=2&lock_timeout=100")).table(&t);
    let provider = builder
        .deadline(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let mut other = shared().client();
    other.run("BEGIN");
    assert_eq!(other.ask(&format!("SELECT id FROM {t} FOR UPDATE")), "one");
    assert_eq!(version(&provider, &key("one")).await, Some(1), "a read waits for no lock");
    let error = provider.update(&key("one"), &at(2), &base(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("another transaction (55P03)"), "{error}");
    other.run("COMMIT");
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_statement_ended_by_the_server_is_a_timeout() {
    let t = a_table();
    let builder =
        PostgresProvider::builder(url_with("pool=1&lock_timeout=60000&statement_timeout=200")).table(&t);
    let provider = builder
        .deadline(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
        .retries(0)
        .connect()
        .await
        .unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let mut other = shared().client();
    other.run("BEGIN");
    assert_eq!(other.ask(&format!("SELECT id FROM {t} FOR UPDATE")), "one");
    let error = provider.update(&key("one"), &at(2), &base(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("took too long or was cancelled (57014)"), "{error}");
    drop(other);
    assert_eq!(version(&provider, &key("one")).await, Some(1));
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn the_error_names_the_connection_limit() {
    let t = a_table();
    shared().sql(&format!(
        "CREATE ROLE limited LOGIN PASSWORD 'pw' CONNECTION LIMIT 1 IN ROLE {}",
        Postgres::USER
    ));
    let url = format!("postgres://limited:pw@{}/app?table={t}&pool=2", shared().address());
    let provider = PostgresProvider::connect(&url).await.unwrap();
    let error = refused(&url).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.contains("53300") && text.contains("max_connections"), "{text}");
    assert_eq!(provider.count().await.unwrap(), 0, "an open connection still works");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_standby_that_is_promoted_takes_over() {
    let mut primary = Postgres::start();
    let standby = primary.standby();
    let hosts = format!("{},{}", primary.address(), standby.address());
    let url = Postgres::url_at(&hosts, "target_session_attrs=read-write&table=t");
    let builder = PostgresProvider::builder(&url)
        .deadline(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20));
    let provider = builder.connect().await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let seen = || standby.try_sql("SELECT count(*) FROM t").is_ok_and(|count| count.trim() == "1");
    for _ in 0..500 {
        if seen() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A provider of the standby alone reads, and names the cause of what fails.
    let reader = PostgresProvider::connect(standby.url("table=t")).await.unwrap();
    assert_eq!(version(&reader, &key("one")).await, Some(1));
    let error = reader.delete(&key("one")).await.unwrap_err();
    assert!(error.to_string().contains("read-only (25006)"), "{error}");
    primary.kill();
    standby.promote();
    assert_eq!(version(&provider, &key("one")).await, Some(1));
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
    assert!(reader.delete(&key("one")).await.unwrap(), "and the reader's server is one that writes now");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn idle_connections_that_the_server_ends_are_replaced() {
    let options =
        PostgresOptions { settings: vec!["idle_session_timeout=200".to_owned()], ..Default::default() };
    let server = Postgres::with(options);
    let provider = PostgresProvider::connect(server.url("table=t&pool=1")).await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    for next in 2..5 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let updated = provider.update(&key("one"), &at(next), &base(next - 1)).await.unwrap();
        assert_eq!(updated, Updated::Done);
    }
}
