//! The chapters of the documentation. They hold no code but their examples, and those run as tests.
//!
//! | chapter | answers |
//! |---|---|
//! | [`getting_started`] | How do I add sessions to an application? |
//! | [`a_small_shop`] | How do a cart, a login, two logouts and protected forms fit together? |
//! | [`concepts`] | What happens between a request and its response? |
//! | [`frameworks`] | How does it work with axum, tower, hyper, or no framework? |
//! | [`your_own_framework`] | How do I write an adapter for another framework? |
//! | [`recipes`] | How do I write a login form, a list of devices, a second factor? |
//! | [`data`] | How do I store values, structs and flash messages? |
//! | [`users`] | How do I log users in and out, on one device or on all of them? |
//! | [`lifetimes`] | When does a session end, and what happens to requests that are late? |
//! | [`security`] | What is safe by default, and what is left to the application? |
//! | [`csrf`] | How do I protect forms? |
//! | [`plain_http`] | Why is the cookie lost over plain HTTP, and what do I set behind a proxy? |
//! | [`sockets`] | How do WebSockets and event streams use a session? |
//! | [`providers`] | Which store fits? One page each: [`memory`], [`files`], [`redis`], [`mysql`], [`postgres`], [`sqlite`], [`cookie`], [`near_cache`] |
//! | [`sealing`] | How do I encrypt what is stored? |
//! | [`writing_a_provider`] | How do I write a store of my own? |
//! | [`configuration`] | Which keys does the configuration string have? PostgreSQL's connection string: [`postgres_parameters`] |
//! | [`going_live`] | What do I check before strangers use it? |
//! | [`errors`] | What does each kind of error mean, and what do I do? |
//! | [`troubleshooting`] | Why is the visitor logged out, what is this 409, and what does this error want? |
//! | [`operations`] | What do I watch, limit, back up and upgrade? |
//! | [`events`] | What does the library report, and what does it log? |
//! | [`shutdown`] | How do I stop a server without losing changes? |
//! | [`testing`] | How do I test an application with sessions? |
//! | [`performance`] | What does a request cost? |
//! | [`migrating`] | How do I move from another library? In detail: [`from_tower_sessions`], [`from_actix_session`], [`from_axum_session`], [`from_beego`], [`from_go`] |
//! | [`glossary`] | What does this word mean? |

/// Declares a chapter. The text is compiled in where the features of its examples are on, as they are on docs.rs. Elsewhere the page says
/// which features it needs.
macro_rules! chapter {
    ($name:ident, $summary:literal, $file:literal $(, $feature:literal)*) => {
        #[doc = $summary]
        #[doc = ""]
        #[cfg_attr(all(unix, $(feature = $feature),*), doc = include_str!($file))]
        #[cfg_attr(
            not(all(unix, $(feature = $feature),*)),
            doc = concat!(
                "The text of this chapter is not in this build of the documentation. Its examples need Unix",
                $(", the feature `", $feature, "`",)*
                ". Build it with `cargo doc --all-features`, or read it on [docs.rs](https://docs.rs/cloakroom)."
            )
        )]
        pub mod $name {}
    };
}

