//! The sites on which the promises run: one or two processes over one store.

use std::any::Any;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Server};

/// One or two processes over one store.
pub(crate) struct Site {
    pub(crate) servers: Vec<Server>,
    pub(crate) folder: Option<TempDir>,
    // Fields are dropped in order, so the store ends after the processes.
    _store: Option<Box<dyn Any>>,
}

impl Site {
    pub(crate) fn on_memory() -> Self {
        Site { servers: vec![Server::start(&[])], folder: None, _store: None }
    }

    pub(crate) fn on_memory_with(config: &str) -> Self {
        Site { servers: vec![Server::start(&["--config", config])], folder: None, _store: None }
    }

    /// Starts `processes` processes that share a fresh folder. `config` holds further settings.
    pub(crate) fn on_file(processes: usize, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store").join("sessions");
        std::fs::create_dir(folder.path().join("store")).expect("a folder");
        let config = format!(
            "{{\"cookieName\":\"id\",\"providerConfig\":{},\"gclifetime\":3600{config}}}",
            json!(path.to_str().expect("a path in UTF-8"))
        );
        Site { folder: Some(folder), ..Site::on("file", processes, &config) }
    }

    /// Starts `processes` processes that share a new file of SQLite.
    #[cfg(all(feature = "sqlite", unix))]
    pub(crate) fn on_sqlite(processes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data/sessions.db");
        // Hundreds of requests come at once, and the machine may be busy. The time that takes is not tested here.
        let url = format!("sqlite:{}?deadline=60s", path.display());
        let config = json!({ "cookieName": "id", "providerConfig": url, "gclifetime": 3600, "deadline": 60 });
        Site { _store: Some(Box::new(folder)), ..Site::on("sqlite", processes, &config.to_string()) }
    }

    /// Starts `processes` processes over a new database.
    #[cfg(all(feature = "mysql", unix))]
    pub(crate) fn on_mysql(processes: usize) -> Self {
        let server = servers::MariaDb::start();
        // Hundreds of requests come at once, and each commit waits for the disk. The time that takes is not tested
        // here.
        let dsn = server.dsn("pool=40&timeout=60s&readTimeout=60s");
        let config = json!({ "cookieName": "id", "providerConfig": dsn, "gclifetime": 3600, "deadline": 60 });
        Site { _store: Some(Box::new(server)), ..Site::on("mysql", processes, &config.to_string()) }
    }

    /// Starts `processes` processes over a new database of PostgreSQL.
    #[cfg(all(feature = "postgres", unix))]
    pub(crate) fn on_postgres(processes: usize) -> Self {
        let server = servers::Postgres::start();
        // Hundreds of requests come at once, and each commit waits for the disk. The time that takes is not tested
        // here.
        let url = server.url("pool=40&deadline=60s&connect_timeout=60");
        let config = json!({ "cookieName": "id", "providerConfig": url, "gclifetime": 3600, "deadline": 60 });
        Site { _store: Some(Box::new(server)), ..Site::on("postgres", processes, &config.to_string()) }
    }

    /// Starts `processes` processes over a new Redis.
    #[cfg(all(feature = "redis", unix))]
    pub(crate) fn on_redis(processes: usize, release: servers::Flavor) -> Self {
        let server = servers::Redis::with(servers::RedisOptions::of(release));
        // Hundreds of requests come at once, and the machine may be busy. The time that takes is not tested here.
        let url = format!("redis://{}/?timeout=60s&connect_timeout=60s", server.address());
        let config = json!({ "cookieName": "id", "providerConfig": url, "gclifetime": 3600, "deadline": 60 });
        Site { _store: Some(Box::new(server)), ..Site::on("redis", processes, &config.to_string()) }
    }

    /// Starts `processes` processes over a new cluster.
    #[cfg(all(feature = "redis", unix))]
    pub(crate) fn on_redis_cluster(processes: usize) -> Self {
        let cluster = servers::RedisCluster::start();
        let url = format!("redis://{}/?timeout=60s&connect_timeout=60s", cluster.addresses().join(","));
        let config = json!({ "cookieName": "id", "providerConfig": url, "gclifetime": 3600, "deadline": 60 });
        Site { _store: Some(Box::new(cluster)), ..Site::on("redis_cluster", processes, &config.to_string()) }
    }

    fn on(provider: &str, processes: usize, config: &str) -> Self {
        let start = || Server::start(&["--provider", provider, "--config", config]);
        let servers = std::iter::repeat_with(start).take(processes).collect();
        Site { servers, folder: None, _store: None }
    }

    /// Returns the process for `turn`, one after the other.
    pub(crate) fn server(&self, turn: usize) -> &Server {
        &self.servers[turn % self.servers.len()]
    }

    pub(crate) fn client(&self) -> Client {
        self.servers[0].client()
    }

    pub(crate) async fn active(&self) -> u64 {
        self.client().get("/api/active").await.json()["active"].as_u64().expect("a number")
    }
}
