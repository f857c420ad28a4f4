//! Beego's `mysql` provider, on a real server.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::{ErrorKind, Manager, ManualClock, MySqlProvider, Released, providers::AnyProvider};
use servers::MariaDb;

use super::layout::{self, Layout};
use super::{HOUR, PATIENCE, hex, release, request, unhex, vector};

static SERVER: LazyLock<MariaDb> = LazyLock::new(MariaDb::start);

/// A table in Beego's layout, created as Beego's documentation says.
struct Table(&'static str);

impl Table {
    fn new(name: &'static str) -> Self {
        let ddl = vector("mysql-v2.json")["ddl"].as_str().unwrap().replace("`session`", &format!("`{name}`"));
        SERVER.sql(&ddl);
        Table(name)
    }

    fn put_hex(&self, key: &str, hex: &str, saved: u64) {
        let name = self.0;
        SERVER.sql(&format!("REPLACE INTO `{name}` VALUES ('{key}', x'{hex}', {saved})"));
    }

    fn column(&self, what: &str, key: &str) -> Option<String> {
        let name = self.0;
        let answer = SERVER.sql(&format!("SELECT {what} FROM `{name}` WHERE session_key = '{key}'"));
        answer.lines().next().map(|line| line.trim().to_owned())
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Layout for Table {
    async fn provider(&self, time: &ManualClock) -> AnyProvider {
        let builder = MySqlProvider::builder(SERVER.dsn("")).table(self.0);
        builder.clock(time.clock()).deadline(PATIENCE).connect_beego(HOUR).await.unwrap()
    }

    async fn put(&self, key: &str, value: &[u8], used: SystemTime) {
        self.put_hex(key, &hex(value), seconds(used));
    }

    async fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.column("CONCAT('x', HEX(session_data))", key).map(|found| unhex(&found[1..]))
    }

    async fn used(&self, key: &str) -> SystemTime {
        let saved: u64 = self.column("session_expiry", key).unwrap().parse().unwrap();
        UNIX_EPOCH + Duration::from_secs(saved)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn mysql_passes_every_case_of_the_layout() {
    layout::every_case(&Table::new("every_case")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn captured_rows_are_read_and_written_in_their_layout() {
    // The default name of the table in Beego and here.
    let table = Table::new("session");
    let json = format!(
        r#"{{"cookieName":"gosessionid","gclifetime":3600,"secure":false,"deadline":60,"format":"beego","providerConfig":{:?}}}"#,
        SERVER.dsn("")
    );
    let manager = Manager::new("mysql", &json).await.unwrap();
    let now = seconds(SystemTime::now());
    for name in ["mysql-v1.4.json", "mysql-v2.json"] {
        for row in vector(name)["rows"].as_array().unwrap() {
            let (key, value) = (row["key"].as_str().unwrap(), row["hex"].as_str().unwrap());
            table.put_hex(key, value, now);
            let session = request(&manager, key).await;
            layout::is_as_the_samples_say(&session, row["session"].as_str().unwrap());
            session.set("beside", [1, 2]).unwrap();
            assert_eq!(release(&session).await.0, Released::Saved);
            let session = request(&manager, key).await;
            session.delete("beside").unwrap();
            assert_eq!(release(&session).await.0, Released::Saved);
            assert_eq!(table.column("HEX(session_data)", key).unwrap(), value);
            let saved: u64 = table.column("session_expiry", key).unwrap().parse().unwrap();
            assert!((now..now + 60).contains(&saved));
        }
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 8);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_session_larger_than_the_blob_is_refused_unsent() {
    let table = Table::new("too_large");
    let time = ManualClock::starting_at(super::noon());
    let manager = Manager::builder(table.provider(&time).await)
        .cookie_name(super::COOKIE_NAME)
        .codec(cloakroom::config::Codec::GOB)
        .idle_timeout(HOUR)
        .absolute_timeout(None)
        .danger_store_ids_in_clear()
        .max_bytes(1 << 20)
        .clock(time.clock())
        .build()
        .unwrap();
    let session = request(&manager, "").await;
    session.set("n", 1).unwrap();
    let id = release(&session).await.1.unwrap();
    let before = table.value(&id).await.unwrap();
    let session = request(&manager, &id).await;
    session.set("big", "x".repeat(70_000)).unwrap();
    let error = session.release(&mut http::HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(table.value(&id).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn keys_that_the_column_considers_equal_are_distinct() {
    let table = Table::new("collation");
    let time = ManualClock::starting_at(super::noon());
    let manager = layout::manager(&table, &time).await;
    let id = "ab".repeat(16);
    table.put(&id.to_uppercase(), b"", super::noon()).await;
    assert!(request(&manager, &id).await.id().is_none(), "the column says that they are one key");
    let missing = MySqlProvider::builder(SERVER.dsn("")).table("nobody");
    let error = missing.connect_beego(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("expected Beego's table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn beego_rows_are_moved_to_native_sessions_once() {
    // Another test uses a table of that name, too.
    let server = MariaDb::start();
    let ddl = vector("mysql-v2.json")["ddl"].as_str().unwrap().to_owned();
    server.sql(&ddl);
    let json = |settings: &str| {
        format!(
            r#"{{"cookieName":"gosessionid","maxLifetime":3600,"secure":false,"deadline":60,"providerConfig":{:?},{settings}}}"#,
            server.dsn("")
        )
    };
    let rows = || server.sql("SELECT session_key FROM session ORDER BY session_key");
    let now = seconds(SystemTime::now());
    let row = |key: &str, hex: &str, saved: u64| {
        server.sql(&format!("INSERT INTO session VALUES ('{key}', x'{hex}', {saved})"));
    };
    let samples = vector("mysql-v1.4.json");
    let sample = |what: &str| {
        let rows = samples["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["session"] == what).unwrap();
        (row["key"].as_str().unwrap().to_owned(), row["hex"].as_str().unwrap().to_owned())
    };
    let ((several, several_hex), (one, one_hex)) = (sample("several"), sample("one"));
    let (expired, ended) = ("ab".repeat(20), "cd".repeat(20));
    row(&several, &several_hex, now);
    row(&one, &one_hex, now);
    row(&expired, &one_hex, now - 3601);
    row(&ended, &one_hex, now);

    let moving = json(r#""migrateFrom":"beego","hashIds":true,"absoluteTimeout":28800"#);
    let managers =
        [Manager::new("mysql", &moving).await.unwrap(), Manager::new("mysql", &moving).await.unwrap()];
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
#[ignore = "needs mariadbd: cargo xtask test"]
async fn any_table_name_works_and_foreign_rows_are_ignored() {
    // The name is an SQL keyword. A column that Beego leaves NULL may be NULL.
    let table = Table::new("order");
    let time = ManualClock::starting_at(super::noon());
    let manager = layout::manager(&table, &time).await;
    let used = seconds(super::noon());
    let empty = "ab".repeat(16);
    SERVER.sql(&format!("INSERT INTO `order` VALUES ('{empty}', NULL, {used})"));
    let session = request(&manager, &empty).await;
    assert!(session.is_empty().unwrap() && session.id().is_some());
    session.set("n", 1).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    assert_eq!(request(&manager, &empty).await.get::<u8>("n").unwrap(), Some(1));

    // Keys that no request can present are ignored, even if a page has only such keys.
    for (place, key) in ["a/b", "a c", "a.d", "b/e", "b c"].iter().enumerate() {
        SERVER.sql(&format!("INSERT INTO `order` VALUES ('{key}', '', {})", used - place as u64));
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
