//! `cloakroom demo`: a site whose visitors have sessions, as a page and as an API over the same sessions.

mod api;
mod origin;
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

/// What `cloakroom demo` is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the sessions are kept: memory, file, or another registered provider
    #[arg(long, default_value = "memory")]
    provider: String,
    /// The settings as JSON, in the string door's keys; without it, the builder's defaults
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// The address to listen on, such as localhost:3000; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:3000", value_parser = host_and_port)]
    addr: String,
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| text.to_owned())
        .ok_or_else(|| "expected a host and a port, such as localhost:3000".to_owned())
}

/// Why the demonstration could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(
        "provider {provider:?} needs --config, which says where it keeps its sessions, such as \
         --config '{{\"cookieName\":\"id\",{}}}'; only memory does without",
        example(provider)
    )]
    NeedsConfig { provider: String },
    #[error(transparent)]
    Sessions(#[from] cloakroom::Error),
    #[error("cannot listen on {address}; choose another address with --addr")]
    Listen { address: String, source: io::Error },
    #[error("the server stopped")]
    Serve(#[from] io::Error),
}

/// An example of `provider`'s configuration, for the error that asks for one.
fn example(provider: &str) -> &'static str {
    match provider {
        "redis" => r#""providerConfig":"redis://127.0.0.1:6379/""#,
        "redis_cluster" => r#""providerConfig":"127.0.0.1:7000;127.0.0.1:7001""#,
        "redis_sentinel" => r#""providerConfig":"redis+sentinel://127.0.0.1/mymaster/0""#,
        "mysql" => r#""providerConfig":"user:password@tcp(127.0.0.1:3306)/app""#,
        "cookie" => r#""sealKeys":["<openssl rand -base64 32>"]"#,
        _ => r#""providerConfig":"./tmp""#,
    }
}

/// Serves the demonstration until it is told to stop.
pub(crate) async fn run(options: Options) -> Result<(), DemoError> {
    let sessions = sessions(&options).await?;
    let bound = TcpListener::bind(&options.addr).await;
    let listener = bound.map_err(|source| DemoError::Listen { address: options.addr.clone(), source })?;
    let address = listener.local_addr()?;
    let stopped = Stop::watch()?;
    announce(address)?;
    let _collecting = sessions.spawn_gc();

    // A response is a few small writes; waiting to join them would cost each request 40 ms.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps waiting to join its small writes");
        }
    });
    let site = site(sessions, &options.provider);
    let serving = axum::serve(listener, site).with_graceful_shutdown(stopped.clone().asked());
    tokio::select! {
        served = serving => Ok(served?),
        () = stopped.overdue() => Ok(()),
    }
}

/// The manager that the options ask for.
async fn sessions(options: &Options) -> Result<Manager, DemoError> {
    match (&*options.provider, &options.config) {
        (provider, Some(config)) => Ok(Manager::new(provider, config).await?),
        ("memory", None) => Ok(Manager::builder(MemoryProvider::new()).build()?),
        (provider, None) => Err(DemoError::NeedsConfig { provider: provider.to_owned() }),
    }
}

/// Says on stdout, in a line that programs wait for, where the site is.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()?;
    if address.ip().is_loopback() {
        // Every browser takes a Secure cookie over plain HTTP from this name; not all do from a number.
        tracing::info!("in a browser, open http://localhost:{}/", address.port());
    } else {
        tracing::warn!(
            "over plain HTTP from another machine a browser drops a Secure cookie; put TLS before this"
        );
    }
    Ok(())
}

/// Everything that the demonstration serves.
pub(crate) fn site(sessions: Manager, provider: &str) -> Router {
    Router::new()
        .route("/healthz", get(api::health))
        .route("/style.css", get(|| asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/icon.svg", get(|| asset("image/svg+xml", include_str!("icon.svg"))))
        .nest("/api", api::routes(sessions.clone()))
        // Which the nested routes leave out.
        .route("/api/", any(api::nothing))
        .merge(page::routes(sessions, provider))
}

/// A file that is part of the program, and the same for everyone.
async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=300")], text)
}

/// Ctrl-C or SIGTERM.
#[derive(Clone)]
struct Stop(tokio::sync::watch::Receiver<bool>);

impl Stop {
    /// What requests under way are given to end: more than the library's deadline for a store, less than what service
    /// managers wait before they kill.
    const GRACE: Duration = Duration::from_secs(8);

    fn watch() -> io::Result<Self> {
        let (tell, told) = tokio::sync::watch::channel(false);
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
            tracing::info!("stopping; requests under way have {:?}", Stop::GRACE);
            tell.send_replace(true);
        });
        Ok(Stop(told))
    }

    async fn asked(mut self) {
        // An error means that nobody can ask any more, which is as good as being asked.
        let _ = self.0.wait_for(|asked| *asked).await;
    }

    async fn overdue(self) {
        self.asked().await;
        tokio::time::sleep(Stop::GRACE).await;
    }
}
