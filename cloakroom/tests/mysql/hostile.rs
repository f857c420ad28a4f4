//! Servers whose settings would break a promise if a connection kept them.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, ErrorKind, MySqlProvider, Principal, Provider,
    providers::{Collected, Created, IndexEntry, Renamed, StoreKey, Touched, Updated},
};
use servers::MariaDb;

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

/// Runs every step on a table of its own, and checks with another connection that each was committed.
async fn keeps_every_promise(server: &MariaDb, setting: &str, number: usize) {
    let table = format!("hostile{number}");
    let builder = MySqlProvider::builder(server.dsn("pool=1")).table(&table);
    let provider = builder.deadline(Duration::from_secs(10)).connect().await;
    let provider = provider.unwrap_or_else(|error| panic!("{setting}: {error}"));
    let clock = Clock::system();
    let at = |version| record(&clock).version(version).principal("alice").value("n", version).build();
    // Reads with another connection, which resets the server's settings for itself.
    let stored = |what: &str, id: &str| {
        let usual = "SET autocommit = 1, sql_mode = '', sql_select_limit = 100, max_statement_time = 0, sql_big_selects = 1";
        let answer = server.sql(&format!("{usual}; SELECT {what} FROM {table} WHERE id = '{id}'"));
        answer.trim().to_owned()
    };
    let (one, two) = (key("one"), key("two"));
    assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Done, "{setting}");
    assert_eq!(stored("version", "one"), "1", "{setting}: a new session is committed");
    assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Taken, "{setting}");
    assert_eq!(provider.load(&one).await.unwrap().map(|found| found.version()), Some(1), "{setting}");
    assert_eq!(provider.update(&one, &at(2), &base(1)).await.unwrap(), Updated::Done, "{setting}");
    assert_eq!(stored("version", "one"), "2", "{setting}: a change is committed");
    let tombstone = provider.load(&one).await.unwrap().unwrap();
    assert_eq!(
        provider.rename(&one, &two, &at(3), 2, Some(&tombstone)).await.unwrap(),
        Renamed::Done,
        "{setting}"
    );
    assert_eq!(stored("version", "two"), "3", "{setting}: a new id is committed");
    assert_eq!(provider.update(&two, &at(4), &base(3)).await.unwrap(), Updated::Done, "{setting}");
    assert_eq!(stored("version", "two"), "4", "{setting}: a change after a new id is committed");
    // Roll back a rename, and change the session after it.
    assert_eq!(provider.rename(&two, &one, &at(5), 4, Some(&tombstone)).await.unwrap(), Renamed::Taken);
    assert_eq!(provider.update(&two, &at(5), &base(4)).await.unwrap(), Updated::Done, "{setting}");
    assert_eq!(stored("version", "two"), "5", "{setting}: a change after a refused rename is committed");
    let now = clock.now();
    assert_eq!(provider.touch(&two, now).await.unwrap(), Touched::Done, "{setting}");
    assert_ne!(stored("touched", "two"), "NULL", "{setting}: a touch is committed");
    assert_eq!(provider.count().await.unwrap(), 2, "{setting}");
    assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 2, "{setting}");
    let alice = Principal::new("alice").unwrap();
    assert_eq!(
        provider.indexed(&IndexEntry::from(&alice), None, 10).await.unwrap().entries.len(),
        2,
        "{setting}"
    );
    let over = record(&clock).idle(Duration::from_millis(1)).build();
    assert_eq!(provider.create(&key("over"), &over).await.unwrap(), Created::Done, "{setting}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let collected = provider.delete_expired(10).await.unwrap();
    assert_eq!(collected, Collected { removed: 1, more: false }, "{setting}");
    assert_eq!(stored("version", "over"), "", "{setting}: a collection is committed");
    assert!(provider.delete(&two).await.unwrap(), "{setting}");
    assert_eq!(stored("version", "two"), "", "{setting}: an end is committed");
}

/// Global settings for new connections, each with the one that restores the default.
const HOSTILE: [(&str, &str); 21] = [
    ("autocommit = 0", "autocommit = 1"),
    ("completion_type = 'CHAIN'", "completion_type = DEFAULT"),
    ("completion_type = 'RELEASE'", "completion_type = DEFAULT"),
    ("tx_isolation = 'SERIALIZABLE'", "tx_isolation = DEFAULT"),
    ("tx_read_only = 1", "tx_read_only = 0"),
    ("sql_mode = ''", "sql_mode = DEFAULT"),
    ("sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH'", "sql_mode = DEFAULT"),
    ("sql_mode = 'TRADITIONAL,ANSI,NO_BACKSLASH_ESCAPES'", "sql_mode = DEFAULT"),
    ("sql_select_limit = 0", "sql_select_limit = DEFAULT"),
    ("sql_safe_updates = 1", "sql_safe_updates = 0"),
    ("max_join_size = 1", "max_join_size = DEFAULT"),
    ("unique_checks = 0", "unique_checks = 1"),
    ("foreign_key_checks = 0", "foreign_key_checks = 1"),
    ("time_zone = '+11:00'", "time_zone = DEFAULT"),
    ("max_statement_time = 0.000001", "max_statement_time = 0"),
    ("max_sort_length = 64", "max_sort_length = DEFAULT"),
    ("sql_auto_is_null = 1", "sql_auto_is_null = 0"),
    ("low_priority_updates = 1", "low_priority_updates = 0"),
    ("init_connect = 'SET autocommit = 0, completion_type = 1, sql_select_limit = 1'", "init_connect = ''"),
    ("init_connect = 'SET NAMES utf8mb3; START TRANSACTION READ ONLY'", "init_connect = ''"),
    ("init_connect = 'SET sql_mode = \"\", wait_timeout = 1, tx_read_only = 1'", "init_connect = ''"),
];

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn every_promise_holds_under_hostile_server_settings() {
    let server = MariaDb::start();
    for (number, (hostile, usual)) in HOSTILE.iter().enumerate() {
        server.sql(&format!("SET GLOBAL {hostile}"));
        keeps_every_promise(&server, hostile, number).await;
        server.sql(&format!("SET GLOBAL {usual}"));
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn the_data_source_name_cannot_switch_a_promise_off() {
    let server = MariaDb::start();
    for set in [
        "completion_type=%27CHAIN%27",
        "sql_select_limit=0&sql_safe_updates=1",
        "tx_isolation=%27SERIALIZABLE%27&tx_read_only=1",
        "sql_mode=%27%27&time_zone=%27%2B11:00%27",
    ] {
        let provider = MySqlProvider::connect(&server.dsn(&format!("pool=1&{set}"))).await.unwrap();
        let (one, two) = (key("one"), key("two"));
        let at = |version| record(&Clock::system()).version(version).build();
        assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Done, "{set}");
        assert_eq!(
            provider.rename(&one, &two, &at(2), 1, Some(&at(1))).await.unwrap(),
            Renamed::Done,
            "{set}"
        );
        assert_eq!(provider.update(&two, &at(3), &base(2)).await.unwrap(), Updated::Done, "{set}");
        assert_eq!(server.sql("SELECT version FROM cloakroom_sessions WHERE id = 'two'"), "3\n", "{set}");
        server.sql("DELETE FROM cloakroom_sessions");
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_connection_whose_clock_stands_still_is_refused() {
    let server = MariaDb::start();
    server.sql("SET GLOBAL init_connect = 'SET timestamp = 1000000000'");
    let error = MySqlProvider::connect(&server.dsn("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the connection's variable timestamp"), "{error}");
}
