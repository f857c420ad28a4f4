//! Visitors of several processes that share a store. The history records every reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::{Manager, Principal, Result};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use parking_lot::RwLock;
use tokio::task::JoinSet;

use crate::history::{History, Outcome, Tolerance, Verdict};

pub(crate) const VISITORS: usize = 8;
/// Longer than any wait here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The processes that share a store: managers with separate providers, connections and caches.
pub(crate) type Nodes = Arc<RwLock<Vec<Manager>>>;

/// Visitors who send requests until the test ends.
pub(crate) struct Load {
    nodes: Nodes,
    pub(crate) history: Arc<History>,
    stopped: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    visitors: JoinSet<Vec<KnownId>>,
}

/// A session id: its cookie, and its number in the history.
#[derive(Clone)]
pub(crate) struct KnownId {
    cookie: HeaderMap,
    id: u64,
}

impl Load {
    pub(crate) fn start(nodes: Vec<Manager>) -> Load {
        let nodes: Nodes = Arc::new(RwLock::new(nodes));
        let (history, stopped, paused) =
            (History::new(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let mut visitors = JoinSet::new();
        for n in 0..VISITORS {
            let visitor = Visitor {
                nodes: Arc::clone(&nodes),
                history: Arc::clone(&history),
                name: format!("visitor-{n}"),
                current: None,
                former: Vec::new(),
                turn: n,
            };
            visitors.spawn(visitor.run(Arc::clone(&stopped), Arc::clone(&paused)));
        }
        Load { nodes, history, stopped, paused, visitors }
    }

    /// Makes all visitors pause until [`resume`](Self::resume). Requests in progress have their replies when this returns.
    pub(crate) async fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    /// Adds another process.
    pub(crate) fn join(&self, node: Manager) {
        self.nodes.write().push(node);
    }

    /// Waits until every process serves a new visitor and one with a session. Returns the time it took.
    pub(crate) async fn recovery(&self) -> Duration {
        let start = Instant::now();
        let nodes = self.nodes.read().clone();
        for node in nodes {
            loop {
                if serves(&node).await.is_ok() {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "a process does not recover within {PATIENCE:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        start.elapsed()
    }

    /// Stops the visitors, reads all their ids through every process, and checks the history.
    pub(crate) async fn end(self, allowed: Tolerance) -> Verdict {
        self.resume();
        self.stopped.store(true, Ordering::SeqCst);
        let known: Vec<_> = self.visitors.join_all().await.into_iter().flatten().collect();
        tokio::time::sleep(allowed.unseen).await;
        let nodes = self.nodes.read().clone();
        for known in known {
            for (number, node) in nodes.iter().enumerate() {
                let start = Instant::now();
                while read_session(&self.history, node, number, &known).await.is_err() {
                    assert!(start.elapsed() < PATIENCE, "a process does not answer within {PATIENCE:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        self.history.judge(&allowed)
    }
}

async fn serves(node: &Manager) -> Result<()> {
    let session = node.start(&HeaderMap::new()).await?;
    session.set("n", 0)?;
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await?;
    let session = node.start(&cookie_of(&response).expect("a new session's cookie")).await?;
    session.destroy()?;
    session.release(&mut HeaderMap::new()).await.map(drop)
}

/// A visitor who sends requests to one process after another.
struct Visitor {
    nodes: Nodes,
    history: Arc<History>,
    name: String,
    current: Option<(KnownId, u64)>,
    /// Ids whose session has ended, or may have ended.
    former: Vec<KnownId>,
    turn: usize,
}

impl Visitor {
    async fn run(mut self, stopped: Arc<AtomicBool>, paused: Arc<AtomicBool>) -> Vec<KnownId> {
        while !stopped.load(Ordering::SeqCst) {
            if paused.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            self.turn += 1;
            if let Err(error) = self.visit().await {
                self.history.failed(&error);
            }
            // The pause leaves the processor to the servers.
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        self.former.extend(self.current.take().map(|(known, _)| known));
        self.former
    }

    fn node(&self) -> (Manager, usize) {
        let nodes = self.nodes.read();
        let number = self.turn % nodes.len();
        (nodes[number].clone(), number)
    }

    async fn visit(&mut self) -> Result<()> {
        let (node, number) = self.node();
        let Some((known, _)) = self.current.clone() else { return self.begin(&node, number).await };
        match self.turn % 23 {
            0 => self.log_out(&node, number, known).await,
            8 | 16 => self.regenerate(&node, number, known).await,
            turn if turn % 3 == 0 => {
                if read_session(&self.history, &node, number, &known).await? {
                    return Ok(());
                }
                // The session was lost, which the history shows, or an end with an unknown outcome took effect.
                self.retire_current();
                Ok(())
            }
            turn if turn % 7 == 5 => self.read_former_id(&node, number).await,
            _ => self.add(&node, number, &known).await,
        }
    }

    fn retire_current(&mut self) {
        self.former.extend(self.current.take().map(|(known, _)| known));
    }

    async fn begin(&mut self, node: &Manager, number: usize) -> Result<()> {
        let (began, mut response) = (Instant::now(), HeaderMap::new());
        let session = node.start(&HeaderMap::new()).await?;
        session.authenticate(Principal::new(&self.name)?)?;
        session.set("whose", &self.name)?;
        session.set("n", 0)?;
        let _ = session.release(&mut response).await?;
        self.set_current(cookie_of(&response).expect("a new session's cookie"), number, began, 0);
        Ok(())
    }

    fn set_current(&mut self, cookie: HeaderMap, number: usize, began: Instant, n: u64) {
        let known = KnownId { cookie, id: self.history.id() };
        self.history.push(known.id, number, began, Outcome::Started(n));
        self.current = Some((known, n));
    }

    async fn add(&mut self, node: &Manager, number: usize, known: &KnownId) -> Result<()> {
        let began = Instant::now();
        let added = async {
            let session = node.start(&known.cookie).await?;
            if session.id().is_none() {
                return Ok(None);
            }
            session.update("n", |n: Option<u64>| n.unwrap_or_default() + 1).await.map(Some)
        };
        match added.await {
            Ok(Some(n)) => {
                self.history.push(known.id, number, began, Outcome::Added(n));
                self.current = Some((known.clone(), n));
                Ok(())
            }
            Ok(None) => {
                self.history.push(known.id, number, began, Outcome::Read(None));
                self.retire_current();
                Ok(())
            }
            Err(error) => {
                self.history.push(known.id, number, began, Outcome::MaybeAdded);
                Err(error)
            }
        }
    }

    async fn regenerate(&mut self, node: &Manager, number: usize, known: KnownId) -> Result<()> {
        let (began, mut response) = (Instant::now(), HeaderMap::new());
        let regenerated = async {
            let session = node.start(&known.cookie).await?;
            let n = session.get::<u64>("n")?;
            if n.is_some() {
                session.regenerate()?;
            }
            let _ = session.release(&mut response).await?;
            Ok(n)
        };
        let regenerated: Result<Option<u64>> = regenerated.await;
        self.retire_current();
        match (regenerated, cookie_of(&response)) {
            (Ok(Some(n)), Some(cookie)) => {
                self.history.push(known.id, number, began, Outcome::Ended);
                self.set_current(cookie, number, began, n);
                Ok(())
            }
            (Ok(_), _) => {
                self.history.push(known.id, number, began, Outcome::Read(None));
                Ok(())
            }
            // The new id is unknown, so the visitor starts a new session.
            (Err(error), _) => {
                self.history.push(known.id, number, began, Outcome::MaybeEnded);
                Err(error)
            }
        }
    }

    async fn log_out(&mut self, node: &Manager, number: usize, known: KnownId) -> Result<()> {
        let began = Instant::now();
        self.retire_current();
        let ended = async {
            let session = node.start(&known.cookie).await?;
            session.destroy()?;
            session.release(&mut HeaderMap::new()).await
        };
        let ended = ended.await;
        let outcome = if ended.is_ok() { Outcome::Ended } else { Outcome::MaybeEnded };
        self.history.push(known.id, number, began, outcome);
        ended.map(drop)
    }

    /// Reads one of the last ids that have ended.
    async fn read_former_id(&mut self, node: &Manager, number: usize) -> Result<()> {
        let nth = self.turn / 7 % self.former.len().clamp(1, 4);
        let Some(known) = self.former.iter().rev().nth(nth).cloned() else { return Ok(()) };
        read_session(&self.history, node, number, &known).await.map(drop)
    }
}

/// Reads the session's counter. Returns true if there is a session.
async fn read_session(history: &History, node: &Manager, number: usize, known: &KnownId) -> Result<bool> {
    let began = Instant::now();
    let session = node.start(&known.cookie).await?;
    let n: Option<u64> = session.get("n")?;
    let _ = session.release(&mut HeaderMap::new()).await?;
    history.push(known.id, number, began, Outcome::Read(n));
    Ok(n.is_some())
}

/// Returns the headers of a request with the cookie that `response` sets.
pub(crate) fn cookie_of(response: &HeaderMap) -> Option<HeaderMap> {
    let pair = response.get(SET_COOKIE)?.to_str().ok()?.split(';').next()?.to_owned();
    Some(HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(pair).ok()?)]))
}
