//! One Redis for all rows. Each row has a prefix of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::LazyLock;

use crate::visitor::PATIENCE;
use cloakroom::{Clock, ErrorKind, RedisProvider, providers::AnyProvider};
use servers::{Certificates, Proxy, Redis, RedisOptions};

static SERVER: LazyLock<Redis> = LazyLock::new(Redis::start);

pub(super) fn address() -> SocketAddr {
    SERVER.address()
}

pub(super) async fn open(prefix: &str, clock: &Clock, port: Option<u16>) -> AnyProvider {
    let url = port.map_or_else(|| SERVER.url(), |port| SERVER.url_at(port));
    let mut builder = RedisProvider::builder(url).prefix(prefix).clock(clock.clone());
    // Through a proxy, calls keep the short default timeout.
    if port.is_none() {
        builder = builder.call_timeout(PATIENCE);
    }
    AnyProvider::new(builder.connect().await.expect("the server takes the connection"))
}

fn keys(prefix: &str) -> Vec<String> {
    SERVER.ask(&["KEYS", &format!("{prefix}:*")])
}

pub(super) fn dump(prefix: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for key in keys(prefix) {
        all.extend_from_slice(key.as_bytes());
        match SERVER.ask::<String>(&["TYPE", &key]).as_str() {
            "string" => all.extend(SERVER.ask::<Vec<u8>>(&["GET", &key])),
            "hash" => all.extend(SERVER.ask::<Vec<Vec<u8>>>(&["HGETALL", &key]).concat()),
            "set" => all.extend(SERVER.ask::<Vec<Vec<u8>>>(&["SMEMBERS", &key]).concat()),
            "zset" => all.extend(SERVER.ask::<Vec<Vec<u8>>>(&["ZRANGE", &key, "0", "-1"]).concat()),
            // The key expired in the meantime.
            "none" => {}
            other => panic!("expected a type that this row reads, found {other}"),
        }
    }
    all
}

/// Replaces the records by `bytes`, which must be text, since the command's words are.
pub(super) fn plant(prefix: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("text");
    for key in keys(prefix).into_iter().filter(|key| key.contains("session:")) {
        assert_eq!(SERVER.ask::<String>(&["TYPE", &key]), "string");
        SERVER.ask::<()>(&["SET", &key, text, "KEEPTTL"]);
    }
}

/// Asserts that the certificate is checked: its authority, and the server's name in it.
pub(crate) async fn certificates_are_checked() {
    let server = Redis::with(RedisOptions { tls: true, ..RedisOptions::default() });
    let folder = tempfile::tempdir().expect("a folder");
    let stranger = Certificates::write(folder.path());
    let ours = server.certificates();
    let read = |path: &Path| std::fs::read(path).expect("a file");
    let connect = |url: &str, authority: &Path| {
        RedisProvider::builder(url)
            .root_certificates(read(authority))
            .client_certificate(read(&ours.client), read(&ours.client_key))
            .connect()
    };
    let (url, elsewhere) =
        (server.tls_url(), Proxy::under(Ipv4Addr::new(127, 0, 0, 2), server.tls_address()));
    connect(&url, &ours.authority).await.expect("the right authority");
    let by_another_name = format!("rediss://{}/", elsewhere.address());
    for (url, authority) in [(&url, &stranger.authority), (&by_another_name, &ours.authority)] {
        let refused = connect(url, authority).await.expect_err("a wrong certificate");
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert!(format!("{refused:?}").contains("ertificate"), "the refusal has another reason: {refused:?}");
    }
}
