//! Shared by the program's tests: the real program on a free port, and a client with one cookie.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// The longest wait for anything that should happen at once, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Returns a command of the program `cloakroom`, with stdout and stderr captured.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `cloakroom demo`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts the demonstration on a free port, with further `arguments`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(Path::new("."), arguments)
    }

    /// Starts the demonstration in `folder`.
    pub(crate) fn start_in(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = program();
        // At this level the program logs when a request begins its pause.
        command.env("RUST_LOG", "info,cloakroom::demo=debug").current_dir(folder);
        let mut child =
            command.args(["demo", "--addr", "127.0.0.1:0"]).args(arguments).spawn().expect("the program");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().expect("no reader has panicked");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut stdout = BufReader::new(stdout);
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            let _ = stdout.read_to_end(&mut Vec::new());
        });
        let mut server = Server { child, address: String::new(), log };
        let line = receiver.recv_timeout(PATIENCE).expect("a line on stdout in time");
        let address = line.trim_end().strip_prefix("listening on http://");
        server.address = address.unwrap_or_else(|| panic!("{line:?}, and: {}", server.log())).to_owned();
        server
    }

    /// Returns the address, as in `127.0.0.1:4711`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns what the program has written to stderr so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no reader has panicked").clone()
    }

    /// Waits until the program has started, and returns what it has written to stderr.
    pub(crate) async fn started(&self) -> String {
        eventually("the line that ends the start", async || self.log().contains("open http://localhost"))
            .await;
        self.log()
    }

    /// Waits until `count` requests in all have loaded their sessions and begun their pauses.
    pub(crate) async fn paused(&self, count: usize) {
        let all_paused =
            || self.log.lock().expect("no reader has panicked").matches("pausing").count() >= count;
        eventually("the requests to pause", async || all_paused()).await;
    }

    /// Returns a visitor without a cookie.
    pub(crate) fn client(&self) -> Client {
        Client {
            address: self.address.clone(),
            http: Arc::new(connector()),
            cookie: None,
            form_cookie: None,
            token: None,
        }
    }

    /// Stops the program with SIGTERM and returns its exit code.
    #[cfg(unix)]
    pub(crate) async fn terminated(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        let mut status = None;
        eventually("the program to stop", async || {
            status = self.child.try_wait().expect("a child's status");
            status.is_some()
        })
        .await;
        status.and_then(|status| status.code())
    }
}

impl Server {
    /// Kills the program with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child that runs");
        let status = self.child.wait().expect("a child's status");
        assert_eq!(status.code(), None, "the program had already ended: {}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds. Fails the test after [`PATIENCE`].
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Connector = hyper_util::client::legacy::Client<HttpConnector, String>;

fn connector() -> Connector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector)
}

/// A visitor with one cookie, kept as a browser keeps it. A clone is another visitor with the same cookie.
#[derive(Clone)]
pub(crate) struct Client {
    address: String,
    http: Arc<Connector>,
    /// The session cookie as `name=value`.
    cookie: Option<String>,
    /// The cookie that forms are bound to, as `name=value`.
    form_cookie: Option<String>,
    /// The CSRF token of the last page's forms.
    token: Option<String>,
}

impl Client {
    /// Returns the same visitor at another process.
    pub(crate) fn at(&self, server: &Server) -> Client {
        Client { address: server.address.clone(), ..self.clone() }
    }

    /// Returns another visitor on the same connections, without a cookie.
    pub(crate) fn newcomer(&self) -> Client {
        Client { cookie: None, form_cookie: None, token: None, ..self.clone() }
    }

    /// Returns the session cookie as `name=value`.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Returns the CSRF token of the last page's forms, or an empty text if it had none.
    pub(crate) fn token(&self) -> String {
        self.token.clone().unwrap_or_default()
    }

    /// Sets the cookie that the visitor sends.
    pub(crate) fn bring(&mut self, cookie: impl Into<String>) {
        self.cookie = Some(cookie.into());
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.send(Method::POST, path, &[], body).await
    }

    pub(crate) async fn put(&mut self, path: &str, body: &str) -> Answer {
        self.send(Method::PUT, path, &[], body).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    /// Posts a URL-encoded form, as the site's pages do.
    pub(crate) async fn form(&mut self, path: &str, body: &str) -> Answer {
        let headers =
            [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
        let token = self.token.iter().map(|token| format!("csrf_token={token}"));
        let fields: Vec<_> = token.chain((!body.is_empty()).then(|| body.to_owned())).collect();
        self.send(Method::POST, path, &headers, &fields.join("&")).await
    }

    /// Logs `user` in through the API.
    pub(crate) async fn login(&mut self, user: &str) {
        let body = serde_json::json!({ "user": user }).to_string();
        let answer = self.post("/api/login", &body).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }

    /// Sends a request and keeps the cookie that the answer sets.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// Sends a request as [`send`](Self::send) does, to a program that may be killed meanwhile.
    pub(crate) async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let uri = format!("http://{}{path}", self.address);
        let mut request = Request::builder().method(method).uri(uri);
        let cookies: Vec<_> = self.cookie.iter().chain(&self.form_cookie).map(|cookie| &**cookie).collect();
        let cookies = Some(cookies.join("; ")).filter(|cookies| !cookies.is_empty());
        for (name, value) in
            cookies.iter().map(|cookies| ("cookie", &**cookies)).chain(headers.iter().copied())
        {
            request = request.header(name, value);
        }
        let request = request.body(body.to_owned()).expect("a request");
        let (head, body) = self.http.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
        };
        if answer.status == 200
            && answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
        {
            self.token = answer.token();
        }
        if let Some(cookie) = answer.set_cookie() {
            let pair = cookie.split(';').next().unwrap_or_default().to_owned();
            self.cookie = (!cookie.contains("Max-Age=0")).then_some(pair);
        }
        if let Some(cookie) = answer.cookies().find(|cookie| is_for_forms(cookie)) {
            self.form_cookie = cookie.split(';').next().map(str::to_owned);
        }
        Ok(answer)
    }
}

fn is_for_forms(cookie: &str) -> bool {
    cookie.split('=').next().is_some_and(|name| name.ends_with("-csrf"))
}

/// The program's response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Returns the header `name`, and asserts that it occurs at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().expect("visible text"));
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        first
    }

    /// Returns the session cookie if the answer sets one, and asserts that it sets no other but the forms' cookie.
    pub(crate) fn set_cookie(&self) -> Option<&str> {
        let mut cookies = self.cookies().filter(|cookie| !is_for_forms(cookie));
        let first = cookies.next();
        assert!(cookies.next().is_none(), "two cookies: {:?}", self.headers);
        first
    }

    fn cookies(&self) -> impl Iterator<Item = &str> {
        self.headers.get_all("set-cookie").iter().map(|value| value.to_str().expect("visible text"))
    }

    /// Returns the CSRF token of the page's first form.
    fn token(&self) -> Option<String> {
        let (_, rest) = self.body.split_once("name=\"csrf_token\" value=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Asserts status 204 and an empty body.
    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!((self.status, &*self.body), (204, ""));
    }

    /// Asserts status 200 and the JSON body.
    #[track_caller]
    pub(crate) fn is(&self, expected: Value) {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.json(), expected);
    }

    /// Asserts a refusal: its status, and a JSON body with only `error`.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.json(), serde_json::json!({ "error": error }));
        assert_eq!(self.header("content-type"), Some("application/json"));
    }
}
