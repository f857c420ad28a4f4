//! The promises about concurrency, and about responses without a cookie, over HTTP against the real program. Each runs
//! on memory, files, SQLite, MariaDB, PostgreSQL and Redis, and on all but memory also with two processes.

#[path = "promises/site.rs"]
mod site;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use site::Site;
use support::{Answer, Client, Server, eventually};
use tokio::task::{JoinHandle, JoinSet};

async fn a_hundred_parallel_increments_make_a_hundred(site: Site) {
    let mut client = site.client();
    client.login("alice").await;
    let mut tasks = JoinSet::new();
    for turn in 0..100 {
        let mut client = client.at(site.server(turn));
        tasks.spawn(async move {
            let answer = client.post("/api/session/data/n/increment", "").await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.body.parse::<u32>().expect("a bare number")
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers, Vec::from_iter(1..=100), "each increment answers a number of its own");
    client.get("/api/session/data/n").await.is(json!(100));
}

async fn a_hundred_parallel_puts_of_different_keys_leave_a_hundred(site: Site) {
    let mut client = site.client();
    client.login("alice").await;
    let mut tasks = JoinSet::new();
    for turn in 0..100 {
        let mut client = client.at(site.server(turn));
        // The pause makes every request load the session before the first one commits.
        let path = format!("/api/session/data/key-{turn:02}?delay=300");
        tasks.spawn(async move { client.put(&path, &turn.to_string()).await.done() });
    }
    tasks.join_all().await;
    let keys = client.get("/api/session").await.json()["keys"].clone();
    let expected: Vec<_> = (0..100).map(|turn| format!("key-{turn:02}")).collect();
    assert_eq!(keys, json!(expected));
    for turn in 0..100 {
        client.get(&format!("/api/session/data/key-{turn:02}")).await.is(json!(turn));
    }
}

/// A write that has loaded its session and pauses: its answer, and the earliest time of its commit.
struct SlowWrite(JoinHandle<(Answer, Instant)>);

impl SlowWrite {
    /// Returns whether the session's end came before the write, which must then be refused. A write that may have
    /// begun its commit before `ended` proves nothing.
    async fn was_refused(self, ended: Instant) -> bool {
        let (answer, earliest) = self.0.await.expect("the write");
        assert_eq!(answer.set_cookie(), None);
        if answer.status == 204 && earliest < ended {
            return false;
        }
        answer.refused(409, "the session has ended; log in again");
        true
    }
}

/// Starts `count` visitors with "before" under a key. Each has a write of "after" that has loaded the session and
/// pauses before its commit. `loaded` counts these loads for each process, as its log reports them.
async fn start_slow_writes(
    site: &Site,
    count: usize,
    pause: Duration,
    loaded: &mut [usize],
) -> Vec<(Client, SlowWrite)> {
    let mut visitors = JoinSet::new();
    for n in 0..count {
        let mut client = site.client().at(site.server(n));
        visitors.spawn(async move {
            client.login(&format!("user-{n}")).await;
            client.put("/api/session/data/key", "\"before\"").await.done();
            client
        });
    }
    let mut writing = Vec::new();
    for (n, visitor) in visitors.join_all().await.into_iter().enumerate() {
        loaded[n % site.servers.len()] += 1;
        let mut slow = visitor.at(site.server(n));
        let write = tokio::spawn(async move {
            let earliest = Instant::now() + pause;
            let path = format!("/api/session/data/key?delay={}", pause.as_millis());
            (slow.put(&path, "\"after\"").await, earliest)
        });
        // The session ends through the other process, if there are two.
        writing.push((visitor.at(site.server(n + 1)), SlowWrite(write)));
    }
    for (server, loaded) in site.servers.iter().zip(loaded) {
        server.paused(*loaded).await;
    }
    writing
}

/// Ends sessions by a logout between the load and the commit of a write. The log says when the load has happened. A
/// pair whose logout may have come after the commit is repeated.
async fn a_slow_write_across_a_logout_revives_nothing(site: Site) {
    const TIMES: usize = 1000;
    const PAUSE: Duration = Duration::from_millis(500);
    let (mut counted, mut loaded) = (0, vec![0; site.servers.len()]);
    // The number of sessions that the store can end within the pause.
    let mut at_once = 250;
    for round in 0.. {
        assert!(round < 200, "only {counted} of the logouts came before the write");
        let writing = start_slow_writes(&site, at_once.min(TIMES - counted), PAUSE, &mut loaded).await;
        let mut pairs = JoinSet::new();
        for (mut visitor, write) in writing {
            pairs.spawn(async move {
                let mut old = visitor.clone();
                visitor.post("/api/logout", "").await.done();
                let in_time = write.was_refused(Instant::now()).await;
                assert_eq!(old.get("/api/session").await.json()["present"], false, "the session was revived");
                in_time
            });
        }
        let pairs = pairs.join_all().await;
        let in_time = pairs.iter().filter(|in_time| **in_time).count();
        counted += in_time;
        if in_time < pairs.len() / 2 {
            at_once = (at_once / 2).max(10);
        }
        assert_eq!(site.active().await, 0);
        if counted == TIMES {
            return;
        }
    }
}

/// Regenerates the id between the load and the commit of a write, which must reach neither id.
async fn a_slow_write_across_a_regeneration_reaches_neither_id(site: Site) {
    const AT_ONCE: usize = 100;
    const PAUSE: Duration = Duration::from_millis(1500);
    let mut loaded = vec![0; site.servers.len()];
    let mut pairs = JoinSet::new();
    for (mut visitor, write) in start_slow_writes(&site, AT_ONCE, PAUSE, &mut loaded).await {
        pairs.spawn(async move {
            let mut old = visitor.clone();
            visitor.post("/api/session/regenerate", "").await.done();
            let in_time = write.was_refused(Instant::now()).await;
            assert_ne!(visitor.cookie(), old.cookie());
            assert_eq!(old.get("/api/session").await.json()["present"], false, "the old id is alive");
            if in_time {
                visitor.get("/api/session/data/key").await.is(json!("before"));
            }
            in_time
        });
    }
    let in_time = pairs.join_all().await.into_iter().filter(|in_time| *in_time).count();
    assert!(in_time > 0, "none of the new ids came before the write");
    assert_eq!(site.active().await, AT_ONCE as u64);
}

async fn ten_thousand_cookieless_gets_leave_nothing(site: Site) {
    const PATHS: [(&str, u16); 6] = [
        ("/", 200),
        ("/api/session", 200),
        ("/api/untouched", 200),
        ("/api/session/data/key", 404),
        ("/api/sessions", 401),
        ("/api/active", 200),
    ];
    let mut tasks = JoinSet::new();
    let shared = site.client();
    for worker in 0..20 {
        let shared = shared.at(site.server(worker));
        tasks.spawn(async move {
            for n in 0..500 {
                let (path, status) = PATHS[n % PATHS.len()];
                let answer = shared.newcomer().get(path).await;
                assert_eq!((answer.status, answer.set_cookie()), (status, None), "{path}");
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(site.active().await, 0);
    if let Some(folder) = &site.folder {
        assert_eq!(records(folder.path()), Vec::<PathBuf>::new());
    }
}

/// Returns every file below `folder`, with its content and its time of change.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, meta) = (entry.path(), entry.metadata().expect("metadata"));
        if meta.is_dir() {
            files.append(&mut self::files(&path));
        } else {
            let content = std::fs::read(&path).expect("a file");
            files.insert(path, (content, meta.modified().expect("a time")));
        }
    }
    files
}

/// Returns the files that are not empty: records are, locks are not.
fn records(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|(_, (content, _))| !content.is_empty()).map(|(path, _)| path).collect()
}

const READS: [&str; 5] =
    ["/api/session", "/api/session/data/key", "/api/untouched", "/api/sessions", "/api/active"];

/// Compares the session's times too, since a write would change them.
async fn reads_write_nothing_before_a_touch_is_due(site: Site) {
    let mut client = site.client();
    client.login("alice").await;
    client.put("/api/session/data/key", "1").await.done();
    let before = client.get("/api/session").await.json();
    let files_before = site.folder.as_ref().map(|folder| files(folder.path()));
    for turn in 0..500 {
        let answer = client.at(site.server(turn)).get(READS[turn % READS.len()]).await;
        assert_eq!((answer.status, answer.set_cookie()), (200, None));
    }
    assert_eq!(client.get("/api/session").await.json(), before);
    assert!(
        files_before == site.folder.as_ref().map(|folder| files(folder.path())),
        "a read wrote to a file"
    );
}

/// With a `maxLifetime` of 20 s a touch is due every second.
async fn a_due_touch_moves_the_times_and_nothing_else(site: Site) {
    let mut client = site.client();
    client.login("alice").await;
    client.put("/api/session/data/key", "\"value\"").await.done();
    let before = client.get("/api/session").await.json();
    eventually("a touch", async || {
        assert_eq!(client.get("/api/session/data/key").await.set_cookie(), None);
        client.get("/api/session").await.json()["last_active"] != before["last_active"]
    })
    .await;
    let after = client.get("/api/session").await.json();
    assert_ne!(after["expires"], before["expires"]);
    for same in ["principal", "created", "keys"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    client.get("/api/session/data/key").await.is(json!("value"));
}

macro_rules! promises {
    ($($promise:ident)*) => { $(
        mod $promise {
            use super::Site;

            #[tokio::test(flavor = "multi_thread")]
            async fn on_memory() {
                super::$promise(Site::on_memory()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_file() {
                super::$promise(Site::on_file(1, "")).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_file_with_two_processes() {
                super::$promise(Site::on_file(2, "")).await;
            }

            #[cfg(all(feature = "sqlite", unix))]
            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() {
                super::$promise(Site::on_sqlite(1)).await;
            }

            #[cfg(all(feature = "sqlite", unix))]
            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite_with_two_processes() {
                super::$promise(Site::on_sqlite(2)).await;
            }

            #[cfg(all(feature = "redis", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs redis-server: cargo xtask test"]
            async fn on_redis() {
                super::$promise(Site::on_redis(1, servers::Flavor::Redis70)).await;
            }

            #[cfg(all(feature = "redis", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs redis-server: cargo xtask test"]
            async fn on_redis_with_two_processes() {
                super::$promise(Site::on_redis(2, servers::Flavor::Redis70)).await;
            }

            #[cfg(all(feature = "redis", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Redis 6.2: cargo xtask test"]
            async fn on_redis_6_2_with_two_processes() {
                super::$promise(Site::on_redis(2, servers::Flavor::Redis62)).await;
            }

            #[cfg(all(feature = "redis", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Valkey 9: cargo xtask test"]
            async fn on_valkey_9_with_two_processes() {
                super::$promise(Site::on_redis(2, servers::Flavor::Valkey9)).await;
            }

            #[cfg(all(feature = "redis", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs redis-server: cargo xtask test"]
            async fn on_a_redis_cluster_with_two_processes() {
                super::$promise(Site::on_redis_cluster(2)).await;
            }

            #[cfg(all(feature = "mysql", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs mariadbd: cargo xtask test"]
            async fn on_mysql() {
                super::$promise(Site::on_mysql(1)).await;
            }

            #[cfg(all(feature = "mysql", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs mariadbd: cargo xtask test"]
            async fn on_mysql_with_two_processes() {
                super::$promise(Site::on_mysql(2)).await;
            }

            #[cfg(all(feature = "postgres", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs postgres: cargo xtask test"]
            async fn on_postgres() {
                super::$promise(Site::on_postgres(1)).await;
            }

            #[cfg(all(feature = "postgres", unix))]
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs postgres: cargo xtask test"]
            async fn on_postgres_with_two_processes() {
                super::$promise(Site::on_postgres(2)).await;
            }
        }
    )* };
}

promises! {
    a_hundred_parallel_increments_make_a_hundred
    a_hundred_parallel_puts_of_different_keys_leave_a_hundred
    a_slow_write_across_a_logout_revives_nothing
    a_slow_write_across_a_regeneration_reaches_neither_id
    ten_thousand_cookieless_gets_leave_nothing
    reads_write_nothing_before_a_touch_is_due
}

#[tokio::test]
async fn a_due_touch_moves_the_times_and_nothing_else_on_memory() {
    let site = Site::on_memory_with("{\"cookieName\":\"id\",\"maxLifetime\":20}");
    a_due_touch_moves_the_times_and_nothing_else(site).await;
}

#[tokio::test]
async fn a_due_touch_moves_the_times_and_nothing_else_on_file() {
    a_due_touch_moves_the_times_and_nothing_else(Site::on_file(1, ",\"maxLifetime\":20")).await;
}

#[tokio::test]
async fn beegos_documented_example_works_on_files() {
    const CONFIG: &str = r#"{"cookieName":"gosessionid", "enableSetCookie,omitempty": true, "gclifetime":3600, "maxLifetime": 3600,
     "secure": false, "sessionIDHashFunc": "sha1", "sessionIDHashKey": "", "cookieLifeTime": 3600,
     "providerConfig": "./tmp"}"#;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &["--provider", "file", "--config", CONFIG]);
    let mut client = server.client();
    let answer = client.put("/api/session/data/key", "1").await;
    answer.done();
    let cookie = answer.set_cookie().expect("a cookie");
    let (id, attributes) =
        cookie.strip_prefix("gosessionid=").and_then(|rest| rest.split_once("; ")).unwrap();
    assert_eq!(id.len(), 40);
    assert!(id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    assert!(attributes.contains("Max-Age=3600") && attributes.contains("HttpOnly"), "{attributes}");
    assert!(!attributes.contains("Secure"), "{attributes}");

    let path = folder.path().join("tmp").join(&id[..1]).join(&id[1..2]).join(id);
    assert!(path.is_file(), "{path:?} is not among {:?}", files(folder.path()).keys());
    let log = server.started().await;
    for setting in ["secure", "cookieName", "cookieLifeTime", "sessionIDHashFunc", "hashIds"] {
        let names = |line: &str| line.contains("WARN") && line.contains(&format!("{setting}: "));
        assert!(log.lines().any(names), "{setting} is not named in: {log}");
    }
    assert!(!log.contains(id));

    let holds =
        |text: &str| std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("key"), "the file contains the value");
    client.post("/api/logout", "").await.done();
    assert!(!holds("key"), "a tombstone contains no data");
}

#[tokio::test]
async fn a_failing_folder_is_503_and_reveals_nothing() {
    let site = Site::on_file(1, "");
    let mut client = site.client();
    client.login("alice").await;
    let store = site.folder.as_ref().unwrap().path().join("store");
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::write(&store, "not a folder").unwrap();
    for path in ["/api/session", "/api/session/data/key", "/api/sessions"] {
        let answer = client.get(path).await;
        answer.refused(503, "the session store does not answer; try again later");
        assert_eq!(answer.set_cookie(), None);
    }
    let answer = client.newcomer().put("/api/session/data/key", "1").await;
    answer.refused(503, "the session store does not answer; try again later");
    assert_eq!(answer.set_cookie(), None);
    let page = client.get("/").await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("<h1>Sessions not available</h1>"));
    assert_eq!(client.get("/healthz").await.status, 200);
}
