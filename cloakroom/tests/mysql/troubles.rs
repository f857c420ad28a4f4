//! Errors of the server: each message names the cause, and the other operations still work.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, Error, ErrorKind, MySqlProvider, Principal, Provider,
    providers::{Created, IndexEntry, Renamed, StoreKey, Touched, Updated},
};
use servers::{MariaDb, MariaDbOptions};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn at(version: u64) -> cloakroom::providers::Record {
    record(&Clock::system()).version(version).principal("alice").value("n", version).build()
}

async fn version(provider: &MySqlProvider, key: &StoreKey) -> Option<u64> {
    provider.load(key).await.unwrap().map(|record| record.version())
}

fn with(settings: &[&str]) -> MariaDb {
    let settings = settings.iter().map(|text| (*text).to_owned()).collect();
    MariaDb::with(MariaDbOptions { settings, ..Default::default() })
}

/// Creates a user with `rights`, and returns its data source name for the table `t`.
fn user(server: &MariaDb, name: &str, rights: &[&str]) -> String {
    server.sql(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'pw'"));
    for right in rights {
        server.sql(&format!("GRANT {right} TO '{name}'@'%'"));
    }
    format!("{name}:pw@tcp({})/app?table=t", server.address())
}

async fn refused(dsn: &str) -> Error {
    MySqlProvider::connect(dsn).await.expect_err("it is refused")
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_missing_right_is_named_at_the_start() {
    let server = MariaDb::start();
    // The table is missing, and this user may not create it.
    let dsn = user(&server, "maker", &["SELECT, INSERT, UPDATE, DELETE ON app.*"]);
    let error = refused(&dsn).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("missing and that this user may not create it; GRANT CREATE"),
        "{error}"
    );
    server.sql(&crate::server::schema("t"));
    assert_eq!(MySqlProvider::connect(&dsn).await.unwrap().count().await.unwrap(), 0);

    let (sessions, index) = (["SELECT", "INSERT", "UPDATE", "DELETE"], ["SELECT", "INSERT", "DELETE"]);
    for (table, needed, other, rest) in
        [("t", &sessions[..], "t_index", &index[..]), ("t_index", &index, "t", &sessions)]
    {
        for lacking in needed {
            let rights =
                needed.iter().filter(|right| *right != lacking).copied().collect::<Vec<_>>().join(", ");
            let granted = [format!("{rights} ON app.{table}"), format!("{} ON app.{other}", rest.join(", "))];
            let dsn = user(&server, &format!("no_{table}_{lacking}"), &[&granted[0], &granted[1]]);
            let error = refused(&dsn).await;
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            let expected = format!(
                "expected the right {lacking} on the table \"{table}\", found that this user lacks it; GRANT"
            );
            assert!(text.contains(&expected), "{lacking}: {text}");
        }
    }
    let dsn = user(&server, "nobody", &["USAGE ON *.*"]);
    let text = refused(&dsn).await.to_string();
    assert!(text.contains("does not know the database, or this user may not use it (1044)"), "{text}");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_right_revoked_later_is_named() {
    let server = MariaDb::start();
    server.sql(&crate::server::schema("t"));
    let rights = ["SELECT, INSERT, UPDATE, DELETE ON app.t", "SELECT, INSERT, DELETE ON app.t_index"];
    let dsn = user(&server, "passing", &rights);
    let provider = MySqlProvider::connect(&dsn).await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    server.sql("REVOKE UPDATE ON app.t FROM 'passing'@'%'");
    let error = provider.update(&key("one"), &at(2), &base(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("lacks a right (1142)"), "{error}");
    assert!(provider.delete(&key("one")).await.unwrap());
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_read_only_server_allows_reads_and_names_the_cause() {
    let server = MariaDb::start();
    let provider = MySqlProvider::connect(&server.dsn("table=t")).await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    server.sql("SET GLOBAL read_only = 1");
    // A process that starts now finds its table and reads.
    let second = MySqlProvider::connect(&server.dsn("table=t")).await.unwrap();
    for provider in [&provider, &second] {
        assert_eq!(version(provider, &key("one")).await, Some(1));
        assert_eq!(provider.count().await.unwrap(), 1);
        let now = Clock::system().now();
        for error in [
            provider.touch(&key("one"), now).await.unwrap_err(),
            provider.update(&key("one"), &at(2), &base(1)).await.unwrap_err(),
            provider.create(&key("two"), &at(1)).await.unwrap_err(),
            provider.rename(&key("one"), &key("two"), &at(2), 1, Some(&at(2))).await.unwrap_err(),
            provider.delete(&key("one")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains("the server is read-only (1290)"), "{error}");
        }
        assert_eq!(version(provider, &key("one")).await, Some(1));
    }
    let error = refused(&server.dsn("table=missing")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
    server.sql("SET GLOBAL read_only = 0");
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn every_call_works_without_prepared_statements() {
    let server = with(&["--max-prepared-stmt-count=0"]);
    let provider = MySqlProvider::connect(&server.dsn("table=t&pool=2")).await.unwrap();
    let (one, two) = (key("one"), key("two"));
    assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Done);
    assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Taken);
    assert_eq!(version(&provider, &one).await, Some(1));
    assert_eq!(provider.update(&one, &at(2), &base(1)).await.unwrap(), Updated::Done);
    assert_eq!(provider.update(&one, &at(2), &base(1)).await.unwrap(), Updated::Stale);
    let now = Clock::system().now();
    assert_eq!(provider.touch(&one, now).await.unwrap(), Touched::Done);
    assert_eq!(provider.rename(&one, &two, &at(3), 2, None).await.unwrap(), Renamed::Done);
    assert_eq!(provider.rename(&two, &one, &at(4), 3, Some(&at(9))).await.unwrap(), Renamed::Done);
    assert_eq!(provider.count().await.unwrap(), 2);
    let alice = Principal::new("alice").unwrap();
    assert_eq!(provider.indexed(&IndexEntry::from(&alice), None, 10).await.unwrap().entries.len(), 2);
    assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 2);
    assert_eq!(provider.delete_expired(10).await.unwrap().removed, 0);
    assert!(provider.delete(&one).await.unwrap());
    // The limit is reached while the site runs.
    server.sql("SET GLOBAL max_prepared_stmt_count = 100");
    let provider = MySqlProvider::connect(&server.dsn("table=t&pool=2")).await.unwrap();
    assert_eq!(version(&provider, &two).await, Some(9));
    server.sql("SET GLOBAL max_prepared_stmt_count = 1");
    assert_eq!(provider.update(&two, &at(10), &base(9)).await.unwrap(), Updated::Done);
    assert_eq!(provider.count().await.unwrap(), 1);
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn the_error_names_the_connection_limit() {
    let server = MariaDb::start();
    let provider = MySqlProvider::connect(&server.dsn("table=t")).await.unwrap();
    server.sql("SET GLOBAL max_connections = 10");
    let taken: Vec<_> = (0..12).map(|_| server.client()).collect();
    let mut held = Vec::new();
    for mut client in taken {
        // The server refuses the last clients.
        client.run("SELECT 1");
        held.push(client);
    }
    let error = servers_full(&server).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no connection left (1040); raise max_connections"), "{error}");
    assert_eq!(provider.count().await.unwrap(), 0, "an open connection still works");

    drop(held);
    server.sql("ALTER USER 'cloakroom'@'%' WITH MAX_USER_CONNECTIONS 1");
    let _one = MySqlProvider::connect(&server.dsn("table=t")).await.unwrap();
    let error = refused(&server.dsn("table=t")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("reached a limit of the server (1226)"), "{error}");
}

/// Connects until the clients have taken all connections, and returns the error.
async fn servers_full(server: &MariaDb) -> Error {
    for _ in 0..1_000 {
        if let Err(error) = MySqlProvider::connect(&server.dsn("table=t")).await {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server never refused a connection");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_full_tablespace_is_named_and_allows_reads() {
    // One file that does not grow, instead of one for each table.
    let server = with(&["--innodb-data-file-path=ibdata1:12M"]);
    server.sql("SET GLOBAL innodb_file_per_table = 0");
    let builder = MySqlProvider::builder(server.dsn("table=t"));
    let provider = builder.deadline(Duration::from_secs(30)).connect().await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let large = record(&Clock::system()).filled(1 << 20).build();
    let mut refusal = None;
    for number in 0..100 {
        match provider.create(&key(&format!("large-{number}")), &large).await {
            Ok(created) => assert_eq!(created, Created::Done),
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let error = refusal.expect("12 MiB hold no 100");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is full (1114); free some space"), "{error}");
    assert_eq!(version(&provider, &key("one")).await, Some(1));
    // This server has its undo log in the same file, so it may refuse the delete too. The error then names the cause.
    match provider.delete(&key("one")).await {
        Ok(there) => assert!(there),
        Err(error) => assert!(error.to_string().contains("is full (1114)"), "{error}"),
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_statement_ended_by_the_server_is_a_timeout() {
    let server = MariaDb::start();
    let dsn = server.dsn("table=t&pool=1&innodb_lock_wait_timeout=50&max_statement_time=1");
    let builder = MySqlProvider::builder(&dsn);
    let provider = builder.deadline(Duration::from_secs(30)).retries(0).connect().await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let mut other = server.client();
    other.run("START TRANSACTION");
    assert_eq!(other.ask("SELECT id FROM t FOR UPDATE"), "one");
    let error = provider.update(&key("one"), &at(2), &base(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("took too long (1969)"), "{error}");
    drop(other);
    assert_eq!(version(&provider, &key("one")).await, Some(1));
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_killed_connection_is_replaced() {
    let server = MariaDb::start();
    let provider = MySqlProvider::connect(&server.dsn("table=t&pool=1")).await.unwrap();
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    let kill = || {
        let id = server.sql("SELECT id FROM information_schema.processlist WHERE user = 'cloakroom'");
        server.sql(&format!("KILL {}", id.trim()));
    };
    kill();
    assert_eq!(version(&provider, &key("one")).await, Some(1));
    kill();
    // The first statement of the rename begins a transaction, so nothing has changed and the rename is retried.
    let renamed = provider.rename(&key("one"), &key("two"), &at(2), 1, Some(&at(2))).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
    assert_eq!(version(&provider, &key("two")).await, Some(2));
}
