//! Roles whose settings would break a promise if a connection kept them.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, ErrorKind, PostgresProvider, Principal, Provider,
    providers::{Collected, Created, IndexEntry, Renamed, StoreKey, Touched, Updated},
};
use servers::{PgBouncer, Postgres};

use crate::server::{a_table, shared};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

/// Runs every step on a table of its own, and checks with another connection that each was committed.
pub(crate) async fn keeps_every_promise(server: &Postgres, url: &str, setting: &str) {
    let table = a_table();
    let builder = PostgresProvider::builder(url)
        .table(&table)
        .deadline(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(10));
    let provider = builder.connect().await.unwrap_or_else(|error| panic!("{setting}: {error}"));
    let clock = Clock::system();
    let at = |version| record(&clock).version(version).principal("alice").value("n", version).build();
    let stored =
        |id: &str| server.sql(&format!("SELECT version FROM {table} WHERE id = '{id}'")).trim().to_owned();
    let (one, two) = (key("one"), key("two"));
    assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Done, "{setting}");
    assert_eq!(stored("one"), "1", "{setting}: a new session is committed");
    assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Taken, "{setting}");
    assert_eq!(provider.load(&one).await.unwrap().map(|found| found.version()), Some(1), "{setting}");
    assert_eq!(provider.update(&one, &at(2), &base(1)).await.unwrap(), Updated::Done, "{setting}");
    assert_eq!(stored("one"), "2", "{setting}: a change is committed");
    assert_eq!(provider.update(&one, &at(3), &base(1)).await.unwrap(), Updated::Stale, "{setting}");
    assert_eq!(provider.update(&two, &at(3), &base(1)).await.unwrap(), Updated::Gone, "{setting}");
    assert_eq!(provider.touch(&one, clock.now()).await.unwrap(), Touched::Done, "{setting}");
    let stone = record(&clock).tombstone(&two, Duration::from_secs(30));
    let renamed = provider.rename(&one, &two, &at(3), 2, Some(&stone)).await.unwrap();
    assert_eq!(renamed, Renamed::Done, "{setting}");
    assert_eq!(stored("two"), "3", "{setting}: a new id is committed");
    assert!(provider.load(&one).await.unwrap().is_some_and(|found| found.is_tombstone()), "{setting}");
    let alice = IndexEntry::from(&Principal::new("alice").unwrap());
    assert_eq!(provider.indexed(&alice, None, 10).await.unwrap().entries.len(), 1, "{setting}");
    assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 1, "{setting}");
    assert_eq!(provider.count().await.unwrap(), 1, "{setting}");
    let over = record(&clock).idle(Duration::from_millis(1)).build();
    assert_eq!(provider.create(&key("over"), &over).await.unwrap(), Created::Done, "{setting}");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let collected = provider.delete_expired(10).await.unwrap();
    assert_eq!(collected, Collected { removed: 1, more: false }, "{setting}");
    assert_eq!(stored("over"), "", "{setting}: a collection is committed");
    assert!(provider.delete(&two).await.unwrap(), "{setting}");
    assert_eq!(stored("two"), "", "{setting}: an end is committed");
}

/// Returns a builder for a busy machine.
fn patient(url: &str) -> cloakroom::providers::PostgresProviderBuilder {
    let limit = Duration::from_secs(20);
    PostgresProvider::builder(url).deadline(limit).connect_timeout(limit)
}

/// Creates a role with `settings`, and returns its URL.
fn role(server: &Postgres, name: &str, settings: &[&str]) -> String {
    server.sql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw' IN ROLE {}", Postgres::USER));
    for setting in settings {
        server.sql(&format!("ALTER ROLE {name} SET {setting}"));
    }
    format!("postgres://{name}:pw@{}/app?pool=1", server.address())
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn every_promise_holds_under_hostile_role_settings() {
    for (number, setting) in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_deferrable = on",
        "session_replication_role = replica",
        "search_path = nowhere, public",
        "timezone = 'Asia/Shanghai'",
        "datestyle = 'German, DMY'",
        "bytea_output = escape",
        "standard_conforming_strings = off",
        "extra_float_digits = -15",
        "lock_timeout = '1h'",
        "statement_timeout = '5s'",
        "idle_in_transaction_session_timeout = 1",
        "plan_cache_mode = force_generic_plan",
        "enable_indexscan = off",
        "row_security = off",
        "client_encoding = LATIN1",
        "lc_messages = 'C'",
    ]
    .iter()
    .enumerate()
    {
        let url = role(shared(), &format!("hostile_{number}"), &[setting]);
        keeps_every_promise(shared(), &url, setting).await;
    }
}

