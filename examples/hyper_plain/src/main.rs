//! Sessions without a framework, on plain hyper: `cargo run -p hyper_plain`, then open <http://localhost:3000/>.

mod adapter;

use std::convert::Infallible;

use cloakroom::{Error, Manager, MemoryProvider};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use adapter::{Body, session, text, with_session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Manager::builder(MemoryProvider::new()).build()?;
    let _collecting = sessions.spawn_gc();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000/");
    loop {
        let (stream, _) = listener.accept().await?;
        let sessions = sessions.clone();
        tokio::spawn(async move {
            let service = service_fn(async |request| {
                Ok::<_, Infallible>(with_session(&sessions, request, visit).await)
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            served.unwrap_or_else(|error| eprintln!("a connection broke: {error}"));
        });
    }
}

async fn visit(request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let session = session(&request).await?;
    let visits = session.get::<u64>("visits")?.unwrap_or(0) + 1;
    session.set("visits", visits)?;
    Ok(text(StatusCode::OK, format!("visit {visits}\n")))
}
