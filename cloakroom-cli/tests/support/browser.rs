//! A real Chromium with its WebDriver and a profile of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::eventually;

/// A `chromedriver` on a free port. Its browsers end with it.
struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start chromedriver: {error}; run `cargo xtask test`, which installs it")
            });
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut said = String::new();
        let port = loop {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).expect("chromedriver's stdout");
            assert!(read > 0, "chromedriver ended before it printed its port: {said}");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').parse().expect("a port");
            }
            said.push_str(&line);
        };
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Driver { child, port }
    }
}

impl Drop for Driver {
    /// Asks the driver to shut down, since a kill would leave its browsers running.
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ =
                stream.write_all(b"GET /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser with an empty profile.
pub(crate) struct Browser {
    client: Client,
    _driver: Driver,
    // Fields are dropped in order: the browser writes to its profile until it ends.
    _profile: TempDir,
}

impl Browser {
    /// Opens a desktop window.
    pub(crate) async fn desktop() -> Self {
        Self::open(&["--window-size=1100,1000"], json!({})).await
    }

    /// Opens a screen 390 px wide, a common width of phones.
    pub(crate) async fn phone() -> Self {
        let metrics =
            json!({ "width": 390, "height": 844, "pixelRatio": 2.0, "mobile": true, "touch": true });
        Self::open(&[], json!({ "mobileEmulation": { "deviceMetrics": metrics } })).await
    }

    /// Opens a desktop window of a user who prefers a dark theme.
    pub(crate) async fn dark() -> Self {
        Self::open(&["--window-size=1100,1000", "--force-dark-mode"], json!({})).await
    }

    /// Opens a desktop window that resolves every host below `.test` to this machine.
    pub(crate) async fn with_test_hosts() -> Self {
        Self::open(&["--window-size=1100,1000", "--host-resolver-rules=MAP *.test 127.0.0.1"], json!({}))
            .await
    }

    async fn open(further: &[&str], mut options: Value) -> Self {
        const ARGUMENTS: [&str; 9] = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ];
        let profile = tempfile::tempdir().expect("a folder");
        let driver = Driver::start();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.iter().chain(further).copied().chain([&*folder]).collect();
        options["args"] = json!(arguments);
        let capabilities = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let capabilities = capabilities.as_object().cloned().expect("an object");
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .expect("chromium starts; `cargo xtask test` installs it");
        Browser { client, _driver: driver, _profile: profile }
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    pub(crate) async fn reload(&self) {
        self.client.refresh().await.expect("the page loads again");
    }

    /// Presses the button and waits until the next page has loaded.
    pub(crate) async fn press(&self, id: &str) {
        let button = self.client.find(Locator::Id(id)).await.expect(id);
        self.value("window.before = true").await;
        button.click().await.expect("a button to press");
        self.arrived().await;
    }

    /// Clicks the button twice, 60 ms apart, and waits until the next page has loaded.
    pub(crate) async fn double_click(&self, id: &str) {
        let element = self.client.find(Locator::Id(id)).await.expect(id);
        self.value("window.before = true").await;
        let pause = PointerAction::Pause { duration: Duration::from_millis(60) };
        let (down, up) = (
            PointerAction::Down { button: MOUSE_BUTTON_LEFT },
            PointerAction::Up { button: MOUSE_BUTTON_LEFT },
        );
        let mouse = MouseActions::new("mouse".to_owned())
            .then(PointerAction::MoveToElement { element, duration: None, x: 0.0, y: 0.0 })
            .then(down.clone())
            .then(up.clone())
            .then(pause)
            .then(down)
            .then(up);
        self.client.perform_actions(mouse).await.expect("two clicks");
        self.arrived().await;
    }

    /// Waits until a page without `window.before` has loaded.
    async fn arrived(&self) {
        eventually("the next page", async || {
            let arrived = "return !window.before && document.readyState === 'complete'";
            // Between two pages a script cannot run.
            matches!(self.client.execute(arrived, Vec::new()).await, Ok(Value::Bool(true)))
        })
        .await;
    }

    pub(crate) async fn type_into(&self, id: &str, text: &str) {
        let field = self.client.find(Locator::Id(id)).await.expect(id);
        field.send_keys(text).await.expect("a field to type into");
    }

    /// Returns the text that a visitor sees in the element, or `None` if there is no such element.
    pub(crate) async fn text(&self, id: &str) -> Option<String> {
        match self.client.find(Locator::Id(id)).await {
            Ok(element) => Some(element.text().await.expect("a text")),
            Err(error) if error.is_no_such_element() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the text of the page's heading.
    pub(crate) async fn heading(&self) -> String {
        let heading = self.client.find(Locator::Css("h1")).await.expect("a heading");
        heading.text().await.expect("a text")
    }

    /// Returns all text that a visitor sees on the page, with single spaces.
    pub(crate) async fn page_text(&self) -> String {
        let body = self.client.find(Locator::Css("body")).await.expect("a body");
        body.text().await.expect("a text").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Returns the value of a script's expression on the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.client.execute(&script, Vec::new()).await.expect("a value")
    }

    /// Asserts that the page is no wider than the window.
    pub(crate) async fn fits_its_width(&self) {
        let [content, window] = ["document.documentElement.scrollWidth", "window.innerWidth"];
        assert_eq!(self.value(content).await, self.value(window).await);
    }

    /// Returns all cookies that the browser has for the page.
    pub(crate) async fn cookies(&self) -> Vec<fantoccini::cookies::Cookie<'static>> {
        self.client.get_all_cookies().await.expect("cookies")
    }

    /// Saves a picture of the page in the folder `CLOAKROOM_PICTURES`, if that variable is set.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("CLOAKROOM_PICTURES") else { return };
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), picture).expect("a file");
    }
}
