//! Beego's `postgres` provider, on a real server.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::{ErrorKind, Manager, ManualClock, PostgresProvider, Released, providers::AnyProvider};
use servers::Postgres;

use super::layout::{self, Layout};
use super::{HOUR, PATIENCE, hex, release, request, unhex, vector};

static SERVER: LazyLock<Postgres> = LazyLock::new(Postgres::start);

/// A table in Beego's layout, created as Beego's documentation says.
struct Table(&'static str);

impl Table {
    fn new(name: &'static str) -> Self {
        let ddl = vector("postgresql-v2.json")["ddl"].as_str().unwrap().to_owned();
        SERVER.sql(&owned(
            &ddl.replace("TABLE session", &format!("TABLE \"{name}\"")).replace("CONSTRAINT session_key", ""),
        ));
        Table(name)
    }

    fn put_hex(&self, key: &str, hex: &str, saved: u64) {
        let name = self.0;
        SERVER.sql(&format!("INSERT INTO \"{name}\" VALUES ('{key}', '\\x{hex}', to_timestamp({saved}) AT TIME ZONE 'UTC') \
             ON CONFLICT (session_key) DO UPDATE SET session_data = excluded.session_data, session_expiry = excluded.session_expiry"));
    }

    fn column(&self, what: &str, key: &str) -> Option<String> {
        let name = self.0;
        let answer = SERVER.sql(&format!("SELECT {what} FROM \"{name}\" WHERE session_key = '{key}'"));
        answer.lines().next().map(|line| line.trim().to_owned())
    }
}

/// The time of the last save in seconds, in a zone that shows UTC.
const SAVED: &str = "floor(extract(epoch FROM session_expiry))";

/// Returns `ddl` run by the role of the tests.
fn owned(ddl: &str) -> String {
    format!("SET ROLE {}; {ddl}", Postgres::USER)
}

/// Returns the key of a sample, which is shown in brackets and with the blanks of its column.
fn key_of(row: &serde_json::Value) -> &str {
    row["key_padded_char64"].as_str().unwrap().trim_matches(['[', ']']).trim_end()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Layout for Table {
    async fn provider(&self, time: &ManualClock) -> AnyProvider {
        let builder = PostgresProvider::builder(SERVER.url("")).table(self.0);
        builder
            .clock(time.clock())
            .connect_timeout(PATIENCE)
            .deadline(PATIENCE)
            .connect_beego(HOUR)
            .await
            .unwrap()
    }

    async fn put(&self, key: &str, value: &[u8], used: SystemTime) {
        self.put_hex(key, &hex(value), seconds(used));
    }

    async fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.column("'x' || encode(session_data, 'hex')", key).map(|found| unhex(&found[1..]))
    }

    async fn used(&self, key: &str) -> SystemTime {
        let saved: u64 = self.column(SAVED, key).unwrap().parse().unwrap();
        UNIX_EPOCH + Duration::from_secs(saved)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn postgres_passes_every_case_of_the_layout() {
    layout::every_case(&Table::new("every_case")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn captured_rows_are_read_and_written_in_their_layout() {
    // The default name of the table in Beego and here.
    let table = Table::new("session");
    let json = format!(
        r#"{{"cookieName":"gosessionid","gclifetime":3600,"secure":false,"deadline":60,"format":"beego","providerConfig":{:?}}}"#,
        SERVER.url("connect_timeout=60")
    );
    let manager = Manager::new("postgresql", &json).await.unwrap();
    let now = seconds(SystemTime::now());
    for name in ["postgresql-v1.4.json", "postgresql-v2.json"] {
        for row in vector(name)["rows"].as_array().unwrap() {
            let (key, value) = (key_of(row), row["hex"].as_str().unwrap());
            table.put_hex(key, value, now);
            let session = request(&manager, key).await;
            layout::is_as_the_samples_say(&session, row["session"].as_str().unwrap());
            session.set("beside", [1, 2]).unwrap();
            assert_eq!(release(&session).await.0, Released::Saved);
            let session = request(&manager, key).await;
            session.delete("beside").unwrap();
            assert_eq!(release(&session).await.0, Released::Saved);
            assert_eq!(table.column("encode(session_data, 'hex')", key).unwrap(), value);
            let saved: u64 = table.column(SAVED, key).unwrap().parse().unwrap();
            assert!((now..now + 60).contains(&saved));
        }
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 8);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn beego_rows_are_moved_to_native_sessions_once() {
    // Another test uses a table of that name, too.
    let server = Postgres::start();
    let ddl = vector("postgresql-v2.json")["ddl"].as_str().unwrap().to_owned();
    server.sql(&owned(&ddl));
    let json = |settings: &str| {
        format!(
            r#"{{"cookieName":"gosessionid","maxLifetime":3600,"secure":false,"deadline":60,"providerConfig":{:?},{settings}}}"#,
            server.url("connect_timeout=60")
        )
    };
    let rows = || server.sql("SELECT session_key FROM session ORDER BY session_key");
    let now = seconds(SystemTime::now());
    let row = |key: &str, hex: &str, saved: u64| {
        server.sql(&format!(
            "INSERT INTO session VALUES ('{key}', '\\x{hex}', to_timestamp({saved}) AT TIME ZONE 'UTC')"
        ));
    };
    let samples = vector("postgresql-v1.4.json");
    let sample = |what: &str| {
        let rows = samples["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["session"] == what).unwrap();
        (key_of(row).to_owned(), row["hex"].as_str().unwrap().to_owned())
    };
    let ((several, several_hex), (one, one_hex)) = (sample("several"), sample("one"));
    let (expired, ended) = ("ab".repeat(20), "cd".repeat(20));
    row(&several, &several_hex, now);
    row(&one, &one_hex, now);
    row(&expired, &one_hex, now - 3601);
    row(&ended, &one_hex, now);

    let moving = json(r#""migrateFrom":"beego","hashIds":true,"absoluteTimeout":28800"#);
    let managers = [
        Manager::new("postgresql", &moving).await.unwrap(),
        Manager::new("postgresql", &moving).await.unwrap(),
    ];
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
    session.authenticate(cloakroom::Principal::new("bob").unwrap()).unwrap();
    assert_eq!(release(&session).await.0, Released::Regenerated, "now it can all that a native one can");

    // Parallel requests move it once, and all find it.
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (manager, one) = (managers[task % 2].clone(), one.clone());
            tokio::spawn(async move {
                let session = request(&manager, &one).await;
                assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
                session.set(&format!("own {task}"), task).unwrap();
                release(&session).await
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        let (released, id) = task.await.unwrap();
        assert_eq!(released, Released::Saved);
        ids.extend(id);
    }
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn any_table_name_works_and_foreign_rows_are_ignored() {
    // The name is an SQL keyword. A column that Beego leaves NULL may be NULL.
    let table = Table::new("order");
    let time = ManualClock::starting_at(super::noon());
    let manager = layout::manager(&table, &time).await;
    let used = seconds(super::noon());
    let empty = "ab".repeat(16);
    SERVER.sql(&format!(
        "INSERT INTO \"order\" VALUES ('{empty}', NULL, to_timestamp({used}) AT TIME ZONE 'UTC')"
    ));
    let session = request(&manager, &empty).await;
    assert!(session.is_empty().unwrap() && session.id().is_some());
    session.set("n", 1).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    assert_eq!(request(&manager, &empty).await.get::<u8>("n").unwrap(), Some(1));

    // Keys that no request can present are ignored, even if a page has only such keys.
    for (place, key) in ["a/b", "a c", "a.d", "b/e", "b c"].iter().enumerate() {
        let used = used - place as u64;
        SERVER.sql(&format!(
            "INSERT INTO \"order\" VALUES ('{key}', '', to_timestamp({used}) AT TIME ZONE 'UTC')"
        ));
    }
    let last = "cd".repeat(16);
    table.put(&last, b"", super::noon()).await;
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        use cloakroom::Provider;
        let page = manager.provider().scan(cursor, 2).await.unwrap();
        listed.extend(page.entries.into_iter().map(|listed| listed.key.as_str().to_owned()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, [empty.clone(), last.clone()]);

    // An unreadable row is put aside, is not counted, and is removed after its lifetime.
    table.put(&last, b"no gob", super::noon()).await;
    let before = manager.active_sessions().await.unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("cookie", format!("gosessionid={last}").parse().unwrap());
    assert_eq!(manager.start(&headers).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(manager.active_sessions().await.unwrap(), before - 1);
    assert_eq!(table.value(&format!("!{last}")).await.as_deref(), Some(&b"no gob"[..]));
    time.advance(HOUR);
    let _ = manager.collect_garbage().await.unwrap();
    assert_eq!(table.value(&format!("!{last}")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_time_is_the_go_servers_wall_clock() {
    use cloakroom::Provider;
    use cloakroom::providers::{StoreKey, Touched};
    let sample = vector("postgresql-v2-TZ-Asia-Shanghai.json");
    let (wall, utc) = (sample["session_expiry"].as_str().unwrap(), sample["utc_now"].as_str().unwrap());
    let table = Table::new("shanghai");
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
