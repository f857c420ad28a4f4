//! Two processes over one store, and visitors who use both while faults are injected into its server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use servers::Proxy;
use tokio::task::JoinHandle;

use crate::lateness;
use crate::support::{self, Server};
use crate::visitor::{Counts, Visitor};

const VISITORS: usize = 8;

/// Two processes over one store, and the visitors who use both.
pub(crate) struct Load {
    programs: Arc<[Server]>,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    visitors: Vec<JoinHandle<Visitor>>,
}

impl Load {
    pub(crate) fn start(provider: &str, url: &str) -> Load {
        let config = serde_json::json!({ "cookieName": "id", "hashIds": true, "maxLifetime": 3600, "providerConfig": url });
        let program = || Server::start(&["--provider", provider, "--config", &config.to_string()]);
        let programs: Arc<[Server]> = [program(), program()].into();
        let (counts, over) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let visitors = (0..VISITORS).map(|n| {
            let visitor = Visitor::new(n, Arc::clone(&programs), Arc::clone(&counts));
            tokio::spawn(visitor.run(Arc::clone(&over)))
        });
        Load { visitors: visitors.collect(), programs, counts, over }
    }

    /// Waits until each process has completed a login and read the session back. Returns how long that took.
    pub(crate) async fn recovery(&self) -> Duration {
        let start = Instant::now();
        let recovered = self.programs.iter().map(async |program| {
            let mut client = program.client();
            loop {
                let body = serde_json::json!({ "user": "probe" }).to_string();
                let answer = client.post("/api/login", &body).await;
                if answer.status == 204 && client.get("/api/session").await.status == 200 {
                    break start.elapsed();
                }
                assert!(start.elapsed() < support::PATIENCE, "the program does not recover");
            }
        });
        join_all(recovered).await.into_iter().max().unwrap_or_default()
    }

    /// Stops the visitors and compares what each knows with what is stored.
    pub(crate) async fn end(self) -> Arc<Counts> {
        self.over.store(true, Ordering::SeqCst);
        for visitor in self.visitors {
            let mut visitor = visitor.await.expect("a visitor");
            visitor.verify().await;
            visitor.verify_all_dead().await;
        }
        self.counts
    }
}

/// A server into which faults are injected.
pub(crate) trait Victim {
    fn kill(&mut self);
    /// Starts the server again and returns once it answers.
    fn restart(&mut self);
    fn pause(&self);
    /// Resumes the server and returns once it answers.
    fn resume(&self);
}

/// Implements [`Victim`] with the server's own methods of the same names.
macro_rules! victims {
    ($($server:ty)*) => { $(
        impl Victim for $server {
            fn kill(&mut self) {
                self.kill();
            }

            fn restart(&mut self) {
                self.restart();
            }

            fn pause(&self) {
                self.pause();
            }

            fn resume(&self) {
                self.resume();
                self.ready();
            }
        }
    )* };
}

victims! { servers::Redis servers::MariaDb servers::Postgres }

/// A fault of the server, or of the network before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, then a restart from what is on disk.
    Kill,
    /// SIGSTOP, later SIGCONT: connections stay open, but nothing answers.
    Stop,
    /// The proxy closes every connection, and each new one.
    Cut,
    /// The proxy keeps connections open and drops all their bytes, for these connections for ever.
    Blackhole,
}

impl Fault {
    const ALL: [Fault; 4] = [Fault::Kill, Fault::Stop, Fault::Cut, Fault::Blackhole];

    fn of(round: u32) -> Fault {
        match (round % 3, round % 2) {
            (0, _) => Fault::Kill,
            (1, _) => Fault::Stop,
            (_, 0) => Fault::Cut,
            _ => Fault::Blackhole,
        }
    }

    async fn inject(self, victim: &mut impl Victim, proxy: &Proxy, duration: Duration) {
        match self {
            Fault::Kill => {
                victim.kill();
                // Wait long enough for requests to meet a server that is down.
                tokio::time::sleep(duration / 4).await;
                tokio::task::block_in_place(|| victim.restart());
            }
            Fault::Stop => {
                victim.pause();
                tokio::time::sleep(duration).await;
                tokio::task::block_in_place(|| victim.resume());
            }
            Fault::Cut | Fault::Blackhole => {
                if self == Fault::Cut {
                    proxy.cut();
                } else {
                    proxy.blackhole();
                }
                tokio::time::sleep(duration).await;
                proxy.heal();
            }
        }
    }
}

/// Returns the length of a fault: 0 to 500 ms, and every eighth time longer than a request may wait.
fn length(round: u32) -> Duration {
    match round % 8 {
        7 => Duration::from_millis(2600),
        _ => Duration::from_millis(u64::from(round * 97 % 500)),
    }
}

/// Returns the number of rounds: `CLOAKROOM_FAULT_ROUNDS`, else `default`.
pub(crate) fn rounds_or(default: u32) -> u32 {
    match std::env::var("CLOAKROOM_FAULT_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("CLOAKROOM_FAULT_ROUNDS is a number"),
        Err(_) => default,
    }
}

/// Returns the time within which all requests must succeed again over MariaDB and PostgreSQL.
#[cfg(any(feature = "mysql", feature = "postgres"))]
#[allow(dead_code, reason = "the test of Redis has a bound of its own")]
pub(crate) fn within_of_sql(fault: Fault) -> Duration {
    match fault {
        Fault::Kill | Fault::Stop | Fault::Cut => Duration::from_secs(1),
        // A blackholed connection looks like a slow server until the deadline of 2 s.
        Fault::Blackhole => Duration::from_secs(3),
    }
}

/// Injects each fault in turn under load. `within` is the longest recovery that a fault may need.
pub(crate) async fn faults(
    name: &str,
    victim: &mut impl Victim,
    proxy: &Proxy,
    load: Load,
    rounds: u32,
    within: fn(Fault) -> Duration,
) {
    lateness::since(Instant::now());
    let (mut slowest, mut slow, mut of) = (Duration::ZERO, 0, [0; Fault::ALL.len()]);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let fault = Fault::of(round);
        of[fault as usize] += 1;
        fault.inject(victim, proxy, length(round / 3)).await;
        let over = Instant::now();
        let took = load.recovery().await;
        slowest = slowest.max(took);
        let late = lateness::since(over);
        if took > within(fault) + late {
            eprintln!("round {round}: recovery from {fault:?} took {took:?}, with timers {late:?} late");
            slow += 1;
        }
    }
    let counts = load.end().await;
    let of = Fault::ALL.map(|fault| format!("{fault:?} {}", of[fault as usize])).join(", ");
    let slowest = slowest.as_millis();
    servers::tell(format_args!("{name}: {rounds} rounds ({of}); slowest recovery: {slowest} ms; {counts}"));
    assert_eq!(slow, 0, "recoveries that took too long");
    counts.assert_none_late_or_foreign();
    counts.assert_nothing_lost();
    assert!(counts.acknowledged() > u64::from(rounds), "expected more acknowledged writes than rounds");
    assert!(
        counts.unavailable() > u64::from(rounds) / 3,
        "expected more 503 responses: the faults had too little effect"
    );
}
