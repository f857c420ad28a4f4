//! A visitor who remembers what was acknowledged, and checks that it is stored.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::lateness;
use crate::support::{Answer, Client, PATIENCE, Server};

/// The longest time that a request may take: the manager's default deadline of 2 s, and a tenth more.
const LONGEST: Duration = Duration::from_millis(2200);

/// The counts of all visitors together.
#[derive(Default)]
pub(crate) struct Counts {
    acknowledged: AtomicU64,
    unavailable: AtomicU64,
    slowest_ms: AtomicU64,
    late: AtomicU64,
    lost: AtomicU64,
    revived: AtomicU64,
    foreign: AtomicU64,
}

impl Counts {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) fn unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }

    #[track_caller]
    pub(crate) fn assert_none_late_or_foreign(&self) {
        let (late, foreign) = (self.late.load(Ordering::Relaxed), self.foreign.load(Ordering::Relaxed));
        assert_eq!((late, foreign), (0, 0), "late answers, and answers from another's session");
    }

    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self) {
        let (lost, revived) = (self.lost.load(Ordering::Relaxed), self.revived.load(Ordering::Relaxed));
        assert_eq!((lost, revived), (0, 0), "acknowledged writes lost, and ended sessions alive");
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "acknowledged: {}, answered 503: {}, slowest answer: {} ms, late: {}, lost: {}, revived: {}, foreign: {}",
            of(&self.acknowledged),
            of(&self.unavailable),
            of(&self.slowest_ms),
            of(&self.late),
            of(&self.lost),
            of(&self.revived),
            of(&self.foreign)
        )
    }
}

/// The range in which a stored number must be.
#[derive(Clone, Copy, Default)]
struct Value {
    acknowledged: u64,
    attempted: u64,
}

/// A visitor with a session of its own, who uses the processes in turn.
pub(crate) struct Visitor {
    name: String,
    client: Client,
    programs: Arc<[Server]>,
    counts: Arc<Counts>,
    own: Value,
    n: Value,
    /// True if a logout or a new id was requested and not acknowledged, so that the session may have ended.
    doubt: bool,
    /// Cookies of sessions that have ended for certain.
    dead: Vec<String>,
    turn: usize,
}

impl Visitor {
    pub(crate) fn new(number: usize, programs: Arc<[Server]>, counts: Arc<Counts>) -> Self {
        Visitor {
            name: format!("visitor {number}"),
            client: programs[0].client(),
            programs,
            counts,
            own: Value::default(),
            n: Value::default(),
            doubt: false,
            dead: Vec::new(),
            turn: number,
        }
    }

    /// Makes changes until `over` is set.
    pub(crate) async fn run(mut self, over: Arc<AtomicBool>) -> Self {
        while !over.load(Ordering::SeqCst) {
            let acted = self.make_change().await;
            if acted.is_none() || self.turn.is_multiple_of(10) {
                self.verify().await;
            }
        }
        self
    }

    /// Makes one change. Returns `None` if it was not acknowledged.
    async fn make_change(&mut self) -> Option<()> {
        self.turn += 1;
        match (self.client.cookie().is_some(), self.turn % 12) {
            (false, _) | (_, 3) => {
                let user = json!({ "user": self.name }).to_string();
                self.renew("/api/login", &user).await?;
            }
            (_, 6) => self.renew("/api/session/regenerate", "").await?,
            (_, 0) => self.log_out().await?,
            (_, odd) if odd % 2 == 1 => self.write().await?,
            _ => self.increment().await?,
        }
        self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        Some(())
    }

    async fn renew(&mut self, path: &str, body: &str) -> Option<()> {
        let old = self.client.cookie().map(str::to_owned);
        self.doubt |= old.is_some();
        let answer = self.send(Method::POST, path, body).await;
        done(answer)?;
        if self.client.cookie().map(str::to_owned) == old {
            // The login began a new session: a failover lost the old one.
            self.report_lost("an acknowledged session is gone, so it got no new id");
            self.start_over();
            return None;
        }
        self.doubt = false;
        self.dead.extend(old);
        Some(())
    }

    async fn log_out(&mut self) -> Option<()> {
        let old = self.client.cookie().map(str::to_owned);
        self.doubt = true;
        let answer = self.send(Method::POST, "/api/logout", "").await;
        done(answer)?;
        self.start_over();
        self.dead.extend(old);
        Some(())
    }

    async fn write(&mut self) -> Option<()> {
        let before = self.client.cookie().map(str::to_owned);
        self.own.attempted += 1;
        let number = self.own.attempted;
        let answer = self.send(Method::PUT, "/api/session/data/own", &number.to_string()).await;
        done(answer)?;
        self.same_session(before)?;
        self.own.acknowledged = number;
        Some(())
    }

