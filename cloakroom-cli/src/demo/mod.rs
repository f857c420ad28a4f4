//! `cloakroom demo`: a small site with sessions. A page and an API use the same sessions.

mod api;
mod page;
mod times;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use clap::Args;
use cloakroom::{Manager, MemoryProvider};
use tokio::net::TcpListener;

const EXAMPLE: &str =
    r#"Example: cloakroom demo --provider file --config '{"cookieName":"id","providerConfig":"./tmp"}'"#;

/// The arguments of `cloakroom demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Options {
    /// The provider that stores the sessions: memory, file or cookie; redis, mysql, postgres or sqlite if built with that feature
    #[arg(long, default_value = "memory")]
    provider: String,
    /// The settings as JSON; the default is the builder's defaults
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// The address to listen on, such as localhost:3000; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:3000", value_parser = host_and_port)]
    addr: String,
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| text.to_owned())
        .ok_or_else(|| "expected a host and a port such as localhost:3000, found no port".to_owned())
}

/// The reason why the demonstration could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(
        "provider {provider:?} needs a configuration; pass one, such as \
         --config '{{\"cookieName\":\"id\",{example}}}'; only memory needs none"
    )]
    NeedsConfig { provider: String, example: &'static str },
    #[error(transparent)]
    Sessions(#[from] cloakroom::Error),
    #[error("cannot listen on {address}; choose another address with --addr")]
    Listen { address: String, source: io::Error },
    #[error("the server stopped unexpectedly")]
    Serve(#[from] io::Error),
}

/// Returns an example of `provider`'s configuration, for the error that asks for one. `None` if there is no such provider.
fn example(provider: &str) -> Option<&'static str> {
    Some(match provider {
        "file" => r#""providerConfig":"./tmp""#,
        "sqlite" => r#""providerConfig":"./data/sessions.db""#,
        "redis" => r#""providerConfig":"redis://127.0.0.1:6379/""#,
        "redis_cluster" => r#""providerConfig":"127.0.0.1:7000;127.0.0.1:7001""#,
        "redis_sentinel" => r#""providerConfig":"redis+sentinel://127.0.0.1/mymaster/0""#,
        "mysql" => r#""providerConfig":"user:password@tcp(127.0.0.1:3306)/app""#,
        "postgres" | "postgresql" => r#""providerConfig":"postgres://user:password@127.0.0.1:5432/app""#,
        "cookie" => r#""sealKeys":["<openssl rand -base64 32>"]"#,
        _ => return None,
    })
}

/// Serves the demonstration until Ctrl-C or SIGTERM.
pub(crate) async fn run(options: Options) -> Result<(), DemoError> {
    let sessions = sessions(&options).await?;
    let bound = TcpListener::bind(&options.addr).await;
    let listener = bound.map_err(|source| DemoError::Listen { address: options.addr.clone(), source })?;
    let address = listener.local_addr()?;
    let stop = Stop::watch()?;
    announce(address)?;
    let _collecting = sessions.spawn_gc();

    // A response is a few small writes. With Nagle's algorithm they would cost each request up to 40 ms.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set; small responses may be slow");
        }
    });
    let site = site(sessions, &options.provider);
    let serving = axum::serve(listener, site).with_graceful_shutdown(stop.clone().requested());
    tokio::select! {
        served = serving => Ok(served?),
        () = stop.grace_over() => Ok(()),
    }
}

/// Builds the manager from the options.
async fn sessions(options: &Options) -> Result<Manager, DemoError> {
    match (&*options.provider, &options.config) {
        (provider, Some(config)) => Ok(Manager::new(provider, config).await?),
        ("memory", None) => Ok(Manager::builder(MemoryProvider::new()).build()?),
        (provider, None) => match example(provider) {
            Some(example) => Err(DemoError::NeedsConfig { provider: provider.to_owned(), example }),
            // The error for an unknown name lists the known ones.
            None => Ok(Manager::new(provider, r#"{"cookieName":"id"}"#).await?),
        },
    }
}

/// Prints the site's address on stdout, in a line that programs wait for.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;
    if address.ip().is_loopback() {
        // Every browser accepts a Secure cookie over plain HTTP from `localhost`; not every one does from 127.0.0.1.
        tracing::info!("open http://localhost:{}/", address.port());
    } else {
        tracing::warn!(
            "browsers on other machines drop a Secure cookie over plain HTTP; put a TLS proxy in front"
        );
    }
    Ok(())
}

/// Builds the whole site.
pub(crate) fn site(sessions: Manager, provider: &str) -> Router {
    Router::new()
        .route("/healthz", get(api::health))
        .route("/style.css", get(|| asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/icon.svg", get(|| asset("image/svg+xml", include_str!("icon.svg"))))
        .nest("/api", api::routes(sessions.clone()))
        // `nest` does not match the prefix with a trailing slash.
        .route("/api/", any(api::no_such_path))
        .merge(page::routes(sessions, provider))
}

/// Answers a file that is part of the program. It is the same for every visitor.
async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=300")], text)
}

/// A request to stop: Ctrl-C or SIGTERM.
#[derive(Clone)]
struct Stop(tokio::sync::watch::Receiver<bool>);

impl Stop {
    /// The time that requests in progress have to finish. It is longer than the library's deadline for a store, and
    /// shorter than what service managers wait before they kill.
    const GRACE: Duration = Duration::from_secs(8);

    fn watch() -> io::Result<Self> {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        #[cfg(unix)]
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::spawn(async move {
            #[cfg(unix)]
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            let _ = tokio::signal::ctrl_c().await;
            tracing::info!("stopping; requests in progress have {:?} to finish", Stop::GRACE);
            sender.send_replace(true);
        });
        Ok(Stop(receiver))
    }

    async fn requested(mut self) {
        // An error means that the signal task has ended, so that no stop could ever be requested. Stop now.
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    async fn grace_over(self) {
        self.requested().await;
        tokio::time::sleep(Stop::GRACE).await;
    }
}
