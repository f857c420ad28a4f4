//! Beego's `postgres` provider, on a real server.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use cloakroom::{ErrorKind, ManualClock, PostgresProvider, providers::AnyProvider};
use serde_json::Value;
use servers::Postgres;

use super::layout;
use super::sql::{self, BeegoServer, Table};
use super::{HOUR, PATIENCE, vector};

static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start);

impl BeegoServer for Postgres {
    const NAME: &str = "postgresql";
    const DATA: &str = "'x' || encode(session_data, 'hex')";
    // The zone of the connection shows UTC.
    const SAVED: &str = "floor(extract(epoch FROM session_expiry))";

    fn start() -> Self {
        Postgres::start()
    }

    fn sql(&self, statements: &str) -> String {
        self.sql(statements)
    }

    fn url(&self) -> String {
        self.url("connect_timeout=60")
    }

    fn quoted(name: &str) -> String {
        format!("\"{name}\"")
    }

    fn creation(ddl: &str, name: &str) -> String {
        let ddl = ddl.replace("TABLE session", &format!("TABLE {}", Self::quoted(name)));
        // A constraint has an index of that name, and two tables share a name of neither.
        let ddl = ddl.replace("CONSTRAINT session_key", &format!("CONSTRAINT {name}_key"));
        format!("SET ROLE {}; {ddl}", Postgres::USER)
    }

    fn bytes(hex: &str) -> String {
        format!("'\\x{hex}'")
    }

    fn time(seconds: u64) -> String {
        format!("to_timestamp({seconds}) AT TIME ZONE 'UTC'")
    }

    /// A sample shows its key in brackets and with the blanks of its column.
    fn key(row: &Value) -> &str {
        row["key_padded_char64"].as_str().unwrap().trim_matches(['[', ']']).trim_end()
    }

    async fn provider(&self, table: &str, time: &ManualClock) -> AnyProvider {
        let builder = PostgresProvider::builder(self.url("")).table(table).clock(time.clock());
        builder.connect_timeout(PATIENCE).deadline(PATIENCE).connect_beego(HOUR).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn postgres_passes_every_case_of_the_layout() {
    layout::every_case(&Table::new(&*SERVER, "every_case")).await;
}

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn sessions_in_postgres_move_to_sqlite_and_postgres() {
    super::stores::move_to_sqlite_and_postgres(&Table::new(&*SERVER, "to_other_stores")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn captured_rows_are_read_and_written_in_their_layout() {
    sql::captured_rows_are_read_and_written_in_their_layout(&*SERVER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn beego_rows_are_moved_to_native_sessions_once() {
    sql::beego_rows_are_moved_to_native_sessions_once::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn any_table_name_works_and_foreign_rows_are_ignored() {
    sql::any_table_name_works_and_foreign_rows_are_ignored(&*SERVER).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_change_beside_a_removal_finds_the_session_gone() {
    use cloakroom::Provider;
    use cloakroom::providers::{StoreKey, Updated};
    use layout::Layout;
    let table = Table::new(&*SERVER, "beside");
    let provider = table.provider(&ManualClock::starting_at(super::noon())).await;
    let key: StoreKey = "ab".repeat(16).parse().unwrap();
    table.put(key.as_str(), &super::unhex(super::EMPTY), super::noon()).await;
    let stored = provider.load(&key).await.unwrap().unwrap();
    let mut other = SERVER.client();
    other.run("BEGIN");
    assert_eq!(other.ask("DELETE FROM beside RETURNING 'deleted'"), "deleted");
    let change = tokio::spawn(async move { provider.update(&key, &stored, &stored).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%beside%'";
    servers::until(PATIENCE, "the change waits for the removal", || {
        (SERVER.sql(waits).trim() == "1").then_some(())
    });
    other.run("COMMIT");
    assert_eq!(change.await.unwrap().unwrap(), Updated::Gone);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_time_is_the_go_servers_wall_clock() {
    use cloakroom::Provider;
    use cloakroom::providers::{StoreKey, Touched};
    let sample = vector("postgresql-v2-TZ-Asia-Shanghai.json");
    let (wall, utc) = (sample["session_expiry"].as_str().unwrap(), sample["utc_now"].as_str().unwrap());
    let table = Table::new(&*SERVER, "shanghai");
    let key = "ab".repeat(16);
    SERVER.sql(&format!("INSERT INTO shanghai VALUES ('{key}', '\\x{}', '{wall}')", super::EMPTY));
    let epoch = SERVER.sql(&format!("SELECT extract(epoch FROM timestamp '{utc}')::bigint"));
    let saved = UNIX_EPOCH + Duration::from_secs(epoch.trim().parse().unwrap());
    let key: StoreKey = key.parse().unwrap();
    let ends = async |builder: cloakroom::providers::PostgresProviderBuilder| {
        let time = ManualClock::starting_at(saved + Duration::from_secs(600));
        let provider = builder.table("shanghai").clock(time.clock()).connect_beego(HOUR).await.unwrap();
        provider.load(&key).await.unwrap().unwrap().expires()
    };
    let zones = [
        PostgresProvider::builder(SERVER.url("")).time_zone("Asia/Shanghai"),
        PostgresProvider::builder(SERVER.url("timezone=Asia%2FShanghai")),
    ];
    for builder in zones {
        assert_eq!(ends(builder).await, saved + HOUR);
    }
    assert_eq!(ends(PostgresProvider::builder(SERVER.url(""))).await, saved + 9 * HOUR, "in UTC it is ahead");
    let error = PostgresProvider::builder(SERVER.url("")).time_zone("Mars/Olympus").table("shanghai");
    let error = error.connect_beego(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the time zone"), "{error}");

    // A write has that zone's time, too.
    let time = ManualClock::starting_at(saved + Duration::from_secs(600));
    let builder = PostgresProvider::builder(SERVER.url("")).time_zone("Asia/Shanghai").table("shanghai");
    let provider = builder.clock(time.clock()).connect_beego(HOUR).await.unwrap();
    assert_eq!(provider.touch(&key, time.clock().now()).await.unwrap(), Touched::Done);
    assert_eq!(table.column("session_expiry", key.as_str()).unwrap(), "2026-11-23 04:51:27");
}
