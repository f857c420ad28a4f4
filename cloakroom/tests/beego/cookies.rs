//! The cookies of captured Beego servers, compared with ours under the same configuration.

use std::collections::BTreeMap;

use cloakroom::{Manager, Released};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};
use serde_json::{Value as Json, json};

use super::vector;

/// A parsed `Set-Cookie`: its value, and its attributes by name.
#[derive(Debug, PartialEq)]
struct Sent {
    value: String,
    attributes: BTreeMap<String, String>,
}

fn sent(text: &str) -> Sent {
    let mut parts = text.split("; ");
    let value = parts.next().unwrap().strip_prefix("gosessionid=").unwrap().to_owned();
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name.to_owned(), value.to_owned())
    };
    Sent { value, attributes: parts.map(pair).collect() }
}

/// Returns a manager with the captured configuration.
async fn manager(case: &Json, folder: &std::path::Path) -> cloakroom::Result<Manager> {
    let mut config = json!({
        "cookieName": "gosessionid", "gclifetime": 3600, "secure": false, "format": "beego",
        "providerConfig": folder.to_str().unwrap(),
    });
    // The default of 2.x is 16 bytes in hex.
    if case["server"] == "v2" {
        config["sessionIDLength"] = 16.into();
    }
    for (key, value) in case["config"].as_object().unwrap() {
        config[key] = value.clone();
    }
    Manager::new("file", &config.to_string()).await
}

async fn response(manager: &Manager, cookie: Option<&str>, act: impl Fn(&cloakroom::Session)) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(cookie) = cookie {
        headers.insert(COOKIE, format!("gosessionid={cookie}").parse().unwrap());
    }
    let session = manager.start(&headers).await.unwrap();
    act(&session);
    let mut headers = HeaderMap::new();
    assert!(!matches!(session.release(&mut headers).await.unwrap(), Released::Gone { .. }));
    headers
}

fn cookie_of(headers: &HeaderMap) -> Option<Sent> {
    headers.get(SET_COOKIE).map(|value| sent(value.to_str().unwrap()))
}

/// Returns the attributes that our cookie must have: those of the captured one, with the documented differences.
fn expected(case: &Json, captured: &str) -> BTreeMap<String, String> {
    let mut attributes = sent(captured).attributes;
    // Max-Age has the same time, and takes precedence.
    attributes.remove("Expires");
    attributes.entry("SameSite".to_owned()).or_insert_with(|| "Lax".to_owned());
    // 2.x omits Secure if the request came over plain HTTP, as it does behind a proxy. 1.4 omits it at the end of a session.
    let config = &case["config"];
    if config["secure"] == true {
        attributes.insert("Secure".to_owned(), String::new());
    }
    if let Some(domain) = config["domain"].as_str() {
        attributes.insert("Domain".to_owned(), domain.trim_start_matches('.').to_owned());
    }
    attributes
}

#[tokio::test]
async fn our_cookies_have_the_attributes_of_the_captured_ones() {
    let cases = vector("set-cookie.json");
    let (mut alike, mut without, mut refused) = (0, 0, Vec::new());
    for case in cases.as_array().unwrap().iter().filter(|case| case["config"].is_object()) {
        let what = format!("{} {}", case["server"], case["config"]);
        let folder = tempfile::tempdir().unwrap();
        let manager = match manager(case, folder.path()).await {
            Ok(manager) => manager,
            Err(error) => {
                refused.push(format!("{}: {error}", case["config"]));
                continue;
            }
        };
        let first = response(&manager, None, |session| session.set("k", 1).unwrap()).await;
        let Some(captured) = case["set_cookie"][0].as_str() else {
            assert_eq!(cookie_of(&first), None, "{what}");
            without += 1;
            continue;
        };
        let cookie = cookie_of(&first).unwrap();
        assert_eq!(cookie.attributes, expected(case, captured), "{what}");
        assert!(cookie.value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        // 1.4 uses sha1 for every hash but md5.
        if case["config"]["sessionIDHashFunc"] != "sha256" {
            assert_eq!(cookie.value.len(), sent(captured).value.len(), "{what}");
        }
        let header = first.get("Gosessionid").map(|value| value.to_str().unwrap());
        assert_eq!(header, case["header_Gosessionid"].as_str().map(|_| &*cookie.value), "{what}");

        let next = response(&manager, Some(&cookie.value), |session| {
            assert_eq!(session.get::<u8>("k").unwrap(), Some(1));
        });
        assert_eq!(cookie_of(&next.await), None, "{what}: a request that only reads gets none");
        let regenerated = response(&manager, Some(&cookie.value), |session| session.regenerate().unwrap());
        let regenerated = cookie_of(&regenerated.await).unwrap();
        assert_ne!(regenerated.value, cookie.value);
        assert_eq!(regenerated.attributes, cookie.attributes, "{what}");
        let ended = response(&manager, Some(&regenerated.value), |session| session.destroy().unwrap());
        let mut ended = cookie_of(&ended.await).unwrap();
        ended.attributes.remove("Expires");
        assert_eq!(ended.value, "");
        assert_eq!(
            ended.attributes,
            expected(case, case["destroy_set_cookie"][0].as_str().unwrap()),
            "{what}"
        );
        alike += 1;
    }
    assert_eq!((alike, without), (20, 2));
    // A refusal names the setting. `cloakroom::guide::from_beego` lists the reasons.
    let reasons = [
        (r#"{"cookieLifeTime":-1}"#, "cookieLifeTime: expected a whole number of seconds from 0 on"),
        (r#"{"cookieSameSite":4}"#, "SameSite=None needs Secure"),
        (r#"{"cookieName":"b ad"}"#, "cookieName: expected"),
        (r#"{"cookieName":"bad;name"}"#, "cookieName: expected"),
        (r#"{"sessionIDPrefix":"app:"}"#, "sessionIDPrefix: expected at most 32 letters, digits, - and _"),
        (r#"{"sessionIDPrefix":"a b/"}"#, "sessionIDPrefix: expected at most 32 letters, digits, - and _"),
        (r#"{"sessionIDLength":1}"#, "sessionIdLength: expected 16 to 64 bytes"),
        (r#"{"EnableSidInURLQuery":true}"#, "enableSidInURLQuery is refused"),
        (r#"{"cookieLifeTime":-1}"#, "cookieLifeTime: expected a whole number of seconds from 0 on"),
        (r#"{"cookieName":"bad name"}"#, "cookieName: expected"),
    ];
    assert_eq!(refused.len(), reasons.len(), "{refused:#?}");
    for (refused, (config, reason)) in refused.iter().zip(reasons) {
        assert!(refused.starts_with(config) && refused.contains(reason), "{refused}");
    }
}
