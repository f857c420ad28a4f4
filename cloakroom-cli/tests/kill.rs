//! Kills the process that writes the file provider's folder, or a file of SQLite, with SIGKILL under load, many times. Nothing acknowledged
//! is lost, no record is torn, and no logout is undone.
//!
//! `CLOAKROOM_KILLS` sets the number of kills, 200 by default on files and 50 on SQLite: `CLOAKROOM_KILLS=5000 cargo test -p cloakroom-cli
//! --test kill -- --nocapture`

#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::json;
use support::{Answer, Client, PATIENCE, Server};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The number of visitors with a session each, and of those who share one.
const ALONE: usize = 4;
const TOGETHER: usize = 3;

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    lost: AtomicU64,
    torn: AtomicU64,
    /// Sessions that may exist without a known id, since the response with their id was lost in this run.
    unconfirmed: AtomicU64,
}

impl Counts {
    fn of(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// Reports a violation and counts it.
fn report(count: &AtomicU64, what: String) {
    eprintln!("{what}");
    count.fetch_add(1, Ordering::Relaxed);
}

/// One run of the program, from its start to its kill.
struct Run {
    counts: Arc<Counts>,
    /// The number of acknowledgements until the kill.
    left: Mutex<u64>,
    over: Notify,
}

impl Run {
    /// Counts an acknowledged write.
    fn acknowledged(&self) {
        self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        let mut left = self.left.lock().expect("no thread has panicked");
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.over.notify_one();
        }
    }
}

/// The range in which a stored value must be after a crash.
#[derive(Clone, Default)]
struct Value {
    acknowledged: u64,
    attempted: u64,
}

impl Value {
    fn allows(&self, found: u64) -> bool {
        (self.acknowledged..=self.attempted).contains(&found)
    }

    /// Takes the stored value as acknowledged from now on.
    fn accept(&mut self, found: u64) {
        *self = Value { acknowledged: found, attempted: found };
    }
}

/// The request that was in progress at the kill, if its outcome is unknown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    Nothing,
    /// A new id may have replaced the known one.
    Renewal,
    /// The session may have ended.
    End,
}

/// A visitor with a session of its own, who logs in and out and remembers what was acknowledged.
struct Visitor {
    name: String,
    client: Client,
    values: BTreeMap<&'static str, Value>,
    doubt: Doubt,
    /// Cookies of sessions that have ended for certain.
    dead: Vec<String>,
    turn: u64,
}

impl Visitor {
    fn new(name: String, client: Client) -> Self {
        let doubt = Doubt::Nothing;
        Visitor { name, client, values: BTreeMap::new(), doubt, dead: Vec::new(), turn: 0 }
    }

    /// Makes changes until the program is killed.
    async fn make_changes(mut self, run: Arc<Run>) -> Self {
        while self.make_change(&run).await.is_some() {
            run.acknowledged();
        }
        self
    }

    /// Makes one change. Returns `None` if there was no answer.
    async fn make_change(&mut self, run: &Run) -> Option<()> {
        self.turn += 1;
        match (self.client.cookie().is_some(), self.turn % 12) {
            (false, _) | (_, 3) => {
                let user = json!({ "user": self.name }).to_string();
                self.renew(run, "/api/login", &user).await
            }
            (_, 6) => self.renew(run, "/api/session/regenerate", "").await,
            (_, 0) => self.log_out().await,
            (_, odd) if odd % 2 == 1 => {
                write(&mut self.client, self.values.entry("own").or_default(), "own").await
            }
            _ => increment(&mut self.client, self.values.entry("n").or_default()).await,
        }
    }

