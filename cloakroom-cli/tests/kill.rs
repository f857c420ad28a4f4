//! The writer of the file provider, killed with SIGKILL under load, again and again on one folder: nothing that was
//! acknowledged is lost, nothing is torn, and no logout is undone.
//!
//! `CLOAKROOM_KILLS` is how often, 200 if it is not set: `CLOAKROOM_KILLS=5000 cargo test -p cloakroom-cli --test kill -- --nocapture`

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

/// Visitors who have a session each, and those who share one.
const ALONE: usize = 4;
const TOGETHER: usize = 3;

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    lost: AtomicU64,
    torn: AtomicU64,
    /// Sessions that may have come to be in this life without anyone knowing: the answer that told their id was lost.
    untold: AtomicU64,
}

impl Counts {
    fn of(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// Something was found that must not be.
fn found(count: &AtomicU64, what: String) {
    eprintln!("{what}");
    count.fetch_add(1, Ordering::Relaxed);
}

/// One life of the program, as its visitors see it.
struct Life {
    counts: Arc<Counts>,
    /// How many more acknowledgements until it is killed, and who waits for that.
    left: Mutex<u64>,
    over: Notify,
}

impl Life {
    /// Notes that a write was answered.
    fn acknowledged(&self) {
        self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        let mut left = self.left.lock().expect("nobody has panicked");
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.over.notify_one();
        }
    }
}

/// What a stored value may be after a crash.
#[derive(Clone, Default)]
struct Value {
    acknowledged: u64,
    attempted: u64,
}

impl Value {
    fn allows(&self, found: u64) -> bool {
        (self.acknowledged..=self.attempted).contains(&found)
    }

    /// What was found counts from now on.
    fn settle(&mut self, found: u64) {
        *self = Value { acknowledged: found, attempted: found };
    }
}

/// What was on its way when the program died.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    Nothing,
    /// A new id may have taken the place of the one we hold.
    Renewal,
    /// The session may have ended.
    End,
}

/// A visitor with a session of its own, who logs in and out, and what it knows.
struct Visitor {
    name: String,
    client: Client,
    values: BTreeMap<&'static str, Value>,
    doubt: Doubt,
    /// Cookies that are dead for certain.
    dead: Vec<String>,
    turn: u64,
}

impl Visitor {
    fn new(name: String, client: Client) -> Self {
        let doubt = Doubt::Nothing;
        Visitor { name, client, values: BTreeMap::new(), doubt, dead: Vec::new(), turn: 0 }
    }

    /// Goes on until the program dies.
    async fn live(mut self, life: Arc<Life>) -> Self {
        while self.act(&life).await.is_some() {
            life.acknowledged();
        }
        self
    }

    /// One write; `None` if it was not answered.
    async fn act(&mut self, life: &Life) -> Option<()> {
        self.turn += 1;
        match (self.client.cookie().is_some(), self.turn % 12) {
            (false, _) | (_, 3) => {
                let user = json!({ "user": self.name }).to_string();
                self.renew(life, "/api/login", &user).await
            }
            (_, 6) => self.renew(life, "/api/session/regenerate", "").await,
            (_, 0) => self.log_out().await,
            (_, odd) if odd % 2 == 1 => {
                write(&mut self.client, self.values.entry("own").or_default(), "own").await
            }
            _ => increment(&mut self.client, self.values.entry("n").or_default()).await,
        }
    }

