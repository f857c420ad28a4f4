//! Writes sessions with other Rust session libraries into a Redis server of its own, and prints what they wrote.
//!
//! `cargo run --manifest-path cloakroom/tests/vectors/peers/make/Cargo.toml > cloakroom/tests/vectors/peers/samples.json`

mod actix;
mod axum_session;
mod tower;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::AsyncCommands;
use serde::Serialize;
use serde_json::{Value, json};

/// The secret of every cookie and every encrypted record: the bytes 0 to 63.
pub fn secret() -> Vec<u8> {
    (0..64).collect()
}

/// A session as a peer wrote it.
#[derive(Serialize)]
pub struct Sample {
    pub peer: &'static str,
    pub case: &'static str,
    /// The `Cookie` header with which a browser answers the response.
    pub cookie: String,
    /// The headers of the request, besides the cookie.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The keys of Redis, their values in hex, and whether each has a time to live.
    pub redis: Vec<(String, String, bool)>,
}

/// The values that every session holds.
pub fn values() -> Vec<(&'static str, Value)> {
    vec![
        ("n", json!(7)),
        ("largest", json!(u64::MAX)),
        ("negative", json!(-5)),
        ("fraction", json!(0.1)),
        ("text", json!("Grüße, \"世界\"")),
        ("cart", json!({"tea": 2, "list": [true, null, {"deep": []}]})),
        ("none", Value::Null),
    ]
}

/// A Redis server that ends with this program.
pub struct Redis {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Redis {
        let folder = tempfile::tempdir().expect("a folder");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Redis { process, port, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        for _ in 0..100 {
            if let Ok(connection) = client.get_multiplexed_async_connection().await {
                return connection;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the server does not answer");
    }

    /// Returns every key with its value, and empties the server.
    pub async fn take(&self) -> Vec<(String, String, bool)> {
        let mut connection = self.connection().await;
        let keys: Vec<String> = connection.keys("*").await.expect("KEYS");
        let mut found = Vec::new();
        for key in keys {
            let value: Vec<u8> = connection.get(&key).await.expect("GET");
            let left: i64 = connection.pttl(&key).await.expect("PTTL");
            found.push((key, data_encoding::HEXLOWER.encode(&value), left > 0));
        }
        let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("FLUSHALL");
        found.sort();
        found
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the `Cookie` header with which a browser answers these `Set-Cookie` headers. The last cookie of a name counts.
pub fn answer_to<'a>(set: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for header in set {
        let header = std::str::from_utf8(header).expect("a cookie is text");
        let (name, value) = header.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
        pairs.retain(|(other, _)| other != name);
        if !value.is_empty() {
            pairs.push((name.to_owned(), value.to_owned()));
        }
    }
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

fn main() {
    let redis = Redis::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut samples = runtime.block_on(async {
        redis.connection().await;
        let mut samples = tower::samples(&redis).await;
        samples.extend(axum_session::samples(&redis).await);
        samples
    });
    samples.extend(actix_web::rt::System::new().block_on(actix::samples(&redis)));
    println!("{}", serde_json::to_string_pretty(&samples).expect("JSON"));
}
