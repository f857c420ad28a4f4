//! The effective policy in words, for [`Manager::explain`](crate::Manager::explain).

use std::fmt::{self, Write};
use std::time::Duration;

use super::touch::touch_interval;
use super::{Config, OverLimit};

impl Config {
    fn explain_the_anonymous(&self, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
        if self.anonymous_timeout() < self.idle_timeout {
            say(format_args!(
                "Where nobody has logged in it ends {} after that use (anonymous timeout); a use is then stored if the last stored one is {} old or more",
                Span(self.anonymous_timeout()),
                self.span_between_stored_uses(self.anonymous_timeout())
            ));
        }
        if let Some(quota) = self.session_quota {
            say(format_args!(
                "With {quota} sessions in the store no anonymous one begins; logins go on (quota)"
            ));
        }
    }

    fn explain_ended(&self, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
        say(format_args!(
            "A request that was under way when its id was replaced or its session ended changes nothing and sets no cookie; that is remembered for {}",
            Span(self.longest_request)
        ));
        say(format_args!(
            "A request that arrives under a replaced id may log in, and may change nothing else within {} of the replacement; after that, and under the id of a session that ended, it begins a new session",
            Span(self.arrival_grace())
        ));
    }

    fn explain_the_cookie(&self, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
        match self.cookie.lifetime {
            _ if !self.send_cookie => say(format_args!("No cookie is sent")),
            Some(lifetime) => say(format_args!(
                "The cookie is kept for {} from its last renewal, and never longer than the absolute timeout",
                Span(lifetime)
            )),
            None => say(format_args!("The cookie is kept until the browser is closed")),
        }
    }

    fn explain_the_user_limit(&self, say: &mut dyn FnMut(fmt::Arguments<'_>)) {
        match self.user_limit {
            Some((limit, OverLimit::EndOldest)) => {
                say(format_args!("A user has at most {limit} sessions; one more login ends the oldest"));
            }
            Some((limit, OverLimit::Refuse)) => {
                say(format_args!("A user has at most {limit} sessions; one more login is refused"));
            }
            None => say(format_args!("A user has as many sessions as they like")),
        }
    }

    fn span_between_stored_uses(&self, idle: Duration) -> Span {
        Span(touch_interval([Some(idle), self.cookie.lifetime]))
    }

    /// Returns the effective policy in words, one statement per line.
    pub(crate) fn explain(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let mut say = |statement: fmt::Arguments<'_>| {
            let _ = writeln!(text, "- {statement}.");
        };
        say(format_args!(
            "A session ends {} after its last stored use (idle timeout); a use is stored if the last stored one is {} old or more",
            Span(self.idle_timeout),
            self.span_between_stored_uses(self.idle_timeout)
        ));
        self.explain_the_anonymous(&mut say);
        match self.absolute_timeout {
            Some(timeout) => say(format_args!(
                "It ends {} after the login, or after its beginning where nobody has logged in, however much it is used (absolute timeout)",
                Span(timeout)
            )),
            None => say(format_args!("It lives as long as it is used (no absolute timeout)")),
        }
        match self.rotate_every {
            Some(age) => say(format_args!(
                "Its id is replaced in passing once it is {} old; the old one reaches the session for {} more, and its use after that is reported{}",
                Span(age),
                Span(self.rotation_grace),
                if self.end_user_on_reuse { " and ends every session of the user" } else { "" },
            )),
            None => say(format_args!(
                "Its id is replaced by a login and where the application asks for it, and never in passing"
            )),
        }
        self.explain_ended(&mut say);
        self.explain_the_cookie(&mut say);
        self.explain_the_user_limit(&mut say);
        say(format_args!(
            "A session may have a lifetime of its own, which then goes before both timeouts and the cookie's"
        ));
        text
    }
}

/// A time in units: `1 d 2 h`, `30 min`, `1.500 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let millis = self.0.subsec_millis();
        let mut parts = Vec::new();
        for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("min", 60)] {
            if rest >= seconds {
                parts.push(format!("{} {unit}", rest / seconds));
                rest %= seconds;
            }
        }
        match (rest, millis) {
            (0, 0) if !parts.is_empty() => {}
            (rest, 0) => parts.push(format!("{rest} s")),
            (rest, millis) => parts.push(format!("{rest}.{millis:03} s")),
        }
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_units() {
        let read = |millis| Span(Duration::from_millis(millis)).to_string();
        assert_eq!(read(0), "0 s");
        assert_eq!(read(1_500), "1.500 s");
        assert_eq!(read(30 * 60_000), "30 min");
        assert_eq!(read(93_784_000), "1 d 2 h 3 min 4 s");
    }
}
