//! A store that does not answer delays its own requests until the deadline, and nothing else in the process.

use std::time::{Duration, Instant};

use cloakroom::{ErrorKind, Manager, MemoryProvider};
use http::HeaderMap;
use tokio::task::{JoinSet, block_in_place};

use crate::support::Rig;
use crate::support::faulty::Fault;
use crate::visitors::{PATIENCE, cookie_of};

const DEADLINE: Duration = Duration::from_secs(2);
/// More requests than tokio has threads for blocking work (512).
const CROWD: usize = 600;

/// Begins a session at `node`, and returns its cookie.
async fn begun(node: &Manager) -> HeaderMap {
    let session = node.start(&HeaderMap::new()).await.unwrap();
    session.set("n", 1).unwrap();
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await.unwrap();
    cookie_of(&response).unwrap()
}

/// The kind of a request.
#[derive(Clone, Copy, Debug)]
enum Page {
    Read,
    Write,
    LogOut,
    Begin,
}

async fn visit(node: &Manager, cookie: &HeaderMap, page: Page) -> cloakroom::Result<()> {
    let newcomer = HeaderMap::new();
    let session = node.start(if matches!(page, Page::Begin) { &newcomer } else { cookie }).await?;
    match page {
        Page::Read => drop(session.get::<u64>("n")?),
        Page::Write | Page::Begin => session.set("n", 2)?,
        Page::LogOut => session.destroy()?,
    }
    session.release(&mut HeaderMap::new()).await.map(drop)
}

/// Checks that every request of a crowd fails within the deadline after `stop` has stopped the store of `hanging`, and that
/// `other` and the process's threads for blocking work are not delayed.
async fn only_its_own_requests_wait(
    hanging: &Manager,
    other: &Manager,
    stop: impl FnOnce(),
    resume: impl FnOnce(),
) {
    let (here, there) = (begun(hanging).await, begun(other).await);
    stop();
    let mut crowd = JoinSet::new();
    for turn in 0..CROWD {
        let page = [Page::Read, Page::Write, Page::LogOut, Page::Begin][turn % 4];
        let (hanging, here) = (hanging.clone(), here.clone());
        crowd.spawn(async move {
            let start = Instant::now();
            (page, visit(&hanging, &here, page).await, start.elapsed())
        });
    }
    // Another store and file access work at the same time.
    let mut beside = 0;
    while crowd.try_join_next().is_none() {
        let start = Instant::now();
        for page in [Page::Read, Page::Write, Page::Begin] {
            visit(other, &there, page).await.expect("the other store answers");
        }
        let _ = tokio::task::spawn_blocking(|| std::fs::metadata(".").map(|_| ())).await.unwrap();
        assert!(start.elapsed() < DEADLINE / 2, "the rest of the process waited {:?}", start.elapsed());
        beside += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(answer) = crowd.join_next().await {
        let (page, answer, took) = answer.unwrap();
        let error = answer.expect_err("the store does not answer");
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{page:?}: {error}");
        assert!(took < DEADLINE + Duration::from_secs(1), "{page:?} waited {took:?}");
    }
    assert!(beside > 0, "the crowd was answered at once");
    resume();
    let start = Instant::now();
    while visit(hanging, &HeaderMap::new(), Page::Begin).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "it does not recover");
    }
}

fn memory() -> Manager {
    Manager::builder(MemoryProvider::new()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_provider_delays_only_its_own_requests() {
    let rig = Rig::new();
    let (stop, resume) = (|| rig.faults.set_all(Fault::Hang), || rig.faults.heal());
    only_its_own_requests_wait(&rig.manager, &memory(), stop, resume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_stopped_redis_delays_only_its_own_requests() {
    let [stopped, running] = block_in_place(|| [servers::Redis::start(), servers::Redis::start()]);
    let (hanging, other) = (crate::node(&stopped.url()).await, crate::node(&running.url()).await);
    only_its_own_requests_wait(&hanging, &other, || stopped.pause(), || stopped.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_stopped_cluster_delays_only_its_own_requests() {
    let cluster = block_in_place(servers::RedisCluster::start);
    let url = format!("redis+cluster://{}", cluster.addresses()[..2].join(","));
    let all = |act: fn(&servers::Redis)| (0..6).for_each(|n| act(cluster.node(n)));
    let hanging = crate::node(&url).await;
    only_its_own_requests_wait(
        &hanging,
        &memory(),
        || all(servers::Redis::pause),
        || all(servers::Redis::resume),
    )
    .await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_stopped_mariadb_delays_only_its_own_requests() {
    let server = block_in_place(servers::MariaDb::start);
    let provider = cloakroom::MySqlProvider::connect(&server.dsn("pool=8")).await.unwrap();
    let hanging = Manager::builder(provider).build().unwrap();
    only_its_own_requests_wait(&hanging, &memory(), || server.pause(), || server.resume()).await;
}
