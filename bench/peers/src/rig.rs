//! Requests through a framework's whole stack, without a network.

use std::hint::black_box;

use actix_web::dev::ServiceResponse;
use actix_web::{App, test};
use axum::body::Body;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request};
use tower::Service as _;

use crate::subject::{Places, Scenario, Subject};
use crate::{actix_apps, axum_routers};

/// The cookie for handlers that ignore sessions, so that all requests have the same form.
const UNUSED_COOKIE: HeaderValue =
    HeaderValue::from_static("__Host-id=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");

/// Sends requests of one scenario to one subject.
pub struct Rig(Box<dyn FnMut()>);

impl Rig {
    pub fn new(subject: Subject, scenario: Scenario, places: &Places) -> Rig {
        if subject.is_actix() {
            Rig::actix(subject, scenario, places)
        } else {
            Rig::axum(subject, scenario, places)
        }
    }

    /// Sends one request and checks the answer.
    pub fn request(&mut self) {
        (self.0)();
    }

    fn axum(subject: Subject, scenario: Scenario, places: &Places) -> Rig {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        // `axum::serve` sets the state too. Without it the layers are applied again for every request. Some layers
        // need the runtime for that.
        let router = async { axum_routers::router(subject, places).await.with_state(()) };
        let mut router = runtime.block_on(router);
        let cookie = runtime.block_on(async {
            let request = Request::builder().uri("/change").body(Body::empty()).expect("a valid request");
            let response = router.call(request).await.expect("a router does not fail");
            cookie(response.headers().get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes))
        });
        let cookie = scenario.brings_cookie().then(|| cookie.unwrap_or(UNUSED_COOKIE));
        Rig(Box::new(move || {
            let request = Request::builder().uri(scenario.path()).body(Body::empty());
            let mut request = request.expect("a valid request");
            if let Some(cookie) = &cookie {
                request.headers_mut().insert(COOKIE, cookie.clone());
            }
            let response = runtime.block_on(router.call(request));
            assert!(black_box(response).is_ok_and(|response| response.status().is_success()));
        }))
    }

    fn actix(subject: Subject, scenario: Scenario, places: &Places) -> Rig {
        let system = actix_web::rt::System::new();
        match subject {
            Subject::Actix => {
                let app = App::new().configure(actix_apps::bare_routes);
                let service = system.block_on(test::init_service(app));
                Rig::actix_service(system, scenario, service)
            }
            Subject::ActixSessionCookie => {
                let layer = actix_apps::layer(actix_apps::cookie_store()).build();
                let app = App::new().wrap(layer).configure(actix_apps::routes);
                let service = system.block_on(test::init_service(app));
                Rig::actix_service(system, scenario, service)
            }
            _ => {
                let layer = actix_apps::layer(system.block_on(actix_apps::redis_store(places))).build();
                let app = App::new().wrap(layer).configure(actix_apps::routes);
                let service = system.block_on(test::init_service(app));
                Rig::actix_service(system, scenario, service)
            }
        }
    }

    fn actix_service<S, B>(system: actix_web::rt::SystemRunner, scenario: Scenario, service: S) -> Rig
    where
        S: actix_web::dev::Service<
                actix_http::Request,
                Response = ServiceResponse<B>,
                Error = actix_web::Error,
            > + 'static,
        B: actix_web::body::MessageBody + 'static,
    {
        let cookie = system.block_on(async {
            let request = test::TestRequest::get().uri("/change").to_request();
            let response = service.call(request).await.expect("the service does not fail");
            cookie(response.headers().get_all("set-cookie").map(|value| value.as_bytes()))
        });
        let cookie = scenario.brings_cookie().then(|| cookie.unwrap_or(UNUSED_COOKIE));
        Rig(Box::new(move || {
            let mut request = test::TestRequest::get().uri(scenario.path());
            if let Some(cookie) = &cookie {
                request = request.insert_header(("cookie", cookie.as_bytes()));
            }
            let response = system.block_on(service.call(request.to_request()));
            assert!(black_box(response).is_ok_and(|response| response.status().is_success()));
        }))
    }
}

/// Returns the `Cookie` header that a browser sends after these `Set-Cookie` headers, or `None` if there are none.
pub fn cookie<'a>(set: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let pairs: Vec<_> =
        set.map(|cookie| cookie.split(|&byte| byte == b';').next().unwrap_or_default()).collect();
    let text = pairs.join(&b"; "[..]);
    (!text.is_empty()).then(|| HeaderValue::from_bytes(&text).expect("a header value"))
}

/// Returns request headers with this cookie. The text is copied, as a server reads it from the network.
pub fn headers(cookie: &HeaderValue) -> HeaderMap {
    let fresh = HeaderValue::from_bytes(cookie.as_bytes()).expect("a header value");
    HeaderMap::from_iter([(COOKIE, fresh)])
}