#[tokio::test]
#[ignore = "needs postgres and pgbouncer: cargo xtask test"]
async fn every_promise_holds_behind_a_pooler_too() {
    let pooler = PgBouncer::start(shared(), 2, &[]);
    for params in ["", "prepared_statements=false", "binary_parameters=yes"] {
        keeps_every_promise(shared(), &pooler.url(params), params).await;
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn an_acknowledged_change_survives_a_crash() {
    let mut server = Postgres::start();
    // The server writes nothing on its own for ten seconds.
    server.sql("ALTER SYSTEM SET wal_writer_delay = '10s'");
    server.sql("ALTER SYSTEM SET wal_writer_flush_after = 0");
    server.sql("SELECT pg_reload_conf()");
    let url = role(&server, "careless", &["synchronous_commit = off"]);
    let clock = Clock::system();
    let at = |version| record(&clock).version(version).principal("alice").build();
    for round in 1..=3_u64 {
        let builder = PostgresProvider::builder(&url).table("kept");
        let provider = builder
            .deadline(Duration::from_secs(20))
            .connect_timeout(Duration::from_secs(20))
            .connect()
            .await
            .unwrap();
        let (one, two) = (key(&format!("one-{round}")), key(&format!("two-{round}")));
        let ended = key(&format!("ended-{round}"));
        assert_eq!(provider.create(&ended, &at(1)).await.unwrap(), Created::Done);
        assert_eq!(provider.create(&one, &at(1)).await.unwrap(), Created::Done);
        let stone = record(&clock).tombstone(&two, Duration::from_secs(300));
        assert_eq!(provider.rename(&one, &two, &at(2), 1, Some(&stone)).await.unwrap(), Renamed::Done);
        assert_eq!(provider.update(&two, &at(3), &base(2)).await.unwrap(), Updated::Done);
        assert!(provider.delete(&ended).await.unwrap());
        server.kill();
        server.restart();
        let provider = patient(&url).table("kept").connect().await.unwrap();
        assert_eq!(provider.load(&two).await.unwrap().map(|found| found.version()), Some(3), "{round}");
        assert!(provider.load(&one).await.unwrap().is_some_and(|found| found.is_tombstone()), "{round}");
        assert_eq!(provider.load(&ended).await.unwrap(), None, "{round}: a logout is kept");
    }
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn relaxed_commits_do_not_wait_for_the_disk() {
    let server = Postgres::start();
    let flushes = |url: String| {
        let server = &server;
        async move {
            let provider = PostgresProvider::connect(&url).await.unwrap();
            let record = record(&Clock::system()).build();
            server.sql("SELECT pg_stat_reset_shared('wal')");
            for number in 0..200 {
                let key = key(&format!("key-{number}"));
                assert_eq!(provider.create(&key, &record).await.unwrap(), Created::Done);
            }
            drop(provider);
            // The statistics of a connection are reported when it ends, and some time later at the latest.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            server.sql("SELECT wal_sync FROM pg_stat_wal").trim().parse::<u64>().unwrap()
        }
    };
    let durable = flushes(server.url("pool=1&table=a")).await;
    let relaxed = flushes(server.url("pool=1&table=b&durability=relaxed")).await;
    assert!(durable >= 200, "{durable} flushes for 200 commits");
    assert!(relaxed < 60, "{relaxed} flushes for 200 relaxed commits");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn row_level_security_that_hides_rows_is_refused() {
    let table = a_table();
    let url = role(shared(), "filtered", &[]);
    shared().sql(&crate::server::schema(&table));
    shared().sql(&format!(
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; GRANT ALL ON {table}, {table}_index TO filtered"
    ));
    let error = patient(&url).table(&table).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("row-level security"), "{error}");
    let (_, fix) =
        error.to_string().split_once("; run: ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    shared().sql(&fix);
    assert_eq!(patient(&url).table(&table).connect().await.unwrap().count().await.unwrap(), 0);
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_read_only_role_allows_reads_and_names_the_cause() {
    let table = a_table();
    let url = role(shared(), "reader", &[]);
    let clock = Clock::system();
    let at = |version| record(&clock).version(version).build();
    let first = patient(&url).table(&table).connect().await.unwrap();
    assert_eq!(first.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    shared().sql("ALTER ROLE reader SET default_transaction_read_only = on");
    let provider = patient(&url).table(&table).connect().await.unwrap();
    assert_eq!(provider.load(&key("one")).await.unwrap().map(|found| found.version()), Some(1));
    for error in [
        provider.touch(&key("one"), clock.now()).await.unwrap_err(),
        provider.update(&key("one"), &at(2), &base(1)).await.unwrap_err(),
        provider.create(&key("two"), &at(1)).await.unwrap_err(),
        provider.rename(&key("one"), &key("two"), &at(2), 1, None).await.unwrap_err(),
        provider.delete(&key("one")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("read-only (25006)"), "{error}");
    }
    // The refused statements closed their connections, so the next one has the role's present settings.
    shared().sql("ALTER ROLE reader RESET default_transaction_read_only");
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
}

/// Another user's operators in a schema of `search_path`, which would fit a pair of types better than PostgreSQL's own.
const OPERATORS: &str = "GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC; \
     CREATE FUNCTION public.nothing(float8, int4) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'; \
     CREATE OPERATOR public.* (LEFTARG = float8, RIGHTARG = int4, FUNCTION = public.nothing); \
     CREATE OPERATOR public./ (LEFTARG = float8, RIGHTARG = int4, FUNCTION = public.nothing); \
     CREATE FUNCTION public.never(oid, regclass) RETURNS bool LANGUAGE sql AS 'SELECT false'; \
     CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.never)";

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn operators_of_other_users_are_never_called() {
    let server = Postgres::start();
    server.sql(OPERATORS);
    assert_eq!(server.sql("SELECT 3::float8 * 1000").trim(), "0", "another user's operator fits better");
    keeps_every_promise(&server, &server.url(""), "foreign operators").await;
}
