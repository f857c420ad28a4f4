//! A visitor over plain sockets. It writes HTTP/1.1 by hand, since most attacks send what no client library would.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::log;

/// The longest wait for anything that should happen at once, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The least length of a token that is searched for in bodies and headers.
const AN_ID: usize = 32;

/// A visitor with at most one session cookie, kept as a browser keeps it. A clone is another visitor with the same
/// cookie.
pub(crate) struct Visitor {
    address: SocketAddr,
    cookie_name: Arc<str>,
    /// The cookie's value.
    token: Option<String>,
    connection: Option<Connection>,
}

impl Clone for Visitor {
    fn clone(&self) -> Self {
        Visitor {
            address: self.address,
            cookie_name: Arc::clone(&self.cookie_name),
            token: self.token.clone(),
            connection: None,
        }
    }
}

/// A request without its cookie.
#[derive(Clone, Default)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Request { method, path: path.into(), ..Request::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.extend_from_slice(name.as_bytes());
        self.headers.extend_from_slice(b": ");
        self.headers.extend_from_slice(value.as_ref());
        self.headers.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn bytes(&self, cookie: Option<&str>) -> Vec<u8> {
        let mut all =
            format!("{} {} HTTP/1.1\r\nHost: attacked.example\r\n", self.method, self.path).into_bytes();
        if let Some(cookie) = cookie {
            all.extend_from_slice(format!("Cookie: {cookie}\r\n").as_bytes());
        }
        all.extend_from_slice(&self.headers);
        if !self.body.is_empty() || self.method != "GET" {
            all.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        all.extend_from_slice(b"\r\n");
        all.extend_from_slice(&self.body);
        all
    }
}

impl Visitor {
    pub(crate) fn new(address: SocketAddr, cookie_name: &str) -> Self {
        Visitor { address, cookie_name: cookie_name.into(), token: None, connection: None }
    }