    async fn renew(&mut self, run: &Run, path: &str, body: &str) -> Option<()> {
        let old = self.client.cookie().map(str::to_owned);
        self.doubt = Doubt::Renewal;
        let Some(answer) = answer(&mut self.client, Method::POST, path, body).await else {
            run.counts.unconfirmed.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        answer.done();
        self.doubt = Doubt::Nothing;
        assert_ne!(self.client.cookie().map(str::to_owned), old, "{path} gives a new id");
        self.dead.extend(old);
        Some(())
    }

    async fn log_out(&mut self) -> Option<()> {
        let old = self.client.cookie().map(str::to_owned);
        self.doubt = Doubt::End;
        answer(&mut self.client, Method::POST, "/api/logout", "").await?.done();
        self.doubt = Doubt::Nothing;
        assert_eq!(self.client.cookie(), None);
        self.dead.extend(old);
        self.values.clear();
        Some(())
    }

    /// Compares what is stored after a crash with what was acknowledged.
    async fn verify(&mut self, server: &Server, counts: &Counts) {
        self.client = self.client.at(server);
        let present = present(&self.client, counts).await;
        if !present {
            if self.client.cookie().is_some() && self.doubt == Doubt::Nothing {
                report(&counts.lost, format!("{}: the session is gone", self.name));
            }
            self.dead.extend(self.client.cookie().map(str::to_owned));
            self.client = self.client.newcomer();
            self.values.clear();
        }
        self.doubt = Doubt::Nothing;
        for (key, value) in &mut self.values {
            verify_value(&mut self.client, key, value, counts).await;
        }
        // The end of the test checks the others.
        for dead in self.dead.iter().rev().take(3) {
            self.verify_dead(dead, counts).await;
        }
    }

    async fn verify_dead(&self, cookie: &str, counts: &Counts) {
        let mut client = self.client.newcomer();
        client.bring(cookie);
        if present(&client, counts).await {
            report(&counts.lost, format!("{}: an ended id is alive", self.name));
        }
    }
}

/// A session that several visitors use at once and none ends.
struct Shared {
    client: Client,
    n: Value,
    own: Vec<Value>,
}

impl Shared {
    fn make_changes(&self, tasks: &mut JoinSet<(usize, Value, u64, u64)>, run: &Arc<Run>) {
        for (turn, mut own) in self.own.iter().cloned().enumerate() {
            let (mut client, run) = (self.client.clone(), Arc::clone(run));
            tasks.spawn(async move {
                let key = OWN[turn];
                let (mut n, mut attempted) = (Value::default(), 0);
                loop {
                    attempted += 1;
                    if increment(&mut client, &mut n).await.is_none() {
                        break;
                    }
                    run.acknowledged();
                    if write(&mut client, &mut own, key).await.is_none() {
                        break;
                    }
                    run.acknowledged();
                }
                (turn, own, n.acknowledged, attempted)
            });
        }
    }

    async fn verify(&mut self, server: &Server, counts: &Counts) {
        self.client = self.client.at(server);
        if !present(&self.client, counts).await {
            report(&counts.lost, "the shared session is gone".to_owned());
        }
        verify_value(&mut self.client, "n", &mut self.n, counts).await;
        for (key, own) in OWN.iter().zip(&mut self.own) {
            verify_value(&mut self.client, key, own, counts).await;
        }
    }
}

const OWN: [&str; TOGETHER] = ["own-0", "own-1", "own-2"];

/// Sends a request. Returns `None` without an answer, since the program may be killed; an answer must be a success.
async fn answer(client: &mut Client, method: Method, path: &str, body: &str) -> Option<Answer> {
    let answer = client.try_send(method, path, &[], body).await.ok()?;
    assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.body);
    Some(answer)
}

async fn write(client: &mut Client, value: &mut Value, key: &str) -> Option<()> {
    value.attempted += 1;
    let (path, body) = (format!("/api/session/data/{key}"), value.attempted.to_string());
    answer(client, Method::PUT, &path, &body).await?.done();
    value.acknowledged = value.attempted;
    Some(())
}

async fn increment(client: &mut Client, value: &mut Value) -> Option<()> {
    value.attempted += 1;
    let answer = answer(client, Method::POST, "/api/session/data/n/increment", "").await?;
    let n = answer.body.parse().expect("a bare number");
    *value = Value { acknowledged: n, attempted: n };
    Some(())
}

/// Returns whether the session exists. A session that cannot be read counts as torn.
async fn present(client: &Client, counts: &Counts) -> bool {
    let answer = client.clone().get("/api/session").await;
    if answer.status != 200 {
        report(&counts.torn, format!("a session answers {}: {}", answer.status, answer.body));
        return false;
    }
    answer.json()["present"] == true
}

async fn verify_value(client: &mut Client, key: &str, value: &mut Value, counts: &Counts) {
    let answer = client.get(&format!("/api/session/data/{key}")).await;
    let stored = match answer.status {
        200 => answer.body.parse().expect("a bare number"),
        404 => 0,
        status => return report(&counts.torn, format!("{key} answers {status}: {}", answer.body)),
    };
    if !value.allows(stored) {
        let Value { acknowledged, attempted } = value;
        report(&counts.lost, format!("{key} is {stored}, not in {acknowledged}..={attempted}"));
    }
    value.accept(stored);
}

/// Returns a random number below `below`.
fn random_below(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % below
}

/// The folder or the database, its visitors and the counts of all runs.
struct Folder {
    provider: &'static str,
    path: PathBuf,
    config: String,
    counts: Arc<Counts>,
    visitors: Vec<Visitor>,
    shared: Shared,
    /// The number of stored sessions whose ids nobody knows.
    unknown: u64,
}

impl Folder {
    async fn new(provider: &'static str, path: &Path) -> Self {
        let config = json!({ "cookieName": "id", "providerConfig": path, "maxLifetime": 3600 }).to_string();
        let server = Server::start(&["--provider", provider, "--config", &config]);
        let mut client = server.client();
        client.login("everybody").await;
        let shared = Shared { client, n: Value::default(), own: vec![Value::default(); TOGETHER] };
        let visitor = |n: usize| Visitor::new(format!("visitor {n}"), server.client());
        let visitors = (0..ALONE).map(visitor).collect();
        Folder {
            provider,
            path: path.to_owned(),
            config,
            counts: Arc::default(),
            visitors,
            shared,
            unknown: 0,
        }
    }