chapter!(
    getting_started,
    "Add sessions to an application, from an empty project on.",
    "getting_started.md",
    "memory",
    "file",
    "axum",
    "config-string"
);
chapter!(
    a_small_shop,
    "A complete application: cart, login, logout, and protected forms.",
    "a_small_shop.md",
    "memory",
    "csrf",
    "axum"
);
chapter!(concepts, "Between a request and its response: load, changes, commit.", "concepts.md", "memory");
chapter!(
    frameworks,
    "axum, tower, hyper, and applications without a framework.",
    "frameworks.md",
    "memory",
    "axum"
);
chapter!(
    your_own_framework,
    "An adapter for a framework that has none yet.",
    "your_own_framework.md",
    "memory",
    "csrf",
    "axum"
);
chapter!(
    data,
    "Values, atomic updates, structs with versions, and flash messages.",
    "data.md",
    "memory",
    "axum"
);
chapter!(users, "Logins, levels, devices, limits, and \"log out everywhere\".", "users.md", "memory", "axum");
chapter!(
    lifetimes,
    "Timeouts, \"remember me\", new ids, and requests that come too late.",
    "lifetimes.md",
    "memory"
);
chapter!(
    security,
    "What the library guarantees, and what the application has to do.",
    "security.md",
    "memory"
);
chapter!(
    csrf,
    "Tokens for forms, and requests that another site's page sends.",
    "csrf.md",
    "memory",
    "csrf",
    "axum"
);
chapter!(
    plain_http,
    "Development over plain HTTP, and production behind a TLS proxy.",
    "plain_http.md",
    "memory"
);
chapter!(sockets, "WebSockets and server-sent events.", "sockets.md", "memory", "axum");
chapter!(
    going_live,
    "A list to check before strangers use the application.",
    "going_live.md",
    "memory",
    "csrf"
);
chapter!(
    providers,
    "Which store fits, and what all stores have in common.",
    "providers.md",
    "memory",
    "file",
    "config-string"
);
chapter!(memory, "Sessions in the memory of one process.", "memory.md", "memory");
chapter!(
    cookie,
    "Sessions in the visitor's cookie, sealed, without a store.",
    "cookie.md",
    "memory",
    "cookie",
    "config-string"
);
chapter!(
    near_cache,
    "Copies of records in the process, in front of any store.",
    "near_cache.md",
    "memory",
    "cached",
    "redis"
);
chapter!(
    writing_a_provider,
    "A store of your own, in your own crate.",
    "writing_a_provider.md",
    "memory",
    "testkit",
    "config-string"
);
chapter!(
    configuration,
    "Every key of the configuration string, in one table.",
    "configuration.md",
    "memory",
    "file",
    "config-string"
);
chapter!(
    operations,
    "Garbage collection, limits, deadlines, logs, backups and upgrades.",
    "operations.md",
    "memory",
    "axum"
);
chapter!(events, "What the library reports to a listener and to the log.", "events.md", "memory");
chapter!(shutdown, "Stopping a server without losing changes.", "shutdown.md", "memory", "axum");
chapter!(
    testing,
    "Tests of applications: logged-in requests, typed data, and time.",
    "testing.md",
    "memory",
    "axum",
    "csrf",
    "testkit"
);
chapter!(performance, "What a request costs, and what makes it cheaper.", "performance.md", "memory");
chapter!(migrating, "From tower-sessions, actix-session, axum_session and Go.", "migrating.md", "memory");

chapter!(
    recipes,
    "Complete examples: logins, devices, second factors, jobs.",
    "recipes.md",
    "memory",
    "axum"
);
chapter!(errors, "Every kind of error: when it happens, and what to do.", "errors.md", "memory", "axum");
chapter!(
    troubleshooting,
    "Symptoms and error texts, each with its cause and its cure.",
    "troubleshooting.md",
    "memory",
    "axum",
    "csrf",
    "config-string"
);
chapter!(glossary, "The words of this documentation.", "glossary.md");

chapter!(files, "Sessions in files that processes on one machine share.", "files.md", "file", "memory");
chapter!(
    redis,
    "Sessions in Redis or Valkey: one server, sentinels, or a cluster.",
    "redis.md",
    "redis",
    "cached",
    "memory",
    "config-string"
);
chapter!(mysql, "Sessions in a table of MariaDB or MySQL.", "mysql.md", "mysql");
chapter!(postgres, "Sessions in a table of PostgreSQL.", "postgres.md", "postgres");
chapter!(
    sqlite,
    "Sessions in a file of SQLite that processes on one machine share.",
    "sqlite.md",
    "sqlite",
    "config-string"
);
chapter!(
    postgres_parameters,
    "Every parameter of PostgreSQL's connection string.",
    "postgres_parameters.md",
    "postgres"
);
chapter!(
    sealing,
    "Sealed records: keys, what sealing protects against, and upgrades in place.",
    "sealing.md",
    "memory",
    "cookie"
);
chapter!(
    from_tower_sessions,
    "From tower-sessions and axum-login, with nobody logged out.",
    "from_tower_sessions.md",
    "from-tower-sessions",
    "memory"
);
chapter!(
    from_actix_session,
    "From actix-session and actix-identity, with nobody logged out.",
    "from_actix_session.md",
    "from-actix-session",
    "memory"
);
chapter!(
    from_axum_session,
    "From axum_session, with nobody logged out.",
    "from_axum_session.md",
    "from-axum-session",
    "memory"
);
chapter!(
    from_beego,
    "From Beego, with live sessions, in three steps.",
    "from_beego.md",
    "beego",
    "redis",
    "config-string"
);
chapter!(from_go, "From scs and gorilla/sessions.", "from_go.md", "beego");