    async fn renew(&mut self, life: &Life, path: &str, body: &str) -> Option<()> {
        let old = self.client.cookie().map(str::to_owned);
        self.doubt = Doubt::Renewal;
        let Some(answer) = answer(&mut self.client, Method::POST, path, body).await else {
            life.counts.untold.fetch_add(1, Ordering::Relaxed);
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

    /// Compares what is there after a crash with what was acknowledged.
    async fn verify(&mut self, server: &Server, counts: &Counts) {
        self.client = self.client.at(server);
        let present = present(&self.client, counts).await;
        if !present {
            if self.client.cookie().is_some() && self.doubt == Doubt::Nothing {
                found(&counts.lost, format!("{}: the session is gone", self.name));
            }
            self.dead.extend(self.client.cookie().map(str::to_owned));
            self.client = self.client.newcomer();
            self.values.clear();
        }
        self.doubt = Doubt::Nothing;
        for (key, value) in &mut self.values {
            verify_value(&mut self.client, key, value, counts).await;
        }
        // The rest of them is looked at in the end.
        for dead in self.dead.iter().rev().take(3) {
            self.verify_dead(dead, counts).await;
        }
    }

    async fn verify_dead(&self, cookie: &str, counts: &Counts) {
        let mut client = self.client.newcomer();
        client.bring(cookie);
        if present(&client, counts).await {
            found(&counts.lost, format!("{}: an id that had ended is alive", self.name));
        }
    }
}

/// A session that several use at once, without ending it.
struct Shared {
    client: Client,
    n: Value,
    own: Vec<Value>,
}

impl Shared {
    fn live(&self, tasks: &mut JoinSet<(usize, Value, u64, u64)>, life: &Arc<Life>) {
        for (turn, mut own) in self.own.iter().cloned().enumerate() {
            let (mut client, life) = (self.client.clone(), Arc::clone(life));
            tasks.spawn(async move {
                let key = OWN[turn];
                let (mut n, mut attempted) = (Value::default(), 0);
                loop {
                    attempted += 1;
                    if increment(&mut client, &mut n).await.is_none() {
                        break;
                    }
                    life.acknowledged();
                    if write(&mut client, &mut own, key).await.is_none() {
                        break;
                    }
                    life.acknowledged();
                }
                (turn, own, n.acknowledged, attempted)
            });
        }
    }

    async fn verify(&mut self, server: &Server, counts: &Counts) {
        self.client = self.client.at(server);
        if !present(&self.client, counts).await {
            found(&counts.lost, "the shared session is gone".to_owned());
        }
        verify_value(&mut self.client, "n", &mut self.n, counts).await;
        for (key, own) in OWN.iter().zip(&mut self.own) {
            verify_value(&mut self.client, key, own, counts).await;
        }
    }
}

const OWN: [&str; TOGETHER] = ["own-0", "own-1", "own-2"];

/// The answer, if there is one. The program is killed while it answers, never does it fail.
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

/// Whether the session is there; what cannot be read is torn.
async fn present(client: &Client, counts: &Counts) -> bool {
    let answer = client.clone().get("/api/session").await;
    if answer.status != 200 {
        found(&counts.torn, format!("a session answers {}: {}", answer.status, answer.body));
        return false;
    }
    answer.json()["present"] == true
}

async fn verify_value(client: &mut Client, key: &str, value: &mut Value, counts: &Counts) {
    let answer = client.get(&format!("/api/session/data/{key}")).await;
    let stored = match answer.status {
        200 => answer.body.parse().expect("a bare number"),
        404 => 0,
        status => return found(&counts.torn, format!("{key} answers {status}: {}", answer.body)),
    };
    if !value.allows(stored) {
        let Value { acknowledged, attempted } = value;
        found(&counts.lost, format!("{key} is {stored}, not in {acknowledged}..={attempted}"));
    }
    value.settle(stored);
}

/// A number from 0 to `below`: any will do, and none needs to come twice.
fn any(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % below
}

/// The folder, its visitors, and what came of them so far.
struct Folder {
    path: PathBuf,
    config: String,
    counts: Arc<Counts>,
    visitors: Vec<Visitor>,
    shared: Shared,
    /// Sessions that are there though nobody was told their ids.
    unknown: u64,
}

impl Folder {
    async fn new(path: &Path) -> Self {
        let config = json!({ "cookieName": "id", "providerConfig": path, "maxLifetime": 3600 }).to_string();
        let server = Server::start(&["--provider", "file", "--config", &config]);
        let mut client = server.client();
        client.login("everybody").await;
        let shared = Shared { client, n: Value::default(), own: vec![Value::default(); TOGETHER] };
        let visitor = |n: usize| Visitor::new(format!("visitor {n}"), server.client());
        let visitors = (0..ALONE).map(visitor).collect();
        Folder { path: path.to_owned(), config, counts: Arc::default(), visitors, shared, unknown: 0 }
    }

    fn open(&self) -> Server {
        Server::start(&["--provider", "file", "--config", &self.config])
    }

    /// One life: what the last one left is verified, and then there are writes until it is killed.
    async fn live_and_die(&mut self) {
        let server = self.open();
        self.verify(&server).await;
        // Some 100 ms.
        let left = Mutex::new(1 + any(150));
        let life = Arc::new(Life { counts: Arc::clone(&self.counts), left, over: Notify::new() });
        let mut alone = JoinSet::new();
        for visitor in self.visitors.drain(..) {
            alone.spawn(visitor.live(Arc::clone(&life)));
        }
        let mut together = JoinSet::new();
        self.shared.live(&mut together, &life);
        tokio::time::timeout(PATIENCE, life.over.notified()).await.expect("acknowledgements in time");
        // Not always at the moment of an answer.
        tokio::time::sleep(std::time::Duration::from_micros(any(2000))).await;
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
        let (least, most) = (known + self.unknown, known + self.unknown + Counts::of(&counts.untold));
        if !(least..=most).contains(&active) {
            found(&counts.torn, format!("{active} sessions are there, not {least} to {most}"));
        }
        self.unknown = active - known;
        counts.untold.store(0, Ordering::Relaxed);
        if let Ok(mut aside) = std::fs::read_dir(self.path.join(".corrupt"))
            && aside.next().is_some()
        {
            found(&counts.torn, "a record was put aside as corrupt".to_owned());
        }
    }

    /// Every id that ever ended is still dead.
    async fn verify_all_dead(&self) {
        for visitor in &self.visitors {
            for dead in &visitor.dead {
                visitor.verify_dead(dead, &self.counts).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_killed_under_load_tears_nothing_and_loses_nothing_that_was_acknowledged() {
    let kills = match std::env::var("CLOAKROOM_KILLS") {
        Ok(kills) => kills.parse().expect("CLOAKROOM_KILLS is a number"),
        Err(_) => 200,
    };
    let root = tempfile::tempdir().expect("a folder");
    let mut folder = Folder::new(&root.path().join("sessions")).await;
    for _ in 0..kills {
        folder.live_and_die().await;
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
        "the program was hardly under load: {acknowledged} writes in {kills} lives"
    );
}