    /// Returns the same visitor at another process.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Visitor { address, ..self.clone() }
    }

    /// Returns the session id, and panics without one.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.token.clone().expect("a cookie")
    }

    /// Returns the cookie's value.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Returns another visitor whose cookie is `token`.
    pub(crate) fn with(&self, token: &str) -> Self {
        Visitor { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Returns another visitor without a cookie.
    pub(crate) fn newcomer(&self) -> Self {
        Visitor { token: None, ..self.clone() }
    }

    /// Sends a request, checks what holds for every response, and keeps the cookie that it sets.
    pub(crate) async fn send(&mut self, request: Request) -> Answer {
        let (head, mut connection) = self.begin(&request).await;
        let body = connection.body(&head).await.expect("a body");
        if !head.has("connection", "close") {
            self.connection = Some(connection);
        }
        let answer = Answer { head, body };
        self.check(&answer);
        answer
    }

    /// Sends a request and reads only the head of the answer.
    pub(crate) async fn begin(&mut self, request: &Request) -> (Head, Connection) {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => Connection::open(self.address).await,
        };
        connection.write(&request.bytes(self.cookie().as_deref())).await.expect("the site reads");
        let head = connection.head().await.expect("an answer");
        (head, connection)
    }

    /// Sends one request `times` times without waiting for each answer.
    pub(crate) async fn flood(&self, request: &Request, times: usize) -> Vec<Answer> {
        let mut connection = Connection::open(self.address).await;
        let one = request.bytes(self.cookie().as_deref());
        let mut answers = Vec::with_capacity(times);
        while answers.len() < times {
            let batch = (times - answers.len()).min(64);
            connection.write(&one.repeat(batch)).await.expect("the site reads");
            for _ in 0..batch {
                let head = connection.head().await.expect("an answer");
                let body = connection.body(&head).await.expect("a body");
                answers.push(Answer { head, body });
            }
        }
        answers
    }

    fn cookie(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("{}={token}", self.cookie_name))
    }

    fn check(&mut self, answer: &Answer) {
        let brought = self.token.clone();
        if let Some(set) = answer.set_cookie(&self.cookie_name) {
            assert!(
                answer.has("cache-control", "no-store"),
                "a cookie that a cache may keep: {:?}",
                answer.head
            );
            assert!(answer.has("vary", "cookie"), "a cookie without Vary: {:?}", answer.head);
            self.token = (set.max_age != Some(0)).then_some(set.token);
        }
        for id in [&brought, &self.token].into_iter().flatten().filter(|id| id.len() >= AN_ID) {
            log::keep_secret(id);
            assert!(!answer.leaks(id), "an id beside Set-Cookie: {:?}", answer.head);
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::new("GET", path)).await
    }

    pub(crate) async fn post(&mut self, path: &str) -> Answer {
        self.send(Request::new("POST", path)).await
    }

    /// Logs in as a user of this name.
    pub(crate) async fn login(&mut self, user: &str) {
        let answer = self.try_login(user).await;
        assert_eq!(answer.status(), 204, "{}", answer.text());
    }

    pub(crate) async fn try_login(&mut self, user: &str) -> Answer {
        let body = json!({ "user": format!("{}{user}", log::USER) }).to_string();
        self.send(Request::new("POST", "/api/login").header("content-type", "application/json").body(body))
            .await
    }

    pub(crate) async fn logout(&mut self) {
        assert_eq!(self.post("/api/logout").await.status(), 204);
    }

    /// Sets a text under `key`. The stored value is one that no log may contain.
    pub(crate) async fn set(&mut self, key: &str, text: &str) {
        let answer = self.try_set(key, text).await;
        assert_eq!(answer.status(), 204, "{}", answer.text());
    }

    pub(crate) async fn try_set(&mut self, key: &str, text: &str) -> Answer {
        self.send(put(key, text)).await
    }

    /// Returns the text under `key`.
    pub(crate) async fn value(&mut self, key: &str) -> Option<String> {
        let answer = self.get(&format!("/api/session/data/{key}")).await;
        match answer.status() {
            404 => None,
            status => {
                assert_eq!(status, 200, "{}", answer.text());
                let value = answer.json();
                let text = value.as_str().and_then(|text| text.strip_prefix(log::VALUE));
                Some(text.expect("a value of these tests").to_owned())
            }
        }
    }

    /// Returns the JSON of `GET /api/session`.
    pub(crate) async fn session(&mut self) -> Value {
        let answer = self.get("/api/session").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    /// Returns whether the cookie leads to a session.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.session().await["present"] == true
    }

    /// Returns the session's user.
    pub(crate) async fn user(&mut self) -> Option<String> {
        let session = self.session().await;
        session["principal"].as_str().map(|user| user.trim_start_matches(log::USER).to_owned())
    }

    /// Asserts that the cookie leads to no session and that the answer sets none.
    pub(crate) async fn assert_fresh(&mut self) {
        let answer = self.get("/api/session").await;
        let session = answer.json();
        let anonymous = json!({ "present": false, "principal": null, "created": null, "last_active": null, "expires": null, "keys": [] });
        assert_eq!(session, anonymous);
        assert!(answer.header("set-cookie").is_none(), "{:?}", answer.head);
    }
}

/// Returns a `PUT` of a text under `key`.
pub(crate) fn put(key: &str, text: &str) -> Request {
    let body = json!(format!("{}{text}", log::VALUE)).to_string();
    Request::new("PUT", format!("/api/session/data/{key}"))
        .header("content-type", "application/json")
        .body(body)
}