    async fn increment(&mut self) -> Option<()> {
        let before = self.client.cookie().map(str::to_owned);
        self.n.attempted += 1;
        let answer = self.send(Method::POST, "/api/session/data/n/increment", "").await;
        if answer.status != 200 {
            return None;
        }
        let number: u64 = answer.body.parse().expect("a bare number");
        self.same_session(before)?;
        if number <= self.n.acknowledged || number > self.n.attempted {
            self.report_lost(&format!("an increment after {} made {number}", self.n.acknowledged));
        }
        self.n.acknowledged = number;
        Some(())
    }

    /// Checks that a change found its session. If it did not, it began a new one, and the answer sets a new cookie.
    fn same_session(&mut self, before: Option<String>) -> Option<()> {
        let now = self.client.cookie().map(str::to_owned);
        if now == before {
            return Some(());
        }
        if !self.doubt {
            self.report_lost("the session is gone");
        }
        self.dead.extend(before);
        self.start_over();
        None
    }

    /// Reads the session until the store answers, and compares it with what was acknowledged.
    pub(crate) async fn verify(&mut self) {
        let session = self.answer("/api/session").await.json();
        if session["present"] != true {
            if self.client.cookie().is_some() && !self.doubt {
                self.report_lost("the session is gone");
            }
            self.dead.extend(self.client.cookie().map(str::to_owned));
            return self.start_over();
        }
        if session["principal"] != *self.name {
            eprintln!("{} was served a session of {}", self.name, session["principal"]);
            self.counts.foreign.fetch_add(1, Ordering::Relaxed);
        }
        for (key, value) in [("own", self.own), ("n", self.n)] {
            let answer = self.answer(&format!("/api/session/data/{key}")).await;
            let Value { acknowledged, attempted } = value;
            let stored = if answer.status == 200 { answer.body.parse().expect("a bare number") } else { 0 };
            // The logout in doubt has happened, so the values are gone with the session.
            let gone = answer.status == 404 && self.doubt;
            if !gone && !(acknowledged..=attempted).contains(&stored) {
                self.report_lost(&format!("{key} is {stored}, not in {acknowledged}..={attempted}"));
            }
            let stored_value = Value { acknowledged: stored, attempted };
            if key == "own" {
                self.own = stored_value;
            } else {
                self.n = stored_value;
            }
        }
        for dead in self.dead.iter().rev().take(2).cloned().collect::<Vec<_>>() {
            self.verify_dead(&dead).await;
        }
    }

    pub(crate) async fn verify_all_dead(&mut self) {
        for dead in std::mem::take(&mut self.dead) {
            self.verify_dead(&dead).await;
        }
    }

    async fn verify_dead(&mut self, cookie: &str) {
        let mut other = self.client.newcomer();
        other.bring(cookie);
        let own = std::mem::replace(&mut self.client, other);
        let answer = self.answer("/api/session").await;
        self.client = own;
        if answer.json()["present"] == true {
            eprintln!("{}: an ended id is alive", self.name);
            self.counts.revived.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn start_over(&mut self) {
        self.client = self.client.newcomer();
        (self.own, self.n, self.doubt) = (Value::default(), Value::default(), false);
    }

    fn report_lost(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Repeats a GET until the store answers.
    async fn answer(&mut self, path: &str) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.send(Method::GET, path, "").await;
            if answer.status != 503 {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{path} is not answered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends one request to the next process. The answer must come in time, and a failure must set no cookie.
    async fn send(&mut self, method: Method, path: &str, body: &str) -> Answer {
        let mut client = self.client.at(&self.programs[self.turn % self.programs.len()]);
        let start = Instant::now();
        let mut late = false;
        let answer = {
            let sent = client.send(method, path, &[], body);
            tokio::pin!(sent);
            tokio::select! {
                // `biased` checks for the answer first, so that a busy test machine does not count as a late answer.
                biased;
                answer = &mut sent => answer,
                () = tokio::time::sleep(LONGEST) => {
                    late = true;
                    sent.await
                }
            }
        };
        let took = start.elapsed();
        self.counts.slowest_ms.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
        if late && took > LONGEST + lateness::since(start) {
            eprintln!("{}: {path} was answered after {took:?}", self.name);
            self.counts.late.fetch_add(1, Ordering::Relaxed);
        }
        match answer.status {
            503 => {
                assert_eq!(answer.set_cookie(), None, "a failure sets no cookie");
                self.counts.unavailable.fetch_add(1, Ordering::Relaxed);
            }
            200 | 204 | 404 | 409 => self.client = client,
            status => panic!("{path}: {status} {}", answer.body),
        }
        answer
    }
}

fn done(answer: Answer) -> Option<()> {
    (answer.status == 204).then_some(())
}
