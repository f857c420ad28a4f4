//! Beego's table, as the SQL servers share it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::{ErrorKind, Manager, ManualClock, Principal, Released, providers::AnyProvider};
use http::HeaderMap;
use serde_json::Value;

use super::layout::{self, Layout};
use super::{HOUR, hex, moving, noon, release, request, unhex, vector};

/// A server with the statements that differ, and the provider of Beego's layout for it.
pub(crate) trait BeegoServer: Sized {
    /// The provider's name in a configuration string, which is also the first word of the vectors' names.
    const NAME: &str;
    /// The column `session_data` in hex, after an `x`.
    const DATA: &str;
    /// The column `session_expiry` in seconds.
    const SAVED: &str;

    fn start() -> Self;

    fn sql(&self, statements: &str) -> String;

    /// Returns the connection string.
    fn url(&self) -> String;

    /// Quotes the name of a table.
    fn quoted(name: &str) -> String;

    /// Returns the statement of Beego's documentation, `ddl`, for the table `name`.
    fn creation(ddl: &str, name: &str) -> String;

    /// Returns a literal of bytes in hex.
    fn bytes(hex: &str) -> String;

    /// Returns a literal of `session_expiry`.
    fn time(seconds: u64) -> String;

    /// Returns the key of a row of the vectors.
    fn key(row: &Value) -> &str;

    async fn provider(&self, table: &str, time: &ManualClock) -> AnyProvider;
}

/// A table in Beego's layout, created as Beego's documentation says.
pub(crate) struct Table<'s, S> {
    pub(crate) server: &'s S,
    name: &'static str,
}

impl<'s, S: BeegoServer> Table<'s, S> {
    pub(crate) fn new(server: &'s S, name: &'static str) -> Self {
        let sample = vector(&format!("{}-v2.json", S::NAME));
        server.sql(&S::creation(sample["ddl"].as_str().unwrap(), name));
        Table { server, name }
    }

    /// Stores a row in place of the one with that key. Its `data` is a literal of SQL.
    fn put_row(&self, key: &str, data: &str, saved: u64) {
        let (name, saved) = (S::quoted(self.name), S::time(saved));
        self.server.sql(&format!(
            "DELETE FROM {name} WHERE session_key = '{key}'; INSERT INTO {name} VALUES ('{key}', {data}, {saved})"
        ));
    }

    fn put_hex(&self, key: &str, hex: &str, saved: u64) {
        self.put_row(key, &S::bytes(hex), saved);
    }

    pub(crate) fn column(&self, what: &str, key: &str) -> Option<String> {
        let name = S::quoted(self.name);
        let answer = self.server.sql(&format!("SELECT {what} FROM {name} WHERE session_key = '{key}'"));
        answer.lines().next().map(|line| line.trim().to_owned())
    }

    fn data(&self, key: &str) -> Option<String> {
        self.column(S::DATA, key).map(|found| found.strip_prefix('x').unwrap().to_owned())
    }

    fn saved(&self, key: &str) -> Option<u64> {
        self.column(S::SAVED, key).map(|found| found.parse().unwrap())
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl<S: BeegoServer> Layout for Table<'_, S> {
    async fn provider(&self, time: &ManualClock) -> AnyProvider {
        self.server.provider(self.name, time).await
    }

    async fn put(&self, key: &str, value: &[u8], used: SystemTime) {
        self.put_hex(key, &hex(value), seconds(used));
    }

    async fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.data(key).map(|found| unhex(&found))
    }

    async fn used(&self, key: &str) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.saved(key).unwrap())
    }
}

pub(crate) async fn captured_rows_are_read_and_written_in_their_layout<S: BeegoServer>(server: &S) {
    // The default name of the table in Beego and here.
    let table = Table::new(server, "session");
    let json = format!(
        r#"{{"cookieName":"gosessionid","gclifetime":3600,"secure":false,"deadline":60,"format":"beego","providerConfig":{:?}}}"#,
        server.url()
    );
    let manager = Manager::new(S::NAME, &json).await.unwrap();
    let now = seconds(SystemTime::now());
    for release in ["v1.4", "v2"] {
        for row in vector(&format!("{}-{release}.json", S::NAME))["rows"].as_array().unwrap() {
            let (key, value) = (S::key(row), row["hex"].as_str().unwrap());
            table.put_hex(key, value, now);
            layout::a_sample_is_changed_and_restored(&manager, key, row["session"].as_str().unwrap()).await;
            assert_eq!(table.data(key).unwrap(), value);
            assert!((now..now + 60).contains(&table.saved(key).unwrap()));
        }
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 8);
}