/// A connection to which the test writes raw bytes.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the site listens");
        stream.set_nodelay(true).expect("a socket");
        Connection(BufReader::new(stream))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes).await
    }

    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        timeout(PATIENCE, async {
            let mut lines = Vec::new();
            loop {
                let mut line = Vec::new();
                if self.0.read_until(b'\n', &mut line).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if text.is_empty() {
                    break;
                }
                lines.push(text);
            }
            let status = lines[0].split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
            let headers =
                headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
            Ok(Head { status, headers })
        })
        .await
        .expect("an answer in time")
    }

    pub(crate) async fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        timeout(PATIENCE, async {
            if matches!(head.status, 204 | 304) {
                return Ok(Vec::new());
            }
            let mut body = Vec::new();
            if head.has("transfer-encoding", "chunked") {
                while self.chunk(&mut body).await? {}
            } else if let Some(length) = head.header("content-length") {
                body.resize(length.parse().expect("a length"), 0);
                self.0.read_exact(&mut body).await?;
            } else {
                self.0.read_to_end(&mut body).await?;
            }
            Ok(body)
        })
        .await
        .expect("a body in time")
    }

    /// Appends a chunk to `body`. Returns false at the last one.
    async fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + length + 2, 0);
        self.0.read_exact(&mut body[start..]).await?;
        body.truncate(start + length);
        Ok(length > 0)
    }
}

/// Sends raw bytes. Returns `None` if the site closes the connection without an answer.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut connection = Connection::open(address).await;
    // The site may answer and close before all bytes are sent.
    let _ = connection.write(bytes).await;
    let head = connection.head().await.ok()?;
    let body = connection.body(&head).await.unwrap_or_default();
    Some(Answer { head, body })
}

/// The status and the headers, with names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let name = name.to_owned();
        self.headers.iter().filter(move |(found, _)| *found == name).map(|(_, value)| &**value)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Returns whether `member` is in the comma-separated lists of the headers `name`.
    pub(crate) fn has(&self, name: &str, member: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|found| found.trim().eq_ignore_ascii_case(member))
    }
}

/// The site's response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// A `Set-Cookie` header of the session cookie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SetCookie {
    pub(crate) token: String,
    /// The attributes in lower case, sorted, without Max-Age and Expires.
    pub(crate) attributes: Vec<String>,
    pub(crate) max_age: Option<u64>,
    pub(crate) expires: bool,
    pub(crate) length: usize,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn has(&self, name: &str, member: &str) -> bool {
        self.head.has(name, member)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the cookie `name` if the answer sets it, and asserts that it does so only once.
    pub(crate) fn set_cookie(&self, name: &str) -> Option<SetCookie> {
        let prefix = format!("{name}=");
        let ours: Vec<_> = self.head.all("set-cookie").filter(|value| value.starts_with(&prefix)).collect();
        assert!(ours.len() <= 1, "two cookies of one name: {} of them", ours.len());
        let whole = ours.first()?;
        let mut parts = whole.split("; ");
        let token = parts.next().and_then(|pair| pair.strip_prefix(&prefix)).expect("our name").to_owned();
        let mut attributes: Vec<_> = parts.map(str::to_ascii_lowercase).collect();
        attributes.sort_unstable();
        let max_age = attributes.iter().find_map(|one| one.strip_prefix("max-age=")?.parse().ok());
        let expires = attributes.iter().any(|one| one.starts_with("expires="));
        attributes.retain(|one| !one.starts_with("max-age=") && !one.starts_with("expires="));
        Some(SetCookie { token, attributes, max_age, expires, length: whole.len() })
    }

    /// Returns whether `secret` occurs anywhere but in `Set-Cookie`.
    pub(crate) fn leaks(&self, secret: &str) -> bool {
        let others = self.head.headers.iter().filter(|(name, _)| name != "set-cookie");
        others.into_iter().any(|(_, value)| value.contains(secret)) || self.text().contains(secret)
    }

    /// Asserts a refusal because the session has ended: status 409 and no cookie.
    #[track_caller]
    pub(crate) fn assert_ended(&self) {
        assert_eq!(self.status(), 409, "{}", self.text());
        assert_eq!(self.header("set-cookie"), None);
    }
}
