//! Real servers for tests. Each is a process of the test's own, on a free port and in a temporary folder; it is killed when its guard
//! is dropped, and also when the test's process dies in whatever way.
//!
//! A server can be killed ([`Process::kill`]), stopped and let go on ([`Process::pause`], [`Process::resume`]), started again on the same
//! port and folder, and reached through a [`Proxy`] that cuts, swallows or delays what goes through it.
//!
//! What is here panics, as tests do: a program that is not installed is named, with the package that brings it.

#![cfg(unix)]

mod certificates;
mod mariadb;
mod process;
mod proxy;
mod redis;
mod tell;

pub use certificates::Certificates;
pub use mariadb::{GeneralLog, MariaDb, MariaDbClient, MariaDbOptions};
pub use process::{Process, free_port, until};
pub use proxy::Proxy;
pub use redis::{Flavor, Monitor, Redis, RedisCluster, RedisOptions, RedisSentinels};
pub use tell::tell;