pub(crate) async fn beego_rows_are_moved_to_native_sessions_once<S: BeegoServer>() {
    // Another test uses a table of that name, too.
    let server = S::start();
    let table = Table::new(&server, "session");
    let json = |settings: &str| {
        format!(
            r#"{{"cookieName":"gosessionid","maxLifetime":3600,"secure":false,"deadline":60,"providerConfig":{:?},{settings}}}"#,
            server.url()
        )
    };
    let rows = || server.sql("SELECT session_key FROM session ORDER BY session_key");
    let now = seconds(SystemTime::now());
    let samples = vector(&format!("{}-v1.4.json", S::NAME));
    let sample = |what: &str| {
        let rows = samples["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["session"] == what).unwrap();
        (S::key(row).to_owned(), row["hex"].as_str().unwrap().to_owned())
    };
    let ((several, several_hex), (one, one_hex)) = (sample("several"), sample("one"));
    let (expired, ended) = ("ab".repeat(20), "cd".repeat(20));
    table.put_hex(&several, &several_hex, now);
    table.put_hex(&one, &one_hex, now);
    table.put_hex(&expired, &one_hex, now - 3601);
    table.put_hex(&ended, &one_hex, now);

    let settings = json(r#""migrateFrom":"beego","hashIds":true,"absoluteTimeout":28800"#);
    let managers =
        [Manager::new(S::NAME, &settings).await.unwrap(), Manager::new(S::NAME, &settings).await.unwrap()];
    let manager = &managers[0];
    // A request that only reads moves it with its values to a new id, and deletes the old row.
    let session = request(manager, &several).await;
    layout::is_as_the_samples_say(&session, "several");
    let (released, id) = release(&session).await;
    let id = id.unwrap();
    assert_eq!((released, id != several), (Released::Unchanged, true));
    assert!(!rows().contains(&several), "its old row is removed");
    assert!(rows().contains(&one), "the others wait until they are used");
    let session = request(&managers[1], &id).await;
    layout::is_as_the_samples_say(&session, "several");
    session.authenticate(Principal::new("bob").unwrap()).unwrap();
    assert_eq!(release(&session).await.0, Released::Regenerated, "now it can all that a native one can");

    // Parallel requests move it once, and all find it.
    let ids = moving::in_parallel(&managers, &one, 8).await;
    assert_eq!(request(manager, &ids[0]).await.len().unwrap(), 1 + 8);
    assert!(!rows().contains(&one));
    assert_eq!(manager.active_sessions().await.unwrap(), 2);

    // An expired session is not moved. A session that is ended is deleted in the old table, too.
    assert!(request(manager, &expired).await.id().is_none());
    let logout = request(manager, &ended).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    assert!(request(manager, &ended).await.id().is_none());
    assert_eq!(manager.active_sessions().await.unwrap(), 2);
    let removed = manager.collect_garbage().await.unwrap();
    assert!(removed >= 1);
    assert_eq!(rows().trim(), "", "what was not moved in its time is collected");
    assert_eq!(request(manager, &ids[0]).await.len().unwrap(), 1 + 8, "and nothing else");
}

pub(crate) async fn any_table_name_works_and_foreign_rows_are_ignored(server: &impl BeegoServer) {
    // The name is an SQL keyword. A column that Beego leaves NULL may be NULL.
    let table = Table::new(server, "order");
    let time = ManualClock::starting_at(noon());
    let manager = layout::manager(&table, &time).await;
    let used = seconds(noon());
    let empty = "ab".repeat(16);
    table.put_row(&empty, "NULL", used);
    let session = request(&manager, &empty).await;
    assert!(session.is_empty().unwrap() && session.id().is_some());
    session.set("n", 1).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    assert_eq!(request(&manager, &empty).await.get::<u8>("n").unwrap(), Some(1));

    // Keys that no request can present are ignored, even if a page has only such keys.
    for (place, key) in ["a/b", "a c", "a.d", "b/e", "b c"].iter().enumerate() {
        table.put_row(key, "''", used - place as u64);
    }
    let last = "cd".repeat(16);
    table.put(&last, b"", noon()).await;
    let listed = layout::listed(&manager).await;
    assert_eq!(listed, [empty.clone(), last.clone()]);

    // An unreadable row is put aside, is not counted, and is removed after its lifetime.
    table.put(&last, b"no gob", noon()).await;
    let before = manager.active_sessions().await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("cookie", format!("gosessionid={last}").parse().unwrap());
    assert_eq!(manager.start(&headers).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(manager.active_sessions().await.unwrap(), before - 1);
    assert_eq!(table.value(&format!("!{last}")).await.as_deref(), Some(&b"no gob"[..]));
    time.advance(HOUR);
    let _ = manager.collect_garbage().await.unwrap();
    assert_eq!(table.value(&format!("!{last}")).await, None);
}
