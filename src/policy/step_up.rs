use std::time::Duration;

use serde_json::{Map, Value};

use super::Rules;
use crate::clock::Timestamp;

/// How a user must have signed in, beyond having signed in at all (RFC 9470).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUp {
    /// Authentication contexts (claim `acr`) of which it must be one; empty means any.
    pub acr_values: Vec<String>,
    /// How long ago it may be (claim `auth_time`).
    pub max_age: Option<Duration>,
}

/// What a sign-in must be like if nothing is asked of it.
pub const ANY_SIGN_IN: &StepUp = &StepUp { acr_values: Vec::new(), max_age: None };

impl StepUp {
    /// What a login address asks for: `acr_values`, separated by spaces, and `max_age` in seconds, as in OpenID Connect
    /// Core section 3.1.2.1. What no rule of the frontend asks for counts as not given.
    pub fn requested(rules: &Rules, acr_values: Option<&str>, max_age: Option<&str>) -> Self {
        let acr_values = acr_values.unwrap_or_default().split(' ');
        let acr_values = acr_values.filter(|acr| rules.names_acr(acr)).map(str::to_owned).collect();
        let max_age = max_age.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        Self { acr_values, max_age: max_age.filter(|age| rules.names_max_age(*age)) }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self == ANY_SIGN_IN
    }

    /// Whether a sign-in with these claims of its ID token will do. A callback allows for `clock_skew`, so this does as
    /// well: what a login has just brought must not be sent to the login again.
    pub fn is_met(&self, id_claims: &Map<String, Value>, clock_skew: Duration, now: Timestamp) -> bool {
        let acr = id_claims.get("acr").and_then(Value::as_str);
        let fits_acr =
            self.acr_values.is_empty() || acr.is_some_and(|acr| self.acr_values.iter().any(|a| a == acr));
        let signed_in_at = id_claims.get("auth_time").and_then(Value::as_f64);
        let is_recent = self.max_age.is_none_or(|max_age| {
            signed_in_at.is_some_and(|at| Timestamp::from_unix(at as u64) + max_age + clock_skew >= now)
        });
        fits_acr && is_recent
    }

    /// The challenge that tells a script what is missing (RFC 9470 section 3).
    pub fn challenge(&self) -> String {
        let mut challenge = String::from(
            "Bearer error=\"insufficient_user_authentication\", \
             error_description=\"A stronger or more recent sign-in is required\"",
        );
        for (name, value) in self.parameters() {
            challenge.push_str(&format!(", {name}=\"{value}\""));
        }
        challenge
    }

    /// What is asked, as parameters of an address or a challenge.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let acr_values = (!self.acr_values.is_empty()).then(|| ("acr_values", self.acr_values.join(" ")));
        let max_age = self.max_age.map(|age| ("max_age", age.as_secs().to_string()));
        acr_values.into_iter().chain(max_age)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::{PathPattern, Rule, SessionNeed};

    const NOW: Timestamp = Timestamp::from_unix(1_000_000);
    const SKEW: Duration = Duration::from_secs(10);

    fn step_up(acr_values: &[&str], max_age: Option<u64>) -> StepUp {
        let acr_values = acr_values.iter().map(|&acr| acr.to_owned()).collect();
        StepUp { acr_values, max_age: max_age.map(Duration::from_secs) }
    }

    #[test]
    fn a_sign_in_must_be_strong_and_recent_enough() {
        let ago = |seconds: u64| json!(NOW.as_unix() - seconds);
        for (needed, claims, met) in [
            (step_up(&[], None), json!({}), true),
            (step_up(&["gold"], None), json!({"acr": "gold"}), true),
            (step_up(&["silver", "gold"], None), json!({"acr": "gold"}), true),
            (step_up(&["gold"], None), json!({"acr": "silver"}), false),
            (step_up(&["gold"], None), json!({"acr": ["gold"]}), false),
            (step_up(&["gold"], None), json!({}), false),
            (step_up(&[], Some(30)), json!({"auth_time": ago(30)}), true),
            (step_up(&[], Some(30)), json!({"auth_time": ago(40)}), true),
            (step_up(&[], Some(30)), json!({"auth_time": ago(41)}), false),
            (step_up(&[], Some(30)), json!({"auth_time": "now"}), false),
            (step_up(&[], Some(30)), json!({}), false),
            (step_up(&["gold"], Some(30)), json!({"acr": "gold", "auth_time": ago(41)}), false),
            (step_up(&["gold"], Some(30)), json!({"acr": "silver", "auth_time": ago(0)}), false),
        ] {
            assert_eq!(needed.is_met(claims.as_object().unwrap(), SKEW, NOW), met, "{needed:?} {claims}");
        }
    }

    #[test]
    fn a_script_is_told_what_is_missing() {
        assert_eq!(
            step_up(&["silver", "gold"], Some(30)).challenge(),
            "Bearer error=\"insufficient_user_authentication\", error_description=\"A stronger or more recent \
             sign-in is required\", acr_values=\"silver gold\", max_age=\"30\""
        );
    }

    #[test]
    fn a_login_address_asks_for_what_some_rule_needs() {
        let path = PathPattern::parse("/secure/*").unwrap();
        let needs_gold =
            Rule { step_up: step_up(&["gold"], Some(30)), ..Rule::new(path, SessionNeed::Required) };
        let rules = Rules::new(vec![needs_gold]);
        for (acr_values, max_age, expected) in [
            (None, None, step_up(&[], None)),
            (Some("gold"), Some("30"), step_up(&["gold"], Some(30))),
            (Some("other gold"), Some("-1"), step_up(&["gold"], None)),
            (Some(""), Some("x"), step_up(&[], None)),
            (None, Some("31"), step_up(&[], None)),
            (None, Some("99999999999999999999"), step_up(&[], None)),
        ] {
            assert_eq!(
                StepUp::requested(&rules, acr_values, max_age),
                expected,
                "{acr_values:?} {max_age:?}"
            );
        }
    }
}
