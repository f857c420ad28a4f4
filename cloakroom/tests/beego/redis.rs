//! Beego's `redis` provider, on a real server.

use std::time::{Duration, SystemTime};

use cloakroom::{ErrorKind, Manager, ManualClock, RedisProvider, Released, providers::AnyProvider};
use servers::Redis;

use super::layout::{self, Layout};
use super::{HOUR, PATIENCE, hex, noon, release, request, unhex, vector};

/// The server uses its own time. So here the clock stands still, and time passes by shortening each time to live.
struct Strings(Redis);

impl Strings {
    fn left(&self, key: &str) -> i64 {
        self.0.ask(&["PTTL", key])
    }
}

impl Layout for Strings {
    async fn provider(&self, time: &ManualClock) -> AnyProvider {
        RedisProvider::builder(self.0.url())
            .clock(time.clock())
            .call_timeout(PATIENCE)
            .connect_beego(HOUR)
            .await
            .unwrap()
    }

    async fn put(&self, key: &str, value: &[u8], used: SystemTime) {
        let left = (used + HOUR).duration_since(noon()).unwrap().as_millis().to_string();
        let mut set = ::redis::cmd("SET");
        set.arg(key).arg(value).arg("PX").arg(left);
        set.query::<()>(&mut self.0.connection()).unwrap();
    }

    async fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.0.ask(&["GET", key])
    }

    async fn used(&self, key: &str) -> SystemTime {
        noon() + Duration::from_millis(self.left(key) as u64) - HOUR
    }

    async fn pass(&self, _: &ManualClock, span: Duration) {
        for key in self.0.ask::<Vec<String>>(&["KEYS", "*"]) {
            let left = self.left(&key) - span.as_millis() as i64;
            let _: i64 = self.0.ask(&["PEXPIRE", &key, &left.to_string()]);
        }
    }

    fn drops_expired(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn redis_passes_every_case_of_the_layout() {
    layout::every_case(&Strings(Redis::start())).await;
}

#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server and postgres: cargo xtask test"]
async fn sessions_in_redis_move_to_sqlite_and_postgres() {
    super::stores::move_to_sqlite_and_postgres(&Strings(Redis::start())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn captured_values_are_read_and_written_in_their_layout() {
    let server = Redis::start();
    let address = server.address().to_string();
    let json = format!(
        r#"{{"cookieName":"gosessionid","gclifetime":3600,"secure":false,"deadline":60,"format":"beego","providerConfig":"{address},100"}}"#
    );
    let manager = Manager::new("redis", &json).await.unwrap();
    for name in ["redis-v1.4.json", "redis-v2.json"] {
        for row in vector(name)["rows"].as_array().unwrap() {
            let (key, value) = (row["key"].as_str().unwrap(), row["hex"].as_str().unwrap());
            let mut set = ::redis::cmd("SET");
            set.arg(key).arg(unhex(value)).arg("EX").arg(row["ttl_s"].as_u64().unwrap());
            set.query::<()>(&mut server.connection()).unwrap();
            layout::a_sample_is_changed_and_restored(&manager, key, row["session"].as_str().unwrap()).await;
            let written: Vec<u8> = server.ask(&["GET", key]);
            assert_eq!(hex(&written), value);
            let (left, kind): (i64, String) = (server.ask(&["TTL", key]), server.ask(&["TYPE", key]));
            assert!((3595..=3600).contains(&left) && kind == "string", "{left} {kind}");
        }
    }
    assert_eq!(manager.active_sessions().await.unwrap(), 8);
    let keys: Vec<String> = server.ask(&["KEYS", "*"]);
    assert_eq!(keys.len(), 8, "nothing else is left there: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn beego_sessions_in_redis_are_moved_to_native_ones() {
    let server = Redis::start();
    let address = server.address().to_string();
    let json = |settings: &str| {
        format!(
            r#"{{"cookieName":"gosessionid","maxLifetime":3600,"secure":false,"deadline":60,"providerConfig":"{address},100",{settings}}}"#
        )
    };
    let beego = Manager::new("redis", &json(r#""format":"beego""#)).await.unwrap();
    let session = request(&beego, "").await;
    session.set("username", "astaxie").unwrap();
    let old = release(&session).await.1.unwrap();
    let moving = Manager::new("redis", &json(r#""migrateFrom":"beego","hashIds":true"#)).await.unwrap();
    let session = request(&moving, &old).await;
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    let new = release(&session).await.1.unwrap();
    assert_ne!(new, old);
    assert_eq!(server.ask::<Option<Vec<u8>>>(&["GET", &old]), None);
    assert_eq!(request(&moving, &new).await.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    assert_eq!((moving.active_sessions().await.unwrap(), beego.active_sessions().await.unwrap()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn foreign_keys_are_ignored_and_endless_sessions_expire() {
    let strings = Strings(Redis::start());
    let time = ManualClock::starting_at(noon());
    let manager = layout::manager(&strings, &time).await;
    for (key, kind) in [("user:7", "SET"), ("counter", "SET"), ("abababababababab", "SET")] {
        let _: String = strings.0.ask(&[kind, key, "1"]);
    }
    let _: i64 = strings.0.ask(&["LPUSH", &"ef".repeat(16), "a list"]);
    assert_eq!(manager.active_sessions().await.unwrap(), 0);

    let id = "ab".repeat(16);
    let _: String = strings.0.ask(&["SET", &id, ""]);
    assert_eq!(strings.left(&id), -1);
    let session = request(&manager, &id).await;
    assert_eq!(session.expires(), Some(noon() + HOUR));
    session.set("n", 1).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    assert!((3_590_000..=3_600_000).contains(&strings.left(&id)), "{}", strings.left(&id));
    assert_eq!(manager.active_sessions().await.unwrap(), 1);
    assert_eq!(strings.0.ask::<String>(&["GET", "user:7"]), "1");

    // An unreadable value is put aside for a week.
    strings.put(&id, b"no gob", noon()).await;
    let mut headers = http::HeaderMap::new();
    headers.insert("cookie", format!("gosessionid={id}").parse().unwrap());
    assert_eq!(manager.start(&headers).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let aside: Vec<String> = strings.0.ask(&["KEYS", "*:corrupt:*"]);
    assert!(aside.len() == 1 && aside[0].ends_with(&id), "{aside:?}");
    assert_eq!(strings.value(&aside[0]).await.as_deref(), Some(&b"no gob"[..]));
    assert!((604_790_000..=604_800_000).contains(&strings.left(&aside[0])));
}

#[tokio::test]
async fn a_cluster_is_refused() {
    let builder = RedisProvider::builder("redis+cluster://127.0.0.1:1,127.0.0.1:2");
    let error = builder.connect_beego(HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("format: expected native, since a cluster"), "{error}");
}