    fn open(&self) -> Server {
        Server::start(&["--provider", self.provider, "--config", &self.config])
    }

    /// Verifies what the last run left, then makes changes until the program is killed.
    async fn run_and_kill(&mut self) {
        let server = self.open();
        self.verify(&server).await;
        // 150 acknowledgements take about 100 ms.
        let left = Mutex::new(1 + random_below(150));
        let run = Arc::new(Run { counts: Arc::clone(&self.counts), left, over: Notify::new() });
        let mut alone = JoinSet::new();
        for visitor in self.visitors.drain(..) {
            alone.spawn(visitor.make_changes(Arc::clone(&run)));
        }
        let mut together = JoinSet::new();
        self.shared.make_changes(&mut together, &run);
        tokio::time::timeout(PATIENCE, run.over.notified()).await.expect("acknowledgements in time");
        // Wait a little, so that the kill does not always follow an answer.
        tokio::time::sleep(std::time::Duration::from_micros(random_below(2000))).await;
        server.kill();
        self.visitors = alone.join_all().await;
        for (turn, own, acknowledged, attempted) in together.join_all().await {
            self.shared.own[turn] = own;
            self.shared.n.acknowledged = self.shared.n.acknowledged.max(acknowledged);
            self.shared.n.attempted += attempted;
        }
    }

    async fn verify(&mut self, server: &Server) {
        let counts = &self.counts;
        self.shared.verify(server, counts).await;
        for visitor in &mut self.visitors {
            visitor.verify(server, counts).await;
        }
        let known =
            1 + self.visitors.iter().filter(|visitor| visitor.client.cookie().is_some()).count() as u64;
        let active = server.client().get("/api/active").await;
        let active = active.json()["active"].as_u64().expect("a number");
        let (least, most) = (known + self.unknown, known + self.unknown + Counts::of(&counts.unconfirmed));
        if !(least..=most).contains(&active) {
            report(&counts.torn, format!("expected {least} to {most} sessions, found {active}"));
        }
        self.unknown = active - known;
        counts.unconfirmed.store(0, Ordering::Relaxed);
        if let Ok(mut aside) = std::fs::read_dir(self.path.join(".corrupt"))
            && aside.next().is_some()
        {
            report(&counts.torn, "a record was put aside as corrupt".to_owned());
        }
    }

    /// Verifies that every ended id is still dead.
    async fn verify_all_dead(&self) {
        for visitor in &self.visitors {
            for dead in &visitor.dead {
                visitor.verify_dead(dead, &self.counts).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_loses_nothing_acknowledged() {
    loses_nothing("file", "sessions", 200).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_of_sqlite_loses_nothing_acknowledged() {
    loses_nothing("sqlite", "data/sessions.db", 50).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sessions_of_the_demonstration_survive_a_restart_on_sqlite() {
    let root = tempfile::tempdir().expect("a folder");
    let config = json!({ "cookieName": "id", "providerConfig": root.path().join("data/sessions.db") });
    let start = || Server::start(&["--provider", "sqlite", "--config", &config.to_string()]);
    let first = start();
    let mut client = first.client();
    client.login("alice").await;
    client.put("/api/session/data/key", "1").await.done();
    assert_eq!(first.terminated().await, Some(0));
    let second = start();
    client.at(&second).get("/api/session/data/key").await.is(json!(1));
    assert_eq!(client.at(&second).get("/api/active").await.json(), json!({ "active": 1 }));
}

/// Kills the process that writes `by_default` times, or as often as `CLOAKROOM_KILLS` says.
async fn loses_nothing(provider: &'static str, place: &str, by_default: u64) {
    let kills = match std::env::var("CLOAKROOM_KILLS") {
        Ok(kills) => kills.parse().expect("CLOAKROOM_KILLS is a number"),
        Err(_) => by_default,
    };
    let root = tempfile::tempdir().expect("a folder");
    let mut folder = Folder::new(provider, &root.path().join(place)).await;
    for _ in 0..kills {
        folder.run_and_kill().await;
    }
    let server = folder.open();
    folder.verify(&server).await;
    folder.verify_all_dead().await;

    let counts = &folder.counts;
    let (acknowledged, lost, torn) =
        (Counts::of(&counts.acknowledged), Counts::of(&counts.lost), Counts::of(&counts.torn));
    servers::tell(format_args!("kills: {kills}, acknowledged: {acknowledged}, lost: {lost}, torn: {torn}"));
    assert_eq!((lost, torn), (0, 0));
    assert!(
        acknowledged >= kills,
        "expected at least {kills} writes, one for each run, found {acknowledged}"
    );
}
