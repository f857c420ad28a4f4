//! The old stores in real databases, with rows as the peers wrote them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::migration::{AxumSessions, MigrationSource, OldRecords, OldTable, TowerSessions};
use cloakroom::{ErrorKind, Manager, MySqlProvider, PostgresProvider, RedisProvider, SqliteProvider};
use rusqlite::Connection;
use servers::{MariaDb, Postgres, Redis};

use super::peers::{Sample, is_filled, key, manager};
use super::release;

/// A generous deadline, since no case is about slowness and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Returns the time in an hour, in seconds.
fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600
}

/// Moves the session of a sample.
async fn moves(sample: &Sample, source: impl Into<MigrationSource>) {
    let manager = manager(source);
    let session = manager.start(&sample.headers).await.unwrap();
    is_filled(&session, &sample.case);
    assert!(release(&session).await.1.is_some());
}

/// Moves a row of tower-sessions and one of axum_session. `put` gets statements that work in every SQL database; `bytes` writes bytes.
async fn moves_from_sql(
    put: impl Fn(&str),
    bytes: impl Fn(&[u8]) -> String,
    open: impl AsyncFn(OldTable) -> OldRecords,
    (tower, axum): (&str, &str),
) {
    let sample = Sample::of("tower-sessions", "signed");
    let (id, record) = &sample.stored[0];
    put(&format!(
        "INSERT INTO {tower} (id, data, expiry_date) VALUES ('{id}', {}, '2099-01-01 00:00:00')",
        bytes(record)
    ));
    let table = OldTable::tower_sessions().named(tower);
    moves(&sample, TowerSessions::new(open(table).await).signed(key())).await;

    let sample = Sample::of("axum_session", "encrypted");
    let (id, text) = (sample.stored[0].0.strip_prefix("sessions:").unwrap(), &sample.stored[0].1);
    let text = std::str::from_utf8(text).unwrap();
    let row = |expires: u64| {
        format!("INSERT INTO {axum} (id, expires, session) VALUES ('{id}', {expires}, '{text}')")
    };
    put(&row(1));
    let old = AxumSessions::new(open(OldTable::axum_session().named(axum)).await).database_key(key());
    let expired = manager(old.clone()).start(&sample.headers).await.unwrap();
    assert!(expired.is_empty().unwrap(), "the row has expired");
    put(&format!("DELETE FROM {axum}"));
    put(&row(in_an_hour()));
    moves(&sample, old).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn redis_gives_up_the_sessions_of_its_peers() {
    let server = Redis::start();
    let put = |sample: &Sample| {
        let (key, value) = &sample.stored[0];
        let mut set = ::redis::cmd("SET");
        set.arg(key).arg(value).arg("EX").arg(3600);
        set.query::<()>(&mut server.connection()).unwrap();
    };
    let builder = || RedisProvider::builder(server.url()).call_timeout(PATIENCE);
    let sample = Sample::of("tower-sessions", "signed");
    put(&sample);
    moves(&sample, TowerSessions::new(builder().connect_old().await.unwrap()).signed(key())).await;
    let sample = Sample::of("axum_session", "long");
    put(&sample);
    moves(&sample, AxumSessions::redis(builder().connect_old().await.unwrap())).await;
    assert_eq!(server.ask::<u64>(&["DBSIZE"]), 0, "the old keys are deleted");

    let json = format!(
        r#"{{"cookieName":"__Host-id","hashIds":true,"deadline":60,"migrateFrom":{{"library":"axum_session","store":"redis",
            "address":{:?},"userKey":"text"}}}}"#,
        server.url()
    );
    put(&sample);
    let manager = Manager::new("memory", &json).await.unwrap();
    let session = manager.start(&sample.headers).await.unwrap();
    is_filled(&session, "by the configuration string");
    assert_eq!(session.principal().unwrap().as_str(), "Grüße, \"世界\"");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn postgres_gives_up_the_sessions_of_its_peers() {
    let server = Postgres::start();
    let put = |sql: &str| drop(server.sql(&format!("SET ROLE {}; {sql}", Postgres::USER)));
    put(
        "CREATE TABLE session (id text primary key not null, data bytea not null, expiry_date timestamptz not null)",
    );
    put(
        "CREATE TABLE sessions (id varchar(128) primary key not null, expires bigint null, session text not null)",
    );
    let builder = || PostgresProvider::builder(server.url("connect_timeout=60")).deadline(PATIENCE);
    let open = async |table| builder().connect_old(table).await.unwrap();
    moves_from_sql(put, |bytes| format!("'\\x{}'", hex(bytes)), open, ("session", "sessions")).await;
    let missing = builder().connect_old(OldTable::tower_sessions()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    let odd = builder().connect_old(OldTable::tower_sessions().named("a\"; DROP")).await.unwrap_err();
    assert!(odd.to_string().contains("the old table"), "{odd}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn mariadb_gives_up_the_sessions_of_its_peers() {
    let server = MariaDb::start();
    let put = |sql: &str| drop(server.sql(sql));
    put(
        "CREATE TABLE session (id char(22) primary key not null, data blob not null, expiry_date timestamp(6) not null)",
    );
    put(
        "CREATE TABLE sessions (id varchar(128) primary key not null, expires bigint null, session text not null)",
    );
    // A column of that type ends in 2038.
    let put = |sql: &str| drop(server.sql(&sql.replace("2099", "2037")));
    let open = async |table| {
        MySqlProvider::builder(server.dsn("")).deadline(PATIENCE).connect_old(table).await.unwrap()
    };
    moves_from_sql(put, |bytes| format!("x'{}'", hex(bytes)), open, ("session", "sessions")).await;
    let missing = MySqlProvider::builder(server.dsn("")).connect_old(OldTable::tower_sessions()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_gives_up_the_sessions_of_its_peers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.sqlite");
    let connection = Connection::open(&path).unwrap();
    let put = |sql: &str| assert!(connection.execute(sql, ()).is_ok(), "{sql}");
    put(
        "CREATE TABLE tower_sessions (id text primary key not null, data blob not null, expiry_date integer not null)",
    );
    put(
        "CREATE TABLE sessions (id varchar(128) primary key not null, expires integer null, session text not null)",
    );
    let open =
        async |table| SqliteProvider::builder(&path).deadline(PATIENCE).connect_old(table).await.unwrap();
    moves_from_sql(put, |bytes| format!("x'{}'", hex(bytes)), open, ("tower_sessions", "sessions")).await;
    let left: i64 =
        connection.query_row("SELECT count(*) FROM tower_sessions", (), |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "the old row is deleted");
    let missing =
        SqliteProvider::builder(folder.path().join("none")).connect_old(OldTable::axum_session()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Config);
}
