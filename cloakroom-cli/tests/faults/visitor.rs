//! A visitor who remembers what was acknowledged, and looks whether it is so.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::lateness;
use crate::support::{Answer, Client, PATIENCE, Server};

/// A request may take the manager's deadline, which is 2 s by default, and a tenth more.
const LONGEST: Duration = Duration::from_millis(2200);

/// What the visitors have seen.
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

/// What a stored number may be.
#[derive(Clone, Copy, Default)]
struct Value {
    acknowledged: u64,
    attempted: u64,
}

/// A visitor with a session of its own, who goes from process to process.
pub(crate) struct Visitor {
    name: String,
    client: Client,
    programs: Arc<[Server]>,
    counts: Arc<Counts>,
    own: Value,
    n: Value,
    /// The session may have ended, or may end yet: a logout or a new id was asked for and never acknowledged.
    doubt: bool,
    /// Cookies that are dead for certain.
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

    /// Goes on until it is `over`.
    pub(crate) async fn live(mut self, over: Arc<AtomicBool>) -> Self {
        while !over.load(Ordering::SeqCst) {
            let acted = self.act().await;
            if acted.is_none() || self.turn.is_multiple_of(10) {
                self.settle().await;
            }
        }
        self
    }

    /// One change; `None` if it was not acknowledged.
    async fn act(&mut self) -> Option<()> {
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
            // Nobody was there to be given one: a failover has lost the session.
            self.lose("a session that was acknowledged is not there to be given a new id");
            self.begin_anew();
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
        self.begin_anew();
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
            self.lose(&format!("an increment after {} made {number}", self.n.acknowledged));
        }
        self.n.acknowledged = number;
        Some(())
    }

    /// A change that finds no session begins a new one, which says that the old one is gone.
    fn same_session(&mut self, before: Option<String>) -> Option<()> {
        let now = self.client.cookie().map(str::to_owned);
        if now == before {
            return Some(());
        }
        if !self.doubt {
            self.lose("the session is gone");
        }
        self.dead.extend(before);
        self.begin_anew();
        None
    }

    /// Asks until there is an answer, and compares it with what was acknowledged.
    pub(crate) async fn settle(&mut self) {
        let session = self.answer("/api/session").await.json();
        if session["present"] != true {
            if self.client.cookie().is_some() && !self.doubt {
                self.lose("the session is gone");
            }
            self.dead.extend(self.client.cookie().map(str::to_owned));
            return self.begin_anew();
        }
        if session["principal"] != *self.name {
            eprintln!("{} was served a session of {}", self.name, session["principal"]);
            self.counts.foreign.fetch_add(1, Ordering::Relaxed);
        }
        for (key, value) in [("own", self.own), ("n", self.n)] {
            let answer = self.answer(&format!("/api/session/data/{key}")).await;
            let Value { acknowledged, attempted } = value;
            let stored = if answer.status == 200 { answer.body.parse().expect("a bare number") } else { 0 };
            // An answer from another session, or from none: what was in doubt has happened now.
            let gone = answer.status == 404 && self.doubt;
            if !gone && !(acknowledged..=attempted).contains(&stored) {
                self.lose(&format!("{key} is {stored}, not in {acknowledged}..={attempted}"));
            }
            let settled = Value { acknowledged: stored, attempted };
            match key {
                "own" => self.own = settled,
                _ => self.n = settled,
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
            eprintln!("{}: an id that had ended is alive", self.name);
            self.counts.revived.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn begin_anew(&mut self) {
        self.client = self.client.newcomer();
        (self.own, self.n, self.doubt) = (Value::default(), Value::default(), false);
    }

    fn lose(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// What `path` says as soon as the store answers.
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

    /// One request, to the process whose turn it is. It has to be answered in time, and a failure without a cookie.
    async fn send(&mut self, method: Method, path: &str, body: &str) -> Answer {
        let mut client = self.client.at(&self.programs[self.turn % self.programs.len()]);
        let start = Instant::now();
        let mut late = false;
        let answer = {
            let sent = client.send(method, path, &[], body);
            tokio::pin!(sent);
            tokio::select! {
                // First whether there is an answer, so that a machine that was busy with other things is no lateness of ours.
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
