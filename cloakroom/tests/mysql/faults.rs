//! A load test during which the database is killed, stopped and cut off repeatedly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use cloakroom::{Manager, MySqlProvider};
use servers::{MariaDb, Proxy};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::visitor::{Seen, Visitor, ask, site};

const VISITORS: usize = 16;
const DEADLINE: Duration = Duration::from_secs(2);

/// A fault of the server or of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// SIGKILL, and a restart from the disk.
    Kill,
    /// SIGSTOP for longer than the deadline. Connections stay open, and nothing answers.
    Stop,
    /// Every connection is closed, and new ones too.
    Cut,
    /// Every connection loses all data silently.
    Blackhole,
}

impl Fault {
    /// Returns the time within which every visitor gets answers again, once the server does.
    fn recovery(self) -> Duration {
        match self {
            Fault::Kill | Fault::Stop | Fault::Cut => Duration::from_secs(1),
            // Until the deadline, a silent connection looks like a slow server.
            Fault::Blackhole => DEADLINE + Duration::from_secs(1),
        }
    }
}

const FAULTS: [Fault; 6] = [Fault::Kill, Fault::Cut, Fault::Stop, Fault::Kill, Fault::Cut, Fault::Blackhole];

const FAULTS_ONCE: [Fault; 4] = [Fault::Kill, Fault::Stop, Fault::Cut, Fault::Blackhole];

/// Returns the number of rounds, 30 by default.
fn rounds() -> usize {
    std::env::var("CLOAKROOM_FAULT_ROUNDS")
        .ok()
        .map_or(30, |rounds| rounds.parse().expect("CLOAKROOM_FAULT_ROUNDS is a number"))
}

/// Measures how late this machine's timers are, since a busy machine must not make the library look slow.
struct Lateness {
    longest: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Lateness {
    fn watch() -> Self {
        let (longest, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (note, end) = (Arc::clone(&longest), Arc::clone(&over));
        tokio::spawn(async move {
            const TICK: Duration = Duration::from_millis(5);
            while !end.load(Ordering::Relaxed) {
                let start = Instant::now();
                tokio::time::sleep(TICK).await;
                let late = start.elapsed().saturating_sub(TICK).as_millis() as u64;
                note.fetch_max(late, Ordering::Relaxed);
            }
        });
        Lateness { longest, over }
    }

    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A server behind a proxy, and a site on it.
struct Rig {
    server: MariaDb,
    proxy: Proxy,
    site: Router,
    sessions: Manager,
}

impl Rig {
    async fn new() -> Self {
        let server = MariaDb::start();
        let proxy = Proxy::before(server.address());
        let place = format!("tcp({})", SocketAddr::from(([127, 0, 0, 1], proxy.port())));
        let provider = MySqlProvider::connect(&MariaDb::dsn_at(&place, "pool=8")).await.unwrap();
        let sessions = Manager::builder(provider).deadline(DEADLINE).build().unwrap();
        Rig { server, proxy, site: site(&sessions), sessions }
    }

    /// Causes a fault for a while and ends it. The server answers again when this returns.
    fn strike(&mut self, fault: Fault) {
        let lasts = |millis| std::thread::sleep(Duration::from_millis(millis));
        match fault {
            Fault::Kill => {
                self.server.kill();
                lasts(200);
                self.server.restart();
            }
            Fault::Stop => {
                self.server.pause();
                lasts(2_500);
                self.server.resume();
                self.server.ready();
            }
            Fault::Cut => {
                self.proxy.cut();
                lasts(300);
                self.proxy.heal();
            }
            Fault::Blackhole => {
                self.proxy.blackhole();
                lasts(2_500);
                self.proxy.heal();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn no_acknowledged_write_is_lost_under_faults() {
    let mut rig = Rig::new().await;
    let (tell, told) = watch::channel(false);
    let lateness = Lateness::watch();
    let recovered: Arc<[AtomicU64]> = (0..VISITORS).map(|_| AtomicU64::new(0)).collect();
    let epoch = Instant::now();
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let (site, told, recovered) = (rig.site.clone(), told.clone(), Arc::clone(&recovered));
        visitors.spawn(async move {
            let mut visitor = Visitor::new(number);
            for turn in number.. {
                if *told.borrow() {
                    break;
                }
                visitor.step(&site, turn).await;
                if let Some(at) = visitor.last_success {
                    recovered[number].store((at - epoch).as_micros() as u64, Ordering::SeqCst);
                }
                // Pause like a person. Without it, a small machine would not schedule the fault.
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            visitor
        });
    }
    let start = Instant::now();
    let mut slowest = FAULTS.map(|fault| (fault, Duration::ZERO));
    for round in 0..rounds() {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let fault = FAULTS[round % FAULTS.len()];
        let answers = tokio::task::block_in_place(|| {
            rig.strike(fault);
            Instant::now()
        });
        let took = all_answered(&recovered, epoch, answers, fault).await;
        slowest
            .iter_mut()
            .filter(|(of, _)| *of == fault)
            .for_each(|(_, slowest)| *slowest = took.max(*slowest));
    }
    tell.send_replace(true);
    let mut seen = Seen::default();
    for mut visitor in visitors.join_all().await {
        visitor.read(&rig.site).await;
        for cookie in &visitor.ended {
            let answer = ask(&rig.site, "/read", cookie).await;
            assert_eq!((answer.status, answer.text.trim()), (200, "0"), "an id that had ended is alive");
        }
        seen.requests += visitor.seen.requests;
        seen.refused += visitor.seen.refused;
        seen.acknowledged += visitor.seen.acknowledged;
        seen.logouts += visitor.seen.logouts;
        seen.longest = seen.longest.max(visitor.seen.longest);
    }
    let late = lateness.longest();
    servers::tell(format_args!(
        "{} rounds in {:.0?} ({VISITORS} visitors): {} requests, {} refused with 503, {} writes acknowledged ({} logouts), \
         0 lost, 0 undone; the longest answer took {:.0?}; timers were up to {late:?} late; slowest recoveries: {}",
        rounds(),
        start.elapsed(),
        seen.requests,
        seen.refused,
        seen.acknowledged,
        seen.logouts,
        seen.longest,
        FAULTS_ONCE
            .map(|fault| format!(
                "{fault:?} {:.0?}",
                slowest.iter().find(|(of, _)| *of == fault).expect("one of all").1
            ))
            .join(", ")
    ));
    assert!(seen.refused > 0 && seen.logouts > 0, "no request met a fault, or no visitor logged out");
    assert!(seen.longest <= DEADLINE + DEADLINE / 10 + late, "an answer took {:?}", seen.longest);
    for (fault, took) in slowest {
        assert!(took <= fault.recovery() + late, "recovery from {fault:?} took {took:?}");
    }
    assert!(rig.sessions.active_sessions().await.unwrap() >= 1);
}

/// Waits until every visitor has had a success since `ready`, and returns how long that took.
async fn all_answered(last: &[AtomicU64], epoch: Instant, ready: Instant, fault: Fault) -> Duration {
    let since = (ready - epoch).as_micros() as u64;
    loop {
        let now = Instant::now();
        if last.iter().all(|at| at.load(Ordering::SeqCst) > since) {
            return now - ready;
        }
        assert!(now - ready < Duration::from_secs(30), "after {fault:?} some are never answered again");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
