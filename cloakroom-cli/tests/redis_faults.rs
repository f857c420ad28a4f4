//! Redis killed, stopped and cut off under load, again and again: what is answered in the meantime, how soon all works again, and
//! whether anything that was acknowledged is lost, any logout undone, or anyone served another's session.
//!
//! `CLOAKROOM_FAULT_ROUNDS` is how often, 102 if it is not set:
//! `cargo xtask faults redis --rounds 2000`

#![cfg(all(unix, feature = "redis"))]

#[path = "redis_faults/failover.rs"]
mod failover;
mod support;
#[path = "redis_faults/visitor.rs"]
mod visitor;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use servers::{Proxy, Redis, RedisOptions};
use support::Server;
use tokio::task::JoinHandle;
use visitor::{Counts, Visitor};

const VISITORS: usize = 8;

/// Two processes over one store, and visitors who use both.
struct Load {
    programs: Arc<[Server]>,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<Visitor>>,
}

impl Load {
    fn start(provider: &str, url: &str) -> Load {
        let config = serde_json::json!({ "cookieName": "id", "hashIds": true, "maxLifetime": 3600, "providerConfig": url });
        let program = || Server::start(&["--provider", provider, "--config", &config.to_string()]);
        let programs: Arc<[Server]> = [program(), program()].into();
        let (counts, over) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let visitors = (0..VISITORS).map(|n| {
            let visitor = Visitor::new(n, Arc::clone(&programs), Arc::clone(&counts));
            tokio::spawn(visitor.live(Arc::clone(&over)))
        });
        Load { visitors: visitors.collect(), programs, counts, over }
    }

    /// How long it takes until both processes serve somebody who has a session and somebody who begins one.
    async fn recovery(&self) -> Duration {
        let start = Instant::now();
        for program in self.programs.iter() {
            let mut client = program.client();
            loop {
                let body = serde_json::json!({ "user": "probe" }).to_string();
                let answer = client.post("/api/login", &body).await;
                if answer.status == 204 && client.get("/api/session").await.status == 200 {
                    break;
                }
                assert!(start.elapsed() < support::PATIENCE, "it does not recover");
            }
        }
        start.elapsed()
    }

    /// Lets the visitors come to an end, and compares all that they know with what is there.
    async fn end(self) -> Arc<Counts> {
        self.over.store(true, Ordering::SeqCst);
        for visitor in self.visitors {
            let mut visitor = visitor.await.expect("a visitor");
            visitor.settle().await;
            visitor.verify_all_dead().await;
        }
        self.counts
    }
}

#[derive(Default)]
struct Rounds {
    kills: u32,
    stops: u32,
    cuts: u32,
    slowest: Duration,
    slow: u32,
}

impl Rounds {
    /// After a fault is over, the next second has to bring an answer.
    async fn recovered(&mut self, load: &Load) {
        let took = load.recovery().await;
        self.slowest = self.slowest.max(took);
        if took > Duration::from_secs(1) {
            eprintln!("round {}: recovery took {took:?}", self.all());
            self.slow += 1;
        }
    }

    fn all(&self) -> u32 {
        self.kills + self.stops + self.cuts
    }
}

/// A few milliseconds to half a second, and each eighth time more than a request may wait.
fn length(round: u32) -> Duration {
    match round % 8 {
        7 => Duration::from_millis(2600),
        _ => Duration::from_millis(u64::from(round * 97 % 500)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_killed_stopped_and_cut_off_under_load_loses_nothing_and_comes_back_by_itself() {
    let wanted: u32 = match std::env::var("CLOAKROOM_FAULT_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("CLOAKROOM_FAULT_ROUNDS is a number"),
        Err(_) => 102,
    };
    let mut redis = Redis::with(RedisOptions { durable: true, ..RedisOptions::default() });
    let proxy = Proxy::before(redis.address());
    let load = Load::start("redis", &redis.url_at(proxy.port()));
    let mut rounds = Rounds::default();
    for round in 0..wanted {
        tokio::time::sleep(Duration::from_millis(60)).await;
        match round % 3 {
            0 => {
                redis.kill();
                // Long enough for requests to meet a server that is not there.
                tokio::time::sleep(length(round / 3) / 4).await;
                tokio::task::block_in_place(|| redis.restart());
                rounds.kills += 1;
            }
            1 => {
                redis.pause();
                tokio::time::sleep(length(round / 3)).await;
                redis.resume();
                rounds.stops += 1;
            }
            _ => {
                match round % 2 {
                    0 => proxy.cut(),
                    _ => proxy.blackhole(),
                }
                tokio::time::sleep(length(round / 3)).await;
                proxy.heal();
                rounds.cuts += 1;
            }
        }
        rounds.recovered(&load).await;
    }
    let counts = load.end().await;
    servers::tell(format_args!(
        "rounds: {} (killed {}, stopped {}, cut off {}); slowest recovery: {} ms; {counts}",
        rounds.all(),
        rounds.kills,
        rounds.stops,
        rounds.cuts,
        rounds.slowest.as_millis(),
    ));
    assert_eq!(rounds.slow, 0, "recoveries of more than a second");
    counts.assert_none_late_or_foreign();
    counts.assert_nothing_lost();
    assert!(counts.acknowledged() > u64::from(wanted), "the server was hardly under load");
    assert!(counts.unavailable() > u64::from(wanted) / 3, "the faults were hardly noticed");
}
