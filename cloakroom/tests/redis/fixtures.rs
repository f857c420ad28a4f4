//! One installation of each kind, shared by all tests of this program. Every test uses a prefix of its own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom::testkit::{Part, Store};
use cloakroom::{
    Clock, RedisProvider,
    providers::{RedisProviderBuilder, StoreKey},
};
use servers::{Redis, RedisCluster, RedisOptions, RedisSentinels};

static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);
static TLS: LazyLock<Redis> =
    LazyLock::new(|| Redis::with(RedisOptions { tls: true, ..RedisOptions::default() }));
static SOCKET: LazyLock<Redis> =
    LazyLock::new(|| Redis::with(RedisOptions { unix_socket: true, ..RedisOptions::default() }));
static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);
static SENTINELS: LazyLock<RedisSentinels> = LazyLock::new(RedisSentinels::start);

/// Returns the URL of the single server, or that of `CLOAKROOM_REDIS_URL`.
pub(crate) fn server_url() -> String {
    std::env::var("CLOAKROOM_REDIS_URL").unwrap_or_else(|_| SERVER.url())
}

pub(crate) fn cluster_url() -> String {
    format!("redis+cluster://{}", CLUSTER.addresses()[..2].join(","))
}

pub(crate) fn tls_builder() -> RedisProviderBuilder {
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let certificates = TLS.certificates();
    RedisProvider::builder(TLS.tls_url())
        .root_certificates(read(&certificates.authority))
        .client_certificate(read(&certificates.client), read(&certificates.client_key))
}

/// Returns a prefix that no other test uses.
pub(crate) fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn open(builder: RedisProviderBuilder, clock: &Clock, prefix: &str) -> RedisProvider {
    builder.prefix(prefix).clock(clock.clone()).connect().await.unwrap()
}

pub(crate) async fn single(clock: Clock) -> Store {
    let prefix = prefix();
    let store = Store::new(open(RedisProvider::builder(server_url()), &clock, &prefix).await);
    let store = store.with_planting(move |key: StoreKey, bytes| {
        let name = format!("{prefix}:{{0}}:session:{}", key.as_str());
        let client = redis::Client::open(server_url()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        let set = redis::cmd("SET").arg(name).arg(bytes).arg("KEEPTTL").query::<()>(&mut connection);
        async move { set.expect("the server takes it") }
    });
    let store = store.without(Part::Second, "on_a_server_with_two_handles covers it");
    without_refusals(store)
}

fn without_refusals(store: Store) -> Store {
    let why = "the tests share this server; refusing.rs covers it on one of its own";
    store.without(Part::Full, why).without(Part::ReadOnly, why)
}

/// Leaves out the parts of the contract that other stores of this program cover.
pub(crate) fn without_repeated_parts(store: impl Into<Store>) -> Store {
    let store = store.into().without(Part::Planting, "on_a_server covers it");
    without_refusals(store.without(Part::Second, "on_a_server_with_two_handles covers it"))
}

/// Returns a store with two handles that share no connections, like two processes.
pub(crate) async fn two_handles(clock: Clock) -> Store {
    let prefix = prefix();
    let one = open(RedisProvider::builder(server_url()), &clock, &prefix).await;
    without_repeated_parts(one).with_second(open(RedisProvider::builder(server_url()), &clock, &prefix).await)
}

pub(crate) async fn tls(clock: Clock) -> Store {
    without_repeated_parts(open(tls_builder(), &clock, &prefix()).await)
}

pub(crate) async fn socket(clock: Clock) -> Store {
    let url = format!("unix://{}", SOCKET.socket().display());
    without_repeated_parts(open(RedisProvider::builder(url), &clock, &prefix()).await)
}

pub(crate) async fn cluster(clock: Clock) -> Store {
    let prefix = prefix();
    let one = open(RedisProvider::builder(cluster_url()), &clock, &prefix).await;
    without_repeated_parts(one)
        .with_second(open(RedisProvider::builder(cluster_url()), &clock, &prefix).await)
}

pub(crate) async fn sentinels(clock: Clock) -> Store {
    let url = format!("redis+sentinel://{}/{}", SENTINELS.addresses().join(","), RedisSentinels::NAME);
    without_repeated_parts(open(RedisProvider::builder(url), &clock, &prefix()).await)
}

pub(crate) fn tls_url() -> String {
    TLS.tls_url()
}

/// Returns the authority of the TLS server's certificate, in PEM.
pub(crate) fn authority() -> Vec<u8> {
    std::fs::read(&TLS.certificates().authority).unwrap()
}
