//! The page in a real Chromium, driven through WebDriver.

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

/// Browsers take a Secure cookie over plain HTTP from this name.
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
async fn a_visitor_signs_in_is_remembered_and_signs_out_for_good() {
    let server = Server::start(&[]);
    let browser = Browser::desktop().await;
    browser.goto(&url(&server)).await;
    assert_eq!(browser.cookies().await.len(), 0);
    browser.picture("welcome").await;

    sign_in(&browser, &server, "Ada Lovelace").await;
    assert!(browser.text("flash").await.expect("a message").starts_with("You are signed in."));
    assert_eq!(browser.text("visits").await.as_deref(), Some("1"));
    for visits in ["2", "3", "4"] {
        browser.reload().await;
        assert_eq!(browser.text("visits").await.as_deref(), Some(visits));
        assert_eq!(browser.text("flash").await, None, "it was said once");
    }

    let note = "The blue umbrella is mine.\nSo is the <b>hat</b>.";
    browser.type_into("note", note).await;
    browser.press("keep").await;
    assert_eq!(browser.text("flash").await.as_deref(), Some("Your note is kept."));
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
    assert!(browser.text("flash").await.expect("a message").starts_with("You are signed out."));
    assert_eq!(browser.cookies().await.len(), 0);
    let dead = replayed.get("/api/session").await;
    assert_eq!((dead.json()["present"].as_bool(), dead.set_cookie()), (Some(false), None));
    assert!(browser.text("user").await.is_some(), "the form to sign in is back");
}

/// What a script of the site's own gets for a request on the session's value `key`: the status, and the length of the text.
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

/// Keeps a text of so many characters; the answer's status.
async fn keep(browser: &Browser, length: usize) -> Value {
    ask(browser, "PUT", &format!("JSON.stringify('x'.repeat({length}))")).await[0].clone()
}

/// The one cookie that the browser has, and how many bytes its name and its value are.
async fn the_cookie(browser: &Browser) -> (String, usize) {
    let cookies = browser.cookies().await;
    let [cookie] = &cookies[..] else { panic!("{} cookies", cookies.len()) };
    (cookie.value().to_owned(), cookie.name().len() + cookie.value().len())
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_session_in_a_cookie_of_4096_bytes_is_kept_and_a_larger_one_is_never_sent() {
    let key = json!({ "securityKey": "Zq81-v0pKt_Lm7RwXe5sBd93HyGuJc62" }).to_string();
    let config = json!({ "cookieName": "__Host-id", "secure": true, "providerConfig": key }).to_string();
    let server = Server::start(&["--provider", "cookie", "--config", &config]);
    let browser = Browser::desktop().await;
    sign_in(&browser, &server, "Augusta Ada King, Countess of Lovelace").await;
    // The page itself allows no scripts.
    browser.goto(&format!("{}healthz", url(&server))).await;
    assert_eq!(keep(&browser, 2000).await, 204);
    let (_, size) = the_cookie(&browser).await;
    // Four characters hold three bytes.
    let mut length = 2000 + (4096 - size) * 3 / 4 - 8;
    let full = loop {
        assert_eq!(keep(&browser, length).await, 204, "{length}");
        let (cookie, size) = the_cookie(&browser).await;
        assert!(size <= 4096, "{size}");
        if size == 4096 {
            break cookie;
        }
        length += 1;
    };
    browser.reload().await;
    assert_eq!(ask(&browser, "GET", "").await, json!([200, length + 2]), "sent back whole, in quotes");
    assert_eq!(keep(&browser, length + 1).await, 413);
    assert_eq!(the_cookie(&browser).await, (full, 4096), "and the browser has what it had");
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn the_page_fits_a_phone_whatever_is_written_on_it() {
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
    browser.fits_its_width().await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn the_page_is_dark_where_the_visitor_prefers_it() {
    let server = Server::start(&[]);
    let browser = Browser::dark().await;
    sign_in(&browser, &server, "Ada").await;
    browser.picture("dark-home").await;
    let background = browser.value("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(background, json!("rgb(23, 20, 26)"));
}
