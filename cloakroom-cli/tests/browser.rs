//! The site's pages in a real Chromium, driven through WebDriver.

#[path = "browser/shop.rs"]
mod shop;
#[path = "browser/sign_in.rs"]
mod sign_in;
mod support;
#[path = "support/browser.rs"]
mod window;

use serde_json::{Value, json};
use support::Server;
use window::Browser;

/// Returns the site's URL. Browsers accept a Secure cookie over plain HTTP only from `localhost`.
fn url(server: &Server) -> String {
    let port = server.address().rsplit_once(':').expect("a port").1;
    format!("http://localhost:{port}/")
}

async fn sign_in(browser: &Browser, server: &Server, user: &str) {
    browser.goto(&url(server)).await;
    browser.type_into("user", user).await;
    browser.press("sign-in").await;
    assert_eq!(browser.text("name").await.as_deref(), Some(user));
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_visitor_signs_in_saves_a_note_and_signs_out() {
    let server = Server::start(&[]);
    let browser = Browser::desktop().await;
    browser.goto(&url(&server)).await;
    assert_eq!(browser.cookies().await.len(), 0);
    assert_eq!(browser.heading().await, "Sign in to start a session.");
    let lifetime = "kept until you sign out or stay away for 30 minutes, and for 8 hours at most.";
    assert!(browser.page_text().await.contains(lifetime));
    browser.picture("welcome").await;

    sign_in(&browser, &server, "Ada Lovelace").await;
    let signed_in = "You are signed in. Your browser has a new session cookie.";
    assert_eq!(browser.text("flash").await.as_deref(), Some(signed_in));
    assert_eq!(browser.text("visits").await.as_deref(), Some("1"));
    for visits in ["2", "3", "4"] {
        browser.reload().await;
        assert_eq!(browser.text("visits").await.as_deref(), Some(visits));
        assert_eq!(browser.text("flash").await, None, "a message is shown once");
    }

    let note = "Milk and bread.\nAnd <b>eggs</b>.";
    browser.type_into("note", note).await;
    browser.press("keep").await;
    assert_eq!(browser.text("flash").await.as_deref(), Some("Your note is saved."));
    let mut elsewhere = server.client();
    elsewhere.login("Ada Lovelace").await;
    browser.reload().await;
    assert_eq!(browser.value("document.getElementById('note').value").await, json!(note));
    assert_eq!(browser.value("document.querySelectorAll('.sessions li').length").await, json!(2));
    browser.picture("home").await;

    let cookies = browser.cookies().await;
    let [cookie] = &cookies[..] else { panic!("{} cookies", cookies.len()) };
    assert_eq!(cookie.name(), "__Host-id");
    assert_eq!((cookie.http_only(), cookie.secure()), (Some(true), Some(true)));
    assert_eq!(
        (cookie.same_site().map(|site| site.to_string()), cookie.path()),
        (Some("Lax".to_owned()), Some("/"))
    );
    assert_eq!(browser.value("document.cookie").await, json!(""), "scripts do not see it");
    let mut replayed = server.client();
    replayed.bring(format!("__Host-id={}", cookie.value()));
    assert_eq!(replayed.get("/api/session").await.json()["principal"], "Ada Lovelace");

    browser.press("end-others").await;
    assert_eq!(browser.text("flash").await.as_deref(), Some("The other session is signed out."));
    assert_eq!(elsewhere.get("/api/session").await.json()["present"], false);

    browser.press("sign-out").await;
    assert_eq!(browser.text("flash").await.as_deref(), Some("You are signed out."));
    assert_eq!(browser.cookies().await.len(), 0);
    let dead = replayed.get("/api/session").await;
    assert_eq!((dead.json()["present"].as_bool(), dead.set_cookie()), (Some(false), None));
    assert!(browser.text("user").await.is_some(), "the sign-in form is shown again");
}

/// Sends a request for the session's value `key` from a script of the site. Returns the status and the length of the
/// text.
async fn ask(browser: &Browser, method: &str, body: &str) -> Value {
    let request = format!(
        "(() => {{ const request = new XMLHttpRequest(); \
         request.open('{method}', '/api/session/data/key', false); \
         request.setRequestHeader('content-type', 'application/json'); \
         request.send({body}); \
         return [request.status, request.responseText.length] }})()"
    );
    browser.value(&request).await
}

/// Stores a text of `length` characters and returns the status.
async fn store_text(browser: &Browser, length: usize) -> Value {
    ask(browser, "PUT", &format!("JSON.stringify('x'.repeat({length}))")).await[0].clone()
}

/// Returns the browser's only cookie: its value, and the size of its name and value in bytes.
async fn the_cookie(browser: &Browser) -> (String, usize) {
    let cookies = browser.cookies().await;
    let [cookie] = &cookies[..] else { panic!("{} cookies", cookies.len()) };
    (cookie.value().to_owned(), cookie.name().len() + cookie.value().len())
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_cookie_of_4096_bytes_is_kept_and_a_larger_one_not_sent() {
    let key = json!({ "securityKey": "Zq81-v0pKt_Lm7RwXe5sBd93HyGuJc62" }).to_string();
    let config = json!({ "cookieName": "__Host-id", "secure": true, "providerConfig": key }).to_string();
    let server = Server::start(&["--provider", "cookie", "--config", &config]);
    let browser = Browser::desktop().await;
    sign_in(&browser, &server, "Augusta Ada King, Countess of Lovelace").await;
    // The site's pages allow no scripts, so use a path that sends no content security policy.
    browser.goto(&format!("{}healthz", url(&server))).await;
    assert_eq!(store_text(&browser, 2000).await, 204);
    let (_, size) = the_cookie(&browser).await;
    // Base64 stores three bytes in four characters.
    let mut length = 2000 + (4096 - size) * 3 / 4 - 8;
    let full = loop {
        assert_eq!(store_text(&browser, length).await, 204, "{length}");
        let (cookie, size) = the_cookie(&browser).await;
        assert!(size <= 4096, "{size}");
        if size == 4096 {
            break cookie;
        }
        length += 1;
    };
    browser.reload().await;
    assert_eq!(ask(&browser, "GET", "").await, json!([200, length + 2]), "sent back whole, in quotes");
    assert_eq!(store_text(&browser, length + 1).await, 413);
    assert_eq!(the_cookie(&browser).await, (full, 4096), "the browser keeps the old cookie");
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn every_page_fits_the_width_of_a_phone() {
    let server = Server::start(&[]);
    let browser = Browser::phone().await;
    browser.goto(&url(&server)).await;
    assert_eq!(browser.value("window.innerWidth").await, json!(390));
    browser.fits_its_width().await;
    browser.picture("phone-welcome").await;

    sign_in(&browser, &server, "Ada").await;
    server.client().login("Ada").await;
    browser.reload().await;
    browser.fits_its_width().await;
    browser.picture("phone-home").await;
    browser.value("window.scrollTo(0, document.body.scrollHeight)").await;
    browser.picture("phone-home-below").await;

    browser.press("sign-out").await;
    sign_in(&browser, &server, &"W".repeat(64)).await;
    browser.type_into("note", &"m".repeat(500)).await;
    browser.press("keep").await;
    browser.fits_its_width().await;
    browser.goto(&format!("{}nope", url(&server))).await;
    assert_eq!(browser.heading().await, "Page not found");
    assert!(browser.page_text().await.contains("Check the address, or go to the start page."));
    browser.fits_its_width().await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn the_page_is_dark_if_the_visitor_prefers_it() {
    let server = Server::start(&[]);
    let browser = Browser::dark().await;
    sign_in(&browser, &server, "Ada").await;
    browser.picture("dark-home").await;
    let background = browser.value("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(background, json!("rgb(23, 20, 26)"));
}
