//! Sign-ins as a browser sends them: double clicks, cookies of ended sessions, a cookie from a former domain.

use std::num::NonZeroUsize;

use cloakroom::{Manager, ManagerBuilder, MemoryProvider, Principal, config::OverLimit};

use crate::shop::{self, Order, Running};
use crate::window::Browser;

fn url(shop: &Running) -> String {
    format!("http://localhost:{}/", shop.port)
}

fn one_session(builder: ManagerBuilder) -> ManagerBuilder {
    builder.sessions_per_user(NonZeroUsize::MIN, OverLimit::Refuse)
}

async fn shows(browser: &Browser, user: &str, cart: &str) {
    let shown = (browser.text("user").await, browser.text("cart").await);
    assert_eq!(shown, (Some(user.to_owned()), Some(cart.to_owned())));
}

/// Double-clicks "Sign in" with two items in the cart, and adds a third.
async fn double_click(order: Order, settings: impl Fn(ManagerBuilder) -> ManagerBuilder) {
    let sessions = settings(Manager::builder(MemoryProvider::new())).build().expect("a manager");
    let shop = shop::open(sessions.clone(), order).await;
    let browser = Browser::desktop().await;
    browser.goto(&url(&shop)).await;
    browser.press("add").await;
    browser.press("add").await;
    shows(&browser, "", "2").await;
    browser.double_click("sign-in").await;
    shows(&browser, "ada", "2").await;
    browser.press("add").await;
    shows(&browser, "ada", "3").await;
    let ada = Principal::new("ada").expect("a name");
    assert_eq!(sessions.sessions_of(&ada).await.expect("a list").len(), 1);
    browser.press("sign-out").await;
    shows(&browser, "", "0").await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_double_click_that_loads_twice_signs_in_once() {
    double_click(Order::BothLoadFirst, |builder| builder).await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_second_click_after_the_commit_signs_in_too() {
    double_click(Order::SecondArrivesLater, |builder| builder).await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_double_click_needs_room_for_one_session() {
    double_click(Order::BothLoadFirst, one_session).await;
    double_click(Order::SecondArrivesLater, one_session).await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_login_after_a_logout_everywhere_works_at_once() {
    for settings in [(|builder| builder) as fn(ManagerBuilder) -> ManagerBuilder, one_session] {
        let sessions = settings(Manager::builder(MemoryProvider::new())).build().expect("a manager");
        let shop = shop::open(sessions.clone(), Order::OneByOne).await;
        let browser = Browser::desktop().await;
        browser.goto(&url(&shop)).await;
        browser.press("sign-in").await;
        shows(&browser, "ada", "0").await;
        browser.press("sign-out-everywhere").await;
        shows(&browser, "", "0").await;
        browser.press("sign-in").await;
        shows(&browser, "ada", "0").await;
        // The user's sessions end elsewhere while the page is open.
        let ada = Principal::new("ada").expect("a name");
        assert_eq!(sessions.end_sessions(&ada).await.expect("an end"), 1);
        browser.reload().await;
        shows(&browser, "", "0").await;
        browser.press("sign-in").await;
        browser.press("add").await;
        shows(&browser, "ada", "1").await;
    }
}

/// Over plain HTTP on a host that is not localhost, Chromium sends no `Sec-Fetch-Site`.
#[tokio::test]
#[ignore = "needs chromium and chromedriver; cargo xtask test installs and runs it"]
async fn a_login_after_a_change_of_domain_works_at_once() {
    let provider = MemoryProvider::new();
    let builder = || Manager::builder(provider.clone()).plain_http_for_development();
    let former = shop::open(builder().build().expect("a manager"), Order::OneByOne).await;
    let domain = builder().cookie_name("id").cookie_domain("shop.test").build().expect("a manager");
    let now = shop::open(domain, Order::OneByOne).await;
    let browser = Browser::with_test_hosts().await;
    let url = |shop: &Running| format!("http://www.shop.test:{}/", shop.port);
    browser.goto(&url(&former)).await;
    browser.press("sign-in").await;
    browser.press("add").await;
    shows(&browser, "ada", "1").await;

    browser.goto(&url(&now)).await;
    browser.press("sign-in").await;
    shows(&browser, "ada", "1").await;
    browser.press("add").await;
    shows(&browser, "ada", "2").await;
    browser.press("sign-out").await;
    shows(&browser, "", "0").await;
    browser.press("sign-in").await;
    shows(&browser, "ada", "0").await;
    browser.press("add").await;
    shows(&browser, "ada", "1").await;
}
