//! Sessions without a framework, on plain hyper: `cargo run -p hyper_plain`, then open <http://localhost:3000/>.

use std::convert::Infallible;

use cloakroom::{Manager, MemoryProvider, Released};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

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
            let service = service_fn(|request| respond(&sessions, request));
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            served.unwrap_or_else(|error| eprintln!("a connection broke: {error}"));
        });
    }
}

/// Answers an error of the session with its status alone. The text goes to the log.
async fn respond(
    sessions: &Manager,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(visit(sessions, &request).await.unwrap_or_else(|error| {
        eprintln!("{error}");
        let status = error.status();
        let mut response = Response::new(Full::from(status.canonical_reason().unwrap_or_default()));
        *response.status_mut() = status;
        response
    }))
}

async fn visit(sessions: &Manager, request: &Request<Incoming>) -> cloakroom::Result<Response<Full<Bytes>>> {
    let session = sessions.start(request.headers()).await?;
    let visits = session.get::<u64>("visits")?.unwrap_or(0) + 1;
    session.set("visits", visits)?;

    let mut response = Response::new(Full::from(format!("visit {visits}\n")));
    // Stores the change and sets the cookie, before the response leaves. A change that was not stored must not be acknowledged.
    if let Released::Gone { lost_write: true } = session.release(response.headers_mut()).await? {
        *response.body_mut() = Full::from("Your session has ended. Please load the page again.\n");
        *response.status_mut() = http::StatusCode::CONFLICT;
    }
    Ok(response)
}
