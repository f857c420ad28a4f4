//! Real servers for tests.
//!
//! Each server is a process of its own, on a free port and in a temporary folder. It is killed when its guard is
//! dropped, and also when the test's process dies for any reason.
//!
//! A server can be killed ([`Process::kill`]), stopped and resumed ([`Process::pause`], [`Process::resume`]), and
//! restarted on the same port and folder. A [`Proxy`] in front of it can cut, drop or delay its traffic.
//!
//! These functions panic, as tests do. If a program is not installed, the message names it and its package.

#![cfg(unix)]

mod account;
mod certificates;
mod instance;
mod mariadb;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
mod redis;
mod sql_client;
mod tell;

pub use certificates::Certificates;
pub use mariadb::{GeneralLog, MariaDb, MariaDbOptions};
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, PostgresOptions, StatementLog};
pub use process::{Process, free_port, until};
pub use proxy::Proxy;
pub use redis::{Flavor, Monitor, Redis, RedisCluster, RedisOptions, RedisSentinels};
pub use sql_client::SqlClient;
pub use tell::tell;
