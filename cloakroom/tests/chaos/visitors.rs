//! Visitors of several processes over one store: each remembers what it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::{Manager, Principal, Result};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use parking_lot::RwLock;
use tokio::task::JoinSet;

use crate::history::{Allowed, History, Verdict, What};

pub(crate) const VISITORS: usize = 8;
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Processes over one store; in truth managers with providers, connections and caches of their own.
pub(crate) type Nodes = Arc<RwLock<Vec<Manager>>>;

/// Visitors who come again and again.
pub(crate) struct Load {
    nodes: Nodes,
    pub(crate) history: Arc<History>,
    over: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    visitors: JoinSet<Vec<Known>>,
}

/// An id, by its cookie and its number in the history.
#[derive(Clone)]
pub(crate) struct Known {
    cookie: HeaderMap,
    id: u64,
}

impl Load {
    pub(crate) fn start(nodes: Vec<Manager>) -> Load {
        let nodes: Nodes = Arc::new(RwLock::new(nodes));
        let (history, over, quiet) =
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
            visitors.spawn(visitor.live(Arc::clone(&over), Arc::clone(&quiet)));
        }
        Load { nodes, history, over, quiet, visitors }
    }

    /// Nobody comes from now on, until [`wake`](Self::wake). Who is there has been answered when this returns.
    pub(crate) async fn hush(&self) {
        self.quiet.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    pub(crate) fn wake(&self) {
        self.quiet.store(false, Ordering::SeqCst);
    }

    /// Another process comes up.
    pub(crate) fn join(&self, node: Manager) {
        self.nodes.write().push(node);
    }

    /// Waits until every process serves a visitor who begins a session and one who has one.
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

    /// Lets the visitors finish, has every process look at all their ids, and judges.
    pub(crate) async fn end(self, allowed: Allowed) -> Verdict {
        self.wake();
        self.over.store(true, Ordering::SeqCst);
        let known: Vec<_> = self.visitors.join_all().await.into_iter().flatten().collect();
        tokio::time::sleep(allowed.unseen).await;
        let nodes = self.nodes.read().clone();
        for known in known {
            for (number, node) in nodes.iter().enumerate() {
                let start = Instant::now();
                while look(&self.history, node, number, &known).await.is_err() {
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

/// One who comes again and again, to one process after another.
struct Visitor {
    nodes: Nodes,
    history: Arc<History>,
    name: String,
    current: Option<(Known, u64)>,
    /// Ids that have ended, or may have.
    former: Vec<Known>,
    turn: usize,
}

impl Visitor {
    async fn live(mut self, over: Arc<AtomicBool>, quiet: Arc<AtomicBool>) -> Vec<Known> {
        while !over.load(Ordering::SeqCst) {
            if quiet.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            self.turn += 1;
            if let Err(error) = self.act().await {
                self.history.failed(&error);
            }
            // People pause; the machine has other things to do.
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

    async fn act(&mut self) -> Result<()> {
        let (node, number) = self.node();
        let Some((known, _)) = self.current.clone() else { return self.begin(&node, number).await };
        match self.turn % 23 {
            0 => self.log_out(&node, number, known).await,
            8 | 16 => self.renew(&node, number, known).await,
            turn if turn % 3 == 0 => {
                if look(&self.history, &node, number, &known).await? {
                    return Ok(());
                }
                // Lost, which the history says, or ended in doubt.
                self.retire();
                Ok(())
            }
            turn if turn % 7 == 5 => self.look_back(&node, number).await,
            _ => self.add(&node, number, &known).await,
        }
    }

    fn retire(&mut self) {
        self.former.extend(self.current.take().map(|(known, _)| known));
    }

    async fn begin(&mut self, node: &Manager, number: usize) -> Result<()> {
        let (began, mut response) = (Instant::now(), HeaderMap::new());
        let session = node.start(&HeaderMap::new()).await?;
        session.authenticate(Principal::new(&self.name)?)?;
        session.set("whose", &self.name)?;
        session.set("n", 0)?;
        let _ = session.release(&mut response).await?;
        self.now_is(cookie_of(&response).expect("a new session's cookie"), number, began, 0);
        Ok(())
    }

    fn now_is(&mut self, cookie: HeaderMap, number: usize, began: Instant, n: u64) {
        let known = Known { cookie, id: self.history.id() };
        self.history.push(known.id, number, began, What::Begun(n));
        self.current = Some((known, n));
    }

    async fn add(&mut self, node: &Manager, number: usize, known: &Known) -> Result<()> {
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
                self.history.push(known.id, number, began, What::Added(n));
                self.current = Some((known.clone(), n));
                Ok(())
            }
            Ok(None) => {
                self.history.push(known.id, number, began, What::Read(None));
                self.retire();
                Ok(())
            }
            Err(error) => {
                self.history.push(known.id, number, began, What::MaybeAdded);
                Err(error)
            }
        }
    }

    async fn renew(&mut self, node: &Manager, number: usize, known: Known) -> Result<()> {
        let (began, mut response) = (Instant::now(), HeaderMap::new());
        let renewed = async {
            let session = node.start(&known.cookie).await?;
            let n = session.get::<u64>("n")?;
            if n.is_some() {
                session.regenerate()?;
            }
            let _ = session.release(&mut response).await?;
            Ok(n)
        };
        let renewed: Result<Option<u64>> = renewed.await;
        self.retire();
        match (renewed, cookie_of(&response)) {
            (Ok(Some(n)), Some(cookie)) => {
                self.history.push(known.id, number, began, What::Ended);
                self.now_is(cookie, number, began, n);
                Ok(())
            }
            (Ok(_), _) => {
                self.history.push(known.id, number, began, What::Read(None));
                Ok(())
            }
            // The new id is not known then: that life is over.
            (Err(error), _) => {
                self.history.push(known.id, number, began, What::MaybeEnded);
                Err(error)
            }
        }
    }

    async fn log_out(&mut self, node: &Manager, number: usize, known: Known) -> Result<()> {
        let began = Instant::now();
        self.retire();
        let ended = async {
            let session = node.start(&known.cookie).await?;
            session.destroy()?;
            session.release(&mut HeaderMap::new()).await
        };
        let ended = ended.await;
        let what = if ended.is_ok() { What::Ended } else { What::MaybeEnded };
        self.history.push(known.id, number, began, what);
        ended.map(drop)
    }

    /// Looks at one of the last ids that have ended.
    async fn look_back(&mut self, node: &Manager, number: usize) -> Result<()> {
        let nth = self.turn / 7 % self.former.len().clamp(1, 4);
        let Some(known) = self.former.iter().rev().nth(nth).cloned() else { return Ok(()) };
        look(&self.history, node, number, &known).await.map(drop)
    }
}

/// Returns true if the session is there.
async fn look(history: &History, node: &Manager, number: usize, known: &Known) -> Result<bool> {
    let began = Instant::now();
    let session = node.start(&known.cookie).await?;
    let n: Option<u64> = session.get("n")?;
    let _ = session.release(&mut HeaderMap::new()).await?;
    history.push(known.id, number, began, What::Read(n));
    Ok(n.is_some())
}

/// A request's headers with the cookie that `response` sets.
pub(crate) fn cookie_of(response: &HeaderMap) -> Option<HeaderMap> {
    let pair = response.get(SET_COOKIE)?.to_str().ok()?.split(';').next()?.to_owned();
    Some(HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(pair).ok()?)]))
}
