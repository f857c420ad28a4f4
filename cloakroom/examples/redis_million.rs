//! A million sessions in a Redis of its own, and in a cluster of its own: how long the count takes, a user's list, a walk over all, and how
//! much memory a session needs there.
//!
//! `cargo run --release -p cloakroom --features redis,testkit --example redis_million -- 1000000`

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on must fail")]

use std::time::{Duration, Instant};

use cloakroom::testkit::record;
use cloakroom::{
    Clock, Principal, Provider, RedisProvider,
    providers::{IndexEntry, StoreKey},
};
use servers::{Redis, RedisCluster};

/// Creates under way at a time.
const AT_ONCE: usize = 256;

#[tokio::main]
async fn main() {
    let sessions: usize = std::env::args().nth(1).map_or(1_000_000, |number| number.parse().unwrap());
    let redis = Redis::start();
    measure("a server", &redis.url(), sessions, &[&redis]).await;
    drop(redis);
    let cluster = RedisCluster::start();
    let url = format!("redis+cluster://{}", cluster.addresses().join(","));
    measure("a cluster of three primaries", &url, sessions, &[0, 1, 2].map(|n| cluster.node(n))).await;
}

async fn measure(name: &str, url: &str, sessions: usize, nodes: &[&Redis]) {
    let builder = RedisProvider::builder(url).call_timeout(Duration::from_secs(30));
    let provider = builder.connect().await.unwrap();
    let used = || nodes.iter().map(|node| used_memory(node)).sum::<u64>();
    let before = used();
    let start = Instant::now();
    let fillers = (0..AT_ONCE).map(|filler| {
        let provider = provider.clone();
        tokio::spawn(async move {
            for n in (filler..sessions).step_by(AT_ONCE) {
                // As long as the keys that ids are hashed to; three sessions a user.
                let key: StoreKey = format!("{:064x}", n as u128 * 0x9e37_79b9_7f4a_7c15).parse().unwrap();
                let record =
                    record(&Clock::system()).principal(format!("user-{}", n / 3)).filled(100).build();
                let _ = provider.create(&key, &record).await.unwrap();
            }
        })
    });
    for filler in fillers.collect::<Vec<_>>() {
        filler.await.unwrap();
    }
    let took = start.elapsed();
    println!("{name}: {sessions} sessions of 100 bytes of data in {:.0} s", took.as_secs_f64());
    println!("  memory for each: {} bytes", (used() - before) / sessions as u64);
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        assert_eq!(provider.count().await.unwrap(), sessions as u64);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("  count: {:?} (median of 21), {:?} at the most", times[10], times[20]);
    let start = Instant::now();
    let user = IndexEntry::from(&Principal::new("user-7").unwrap());
    let listed = provider.indexed(&user, None, 100).await.unwrap().entries;
    println!("  a user's {} sessions: {:?}", listed.len(), start.elapsed());
    let (start, mut met, mut cursor) = (Instant::now(), 0, None);
    loop {
        let page = provider.scan(cursor, 1000).await.unwrap();
        met += page.entries.len();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    println!("  a walk over all {met} in pages of 1000: {:?}", start.elapsed());
}

fn used_memory(node: &Redis) -> u64 {
    let info = node.ask::<String>(&["INFO", "memory"]);
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}
