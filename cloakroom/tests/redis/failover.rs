//! Failovers: the provider leaves a replaced server for good.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use cloakroom::testkit::record;
use cloakroom::{
    Cached, Clock, Provider, RedisProvider,
    providers::{Created, StoreKey},
};
use servers::{Redis, RedisOptions, RedisSentinels};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn url(group: &RedisSentinels) -> String {
    format!("redis+sentinel://{}/{}", group.addresses().join(","), RedisSentinels::NAME)
}

async fn creates(provider: &impl Provider, name: &str) -> cloakroom::Result<Created> {
    provider.create(&key(name), &record(&Clock::system()).principal("alice").build()).await
}

fn holds(node: &Redis, name: &str) -> bool {
    node.ask::<u8>(&["EXISTS", &format!("cloakroom:{{0}}:session:{name}")]) == 1
}

/// Stops the primary until another server is promoted, and deletes the session there.
fn replaced_while_stopped(group: &RedisSentinels) {
    group.node(0).pause();
    group.await_failover_of(0);
    let primary = group.node(group.primary().unwrap());
    assert_eq!(primary.ask::<u8>(&["DEL", "cloakroom:{0}:session:aa"]), 1);
    group.node(0).resume();
}

/// Checks that no read and no acknowledged write goes to the former primary.
async fn serves_from_the_new_one(group: &RedisSentinels, provider: &impl Provider) {
    for _ in 0..5 {
        assert_eq!(provider.load(&key("aa")).await.unwrap(), None, "the session has ended");
    }
    let primary = group.primary().unwrap();
    assert_ne!(primary, 0);
    for n in 0..20 {
        let name = format!("new-{n}");
        assert_eq!(creates(provider, &name).await.unwrap(), Created::Done);
        assert!(holds(group.node(primary), &name), "{name} was acknowledged and is not on the primary");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_primary_resumed_after_its_failover_is_not_used() {
    let group = RedisSentinels::start();
    let provider = RedisProvider::connect(url(&group)).await.unwrap();
    assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
    tokio::task::block_in_place(|| group.await_replicas());
    tokio::task::block_in_place(|| replaced_while_stopped(&group));
    serves_from_the_new_one(&group, &provider).await;
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_process_paused_during_a_failover_asks_the_sentinels_first() {
    let settings = ["--min-replicas-to-write", "1"].map(str::to_owned).to_vec();
    let group = RedisSentinels::with(RedisOptions { settings, ..RedisOptions::default() });
    let provider = RedisProvider::connect(url(&group)).await.unwrap();
    assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
    group.await_replicas();
    // This blocks the only thread of the runtime, and so all its tasks.
    replaced_while_stopped(&group);
    serves_from_the_new_one(&group, &provider).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_copy_from_the_former_primary_is_not_used() {
    let group = RedisSentinels::start();
    let provider = RedisProvider::connect(url(&group)).await.unwrap();
    let near = Cached::builder(provider).watching().await.unwrap();
    assert_eq!(creates(&near, "aa").await.unwrap(), Created::Done);
    for _ in 0..3 {
        assert!(near.load(&key("aa")).await.unwrap().is_some());
    }
    tokio::task::block_in_place(|| group.await_replicas());
    tokio::task::block_in_place(|| replaced_while_stopped(&group));
    serves_from_the_new_one(&group, &near).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_working_primary_replaced_by_an_operator_is_not_used() {
    let group = RedisSentinels::start();
    let provider = RedisProvider::connect(url(&group)).await.unwrap();
    assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
    tokio::task::block_in_place(|| {
        group.await_replicas();
        let client = redis::Client::open(format!("redis://{}/", group.addresses()[0])).unwrap();
        let mut sentinel = client.get_connection().unwrap();
        redis::cmd("SENTINEL").arg("FAILOVER").arg(RedisSentinels::NAME).exec(&mut sentinel).unwrap();
        group.await_failover_of(0);
        let primary = group.node(group.primary().unwrap());
        assert_eq!(primary.ask::<u8>(&["DEL", "cloakroom:{0}:session:aa"]), 1);
    });
    // The sentinels announce it at once. Changes acknowledged before that are lost, as the guide says.
    tokio::time::sleep(Duration::from_millis(100)).await;
    serves_from_the_new_one(&group, &provider).await;
}

/// One address that leads first to one server and then to another. Open connections stay with the first.
struct Switch {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
}

impl Switch {
    fn to(target: SocketAddr) -> Switch {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(target)));
        let present = Arc::clone(&target);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(*present.lock().unwrap()).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || io::copy(&mut from, &mut to));
                let (mut from, mut to) = (server, client);
                thread::spawn(move || io::copy(&mut from, &mut to));
            }
        });
        Switch { address, target }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_connection_to_another_server_closes_the_old_ones() {
    let (former, present) = (Redis::start(), Redis::start());
    let switch = Switch::to(former.address());
    let provider = RedisProvider::connect(format!("redis://{}/", switch.address)).await.unwrap();
    assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
    *switch.target.lock().unwrap() = present.address();
    // So many calls open another connection, which leads to the new server.
    let calls = (0..200).map(|_| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.load(&key("aa")).await })
    });
    for call in calls.collect::<Vec<_>>() {
        let _ = call.await.unwrap();
    }
    for n in 0..20 {
        let name = format!("new-{n}");
        assert_eq!(creates(&provider, &name).await.unwrap(), Created::Done);
        assert!(holds(&present, &name), "{name} is not on the new server");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn an_address_in_use_is_checked_for_another_server() {
    let (former, present) = (Redis::start(), Redis::start());
    let switch = Switch::to(former.address());
    let provider = RedisProvider::connect(format!("redis://{}/", switch.address)).await.unwrap();
    assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
    *switch.target.lock().unwrap() = present.address();
    // The connection to the former server stays open, and is enough for so few calls.
    let start = std::time::Instant::now();
    while !provider.load(&key("aa")).await.is_ok_and(|found| found.is_none()) {
        assert!(start.elapsed() < Duration::from_secs(60), "the former server is still used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(creates(&provider, "bb").await.unwrap(), Created::Done);
    assert!(holds(&present, "bb"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_short_stall_of_the_server_fails_no_write() {
    let redis = Redis::start();
    let provider = RedisProvider::connect(redis.url()).await.unwrap();
    for stall in 0..5 {
        redis.pause();
        let writes = (0..8).map(|n| {
            let provider = provider.clone();
            tokio::spawn(async move { creates(&provider, &format!("{stall}-{n}")).await })
        });
        let writes: Vec<_> = writes.collect();
        // The silence is long enough that another connection is tried.
        tokio::time::sleep(Duration::from_millis(350)).await;
        redis.resume();
        for write in writes {
            assert_eq!(write.await.unwrap().unwrap(), Created::Done);
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_dropped_call_does_not_close_its_connection() {
    let redis = Redis::start();
    let builder = RedisProvider::builder(redis.url()).call_timeout(Duration::from_millis(200));
    let provider = builder.connect().await.unwrap();
    assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
    let ids = || {
        let list: String = redis.ask(&["CLIENT", "LIST"]);
        let others = list.lines().filter(|line| !line.contains("cmd=client"));
        others.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = ids();
    assert_eq!(before.len(), 1);
    // Each call is sent, and dropped before its reply is read.
    for _ in 0..5 {
        let key = key("aa");
        let mut call = std::pin::pin!(provider.load(&key));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert!(provider.load(&key("aa")).await.unwrap().is_some());
    }
    assert_eq!(ids(), before);
}
