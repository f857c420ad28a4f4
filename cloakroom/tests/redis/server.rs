//! The behaviour of the Redis provider alone: connecting, settings, secrets, the pool, and the stored keys.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, ErrorKind, Manager, ManualClock, Principal, Provider, RedisProvider,
    providers::{Created, IndexEntry, StoreKey, Updated},
};
use servers::{Proxy, Redis, RedisCluster, RedisOptions, RedisSentinels};

use super::fixtures::{prefix, server_url, tls_builder};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

async fn stores(provider: &RedisProvider) {
    let record = record(&Clock::system()).value("n", 1).build();
    assert_eq!(provider.create(&key("aa"), &record).await.unwrap(), Created::Done);
    assert_eq!(provider.load(&key("aa")).await.unwrap(), Some(record));
}

/// Runs `work`, and returns its result and the text that this thread logged.
pub(crate) async fn logged<T>(work: impl Future<Output = T>) -> (T, String) {
    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let text = Text::default();
    let writer = text.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let answer = work.await;
    drop(guard);
    let text = text.0.lock().unwrap().clone();
    (answer, String::from_utf8(text).unwrap())
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn every_documented_name_and_string_opens_a_manager() {
    let password = RedisOptions { password: Some("astaxie".to_owned()), ..RedisOptions::default() };
    let redis = Redis::with(password.clone());
    let address = redis.address();
    let escaped = |text: &str| serde_json::to_string(text).unwrap();
    let cluster = RedisCluster::with(password.clone());
    let group = RedisSentinels::with(password);
    for (name, config) in [
        ("redis", format!("{address},100,astaxie")),
        ("redis", format!("{address},100,astaxie,3,180,30,2")),
        (
            "redis",
            format!(
                r#"{{"save_path":"{address}","poolsize":5,"password":"astaxie","db_num":2,"idle_timeout":"3m","idle_check_frequency":"1m","max_retries":2}}"#
            ),
        ),
        ("redis", format!("redis://:astaxie@{address}/1")),
        ("redis_cluster", format!("{},100,astaxie", cluster.addresses().join(";"))),
        ("redis_cluster", format!("redis://:astaxie@{}", cluster.addresses().join(","))),
        ("redis_sentinel", format!("{},100,astaxie,0,mymaster", group.addresses().join(";"))),
        ("redis_sentinel", format!("redis+sentinel://:astaxie@{}/mymaster/0", group.addresses().join(","))),
    ] {
        let text = format!(
            r#"{{"cookieName":"gosessionid","gclifetime":3600,"providerConfig":{}}}"#,
            escaped(&config)
        );
        let manager =
            Manager::new(name, &text).await.unwrap_or_else(|error| panic!("{name} {config}: {error}"));
        let before = manager.active_sessions().await.unwrap();
        let session = manager.start(&http::HeaderMap::new()).await.unwrap();
        session.set("k", 1).unwrap();
        session.save().await.unwrap();
        assert_eq!(manager.active_sessions().await.unwrap(), before + 1, "{name} {config}");
        assert_eq!(manager.collect_garbage().await.unwrap(), 0);
    }
    // Each string has used the database that it names.
    let keys = |db: &str| {
        redis.ask::<i64>(&["EVAL", "redis.call('SELECT', ARGV[1]) return redis.call('DBSIZE')", "0", db])
    };
    assert!(keys("0") > 0 && keys("1") > 0 && keys("2") > 0 && keys("3") > 0 && keys("4") == 0);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_user_of_the_acl_needs_only_the_documented_rights() {
    let user = "app on >secret ~cloakroom:* +@read +@write +@connection +@scripting +wait +info";
    let redis = Redis::with(RedisOptions { users: vec![user.to_owned()], ..RedisOptions::default() });
    let provider = RedisProvider::builder(redis.url()).credentials("app", "secret").connect().await.unwrap();
    stores(&provider).await;
    assert_eq!(provider.count().await.unwrap(), 1);
    assert!(provider.delete(&key("aa")).await.unwrap());
    let elsewhere = RedisProvider::builder(redis.url()).credentials("app", "secret").prefix("other");
    let error = elsewhere.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("NOPERM: this user may not use keys"), "{error}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn no_error_debug_text_or_log_line_shows_a_credential() {
    let options = RedisOptions { password: Some("right".to_owned()), ..RedisOptions::default() };
    let redis = Redis::with(options);
    let address = redis.address();
    let nobody = servers::free_port();
    let (texts, log) = logged(async {
        let mut texts = Vec::new();
        for url in [
            format!("redis://app:hunter2@{address}/"),
            format!("redis://:hunter2@{address}/0"),
            format!("redis://:hunter2@127.0.0.1:{nobody}/"),
            format!("redis+sentinel://:hunter2@127.0.0.1:{nobody}/mymaster"),
            format!("redis+cluster://:hunter2@{address}"),
            format!("rediss://:hunter2@{address}/"),
            "redis://:hunter2@host:port/".to_owned(),
        ] {
            let builder = RedisProvider::builder(&url);
            texts.push(format!("{builder:?}"));
            let error = builder.connect().await.unwrap_err();
            texts.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));
        }
        let config = format!(r#"{{"cookieName":"id","providerConfig":"{address},1,hunter2"}}"#);
        texts.push(Manager::new("redis", &config).await.unwrap_err().to_string());
        texts
    })
    .await;
    for text in texts.iter().chain([&log]) {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(texts[1].contains("AuthenticationFailed"), "{}", texts[1]);
    let provider = RedisProvider::connect(redis.url()).await.unwrap();
    assert_eq!(format!("{provider:?}"), "RedisProvider { cluster: false, .. }");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn every_policy_except_noeviction_logs_a_warning() {
    for (policy, warned) in
        [("allkeys-lru", true), ("allkeys-random", true), ("noeviction", false), ("volatile-ttl", true)]
    {
        let settings = ["--maxmemory-policy", policy].map(str::to_owned).to_vec();
        let redis = Redis::with(RedisOptions { settings, ..RedisOptions::default() });
        let (opened, log) = logged(RedisProvider::connect(redis.url())).await;
        opened.unwrap();
        assert_eq!(log.contains("maxmemory-policy to noeviction"), warned, "{policy}: {log}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_of_another_kind_than_configured_is_refused() {
    let (redis, cluster) = (Redis::start(), RedisCluster::start());
    for (url, found) in [
        (format!("redis+cluster://{}", redis.address()), "found a single server"),
        (cluster.node(0).url(), "found a node of a cluster"),
    ] {
        let error = RedisProvider::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn tls_needs_a_trusted_authority_and_client_certificate() {
    stores(&tls_builder().prefix(prefix()).connect().await.unwrap()).await;
    let url = super::fixtures::tls_url();
    let strangers = tempfile::tempdir().unwrap();
    let other = servers::Certificates::write(strangers.path());
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let known = super::fixtures::authority();
    for builder in [
        RedisProvider::builder(&url).root_certificates(read(&other.authority)),
        RedisProvider::builder(&url).root_certificates(known.clone()),
        RedisProvider::builder(&url)
            .root_certificates(known)
            .client_certificate(read(&other.client), read(&other.client_key)),
    ] {
        assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let mixed = RedisProvider::builder(&url).client_certificate(read(&other.client), read(&other.server_key));
    let error = mixed.root_certificates(read(&other.authority)).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn the_pool_bounds_connections_and_opens_one_for_few_calls() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.address());
    for (pool, at_once, expected) in [(4, 1, 1..=1), (1, 500, 1..=1), (4, 500, 2..=4)] {
        proxy.delay(Duration::from_millis(2));
        let builder = RedisProvider::builder(redis.url_at(proxy.port())).pool(pool);
        let provider = builder.call_timeout(Duration::from_secs(20)).connect().await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let provider = provider.clone();
            calls.spawn(async move { provider.load(&key("aa")).await.unwrap() });
        }
        calls.join_all().await;
        let found = proxy.connections();
        assert!(expected.contains(&found), "pool {pool}, {at_once} calls: {found} connections");
        drop(provider);
        servers::until(Duration::from_secs(10), "the connections to close", || {
            (proxy.connections() == 0).then_some(())
        });
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_connection_idle_for_too_long_is_replaced() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.address());
    let builder = RedisProvider::builder(redis.url_at(proxy.port())).idle_timeout(Duration::from_millis(1));
    let provider = builder.connect().await.unwrap();
    // The existing connection is dead, and no call has noticed. It must not be used.
    proxy.blackhole();
    proxy.heal();
    tokio::time::sleep(Duration::from_millis(5)).await;
    stores(&provider).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn no_call_receives_the_reply_to_a_cancelled_one() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.address());
    let provider = RedisProvider::builder(redis.url_at(proxy.port())).pool(1).connect().await.unwrap();
    let names: Vec<_> = (0..50).map(|n| key(&format!("session-{n}"))).collect();
    for (n, name) in names.iter().enumerate() {
        let record = record(&Clock::system()).value("n", n).build();
        assert_eq!(provider.create(name, &record).await.unwrap(), Created::Done);
    }
    proxy.delay(Duration::from_millis(3));
    for round in 0..40 {
        let mut calls = tokio::task::JoinSet::new();
        for name in names.clone() {
            let provider = provider.clone();
            calls.spawn(async move { (name.clone(), provider.load(&name).await) });
        }
        // The calls are cancelled at any point: before they are sent, after it, or while the reply arrives.
        tokio::time::sleep(Duration::from_micros(300 * round)).await;
        calls.abort_all();
        let n = round as usize % 10;
        let found = provider.load(&names[n]).await.unwrap().unwrap();
        let expected = record(&Clock::system()).value("n", n).build();
        assert_eq!(found.data(), expected.data(), "the reply is that of its own question");
        while let Some(answer) = calls.join_next().await {
            if let Ok((name, found)) = answer {
                let n: usize = name.as_str()["session-".len()..].parse().unwrap();
                let expected = record(&Clock::system()).value("n", n).build();
                assert_eq!(found.unwrap().unwrap().data(), expected.data());
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_change_waits_for_the_configured_number_of_replicas() {
    let group = RedisSentinels::start();
    let url = format!("redis+sentinel://{}/mymaster", group.addresses().join(","));
    let provider = |replicas| {
        let builder = RedisProvider::builder(&url).prefix(prefix());
        builder.wait_for_replicas(replicas, Duration::from_millis(300)).connect()
    };
    stores(&provider(2).await.unwrap()).await;
    let error = provider(3).await.unwrap();
    let error = error.create(&key("aa"), &record(&Clock::system()).build()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("2 of 3 replicas had the change within 300ms"), "{error}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn an_unreadable_value_is_set_aside_and_is_an_error_once() {
    let redis = Redis::start();
    let provider = RedisProvider::connect(redis.url()).await.unwrap();
    stores(&provider).await;
    let name = "cloakroom:{0}:session:aa";
    redis.ask::<()>(&["SET", name, "CLKR, but no record"]);
    let error = provider.load(&key("aa")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(provider.load(&key("aa")).await.unwrap(), None);
    assert_eq!(provider.count().await.unwrap(), 0);
    assert_eq!(redis.ask::<String>(&["GET", "cloakroom:{0}:corrupt:aa"]), "CLKR, but no record");
    assert!(redis.ask::<i64>(&["TTL", "cloakroom:{0}:corrupt:aa"]) > 0);

    let record = record(&Clock::system()).build();
    for words in [&["SET", name, "short"], &["RPUSH", name, "a list"]] {
        for method in ["load", "update", "create", "delete", "rename", "touch"] {
            redis.ask::<()>(words);
            let now = Clock::system().now();
            let answer = match method {
                "load" => provider.load(&key("aa")).await.map(drop),
                "update" => provider.update(&key("aa"), &record, &base(1)).await.map(drop),
                "create" => provider.create(&key("aa"), &record).await.map(drop),
                "delete" => provider.delete(&key("aa")).await.map(drop),
                "rename" => provider.rename(&key("aa"), &key("bb"), &record, 1, None).await.map(drop),
                _ => provider.touch(&key("aa"), now).await.map(drop),
            };
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::Corrupt, "{method}");
            assert_eq!(provider.load(&key("aa")).await.unwrap(), None, "{method}: an error once");
            assert_eq!(redis.ask::<u8>(&["EXISTS", "cloakroom:{0}:corrupt:aa"]), 1);
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn every_key_except_the_sets_has_a_time_to_live() {
    let redis = Redis::start();
    let time = ManualClock::default();
    let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
    let record = record(&time.clock()).principal("alice").idle(Duration::from_secs(600));
    for name in ["aa", "bb"] {
        assert_eq!(provider.create(&key(name), &record.clone().build()).await.unwrap(), Created::Done);
    }
    let ttl = |name: &str| redis.ask::<i64>(&["TTL", &format!("cloakroom:{{0}}:{name}")]);
    for name in ["session:aa", "session:bb"] {
        // It is a minute more than the deadline, for clocks that differ.
        assert!((655..=660).contains(&ttl(name)), "{name}: {}", ttl(name));
    }
    // A server that evicts keys with a time to live must not evict the lists of sessions.
    for set in ["deadlines", "keys", "user:alice", "users"] {
        assert_eq!(ttl(set), -1, "{set}");
    }
    // A touch prolongs it.
    let later = time.clock().now() + Duration::from_secs(600);
    let _ = provider.touch(&key("aa"), later).await.unwrap();
    assert!((1255..=1260).contains(&ttl("session:aa")));
    let shorter = record.clone().version(2).idle(Duration::from_secs(60)).build();
    assert_eq!(provider.update(&key("aa"), &shorter, &base(1)).await.unwrap(), Updated::Done);
    assert!((115..=120).contains(&ttl("session:aa")));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn two_prefixes_share_no_sessions() {
    let url = server_url();
    let (one, two) = (prefix(), prefix());
    let open = |prefix: String| RedisProvider::builder(&url).prefix(prefix).connect();
    let (one, two) = (open(one).await.unwrap(), open(two).await.unwrap());
    stores(&one).await;
    stores(&two).await;
    assert!(one.delete(&key("aa")).await.unwrap());
    assert_eq!((one.count().await.unwrap(), two.count().await.unwrap()), (0, 1));
    assert_eq!(
        one.indexed(&IndexEntry::from(&Principal::new("x").unwrap()), None, 10).await.unwrap().entries,
        []
    );
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_full_server_says_so_and_still_serves_its_sessions() {
    let redis = Redis::start();
    let provider = RedisProvider::connect(redis.url()).await.unwrap();
    stores(&provider).await;
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let large = record(&Clock::system()).filled(60_000).build();
    let error = provider.create(&key("bb"), &large).await.unwrap_err();
    assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.to_string().contains("Redis is full"), "{error}");
    assert!(provider.load(&key("aa")).await.unwrap().is_some());
    assert_eq!(provider.load(&key("bb")).await.unwrap(), None);
    assert_eq!(provider.count().await.unwrap(), 1);
    assert!(provider.delete(&key("aa")).await.unwrap(), "ending a session takes no memory");
}
