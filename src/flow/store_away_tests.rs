//! What becomes of requests while nobody can say who is signed in: the store is one that is not there.

use keycloak_bff_testbed::ports;
use redis::IntoConnectionInfo;

use super::{
    test_support::{FakeProvider, HOST, ORIGIN, TestFlows, flows_over, site},
    *,
};
use crate::{
    crypto::SystemRandom,
    policy::{PathPattern, Rule, Rules, SessionNeed},
    session::{
        SessionGroup,
        redis::{RedisMode, RedisSettings, RedisStore, RedisTls},
    },
};

fn test(issuer: &str) -> TestFlows {
    let mut site = site(ORIGIN);
    let rules = [("/public/*", SessionNeed::None), ("/optional/*", SessionNeed::Optional)];
    let rules = rules.map(|(path, need)| Rule::new(PathPattern::parse(path).unwrap(), need));
    Arc::get_mut(&mut site.frontend).unwrap().rules = Rules::new(rules.into());
    flows_over(site, issuer, |clock| {
        let settings = RedisSettings {
            servers: vec![format!("redis://127.0.0.1:{}", ports::free()).into_connection_info().unwrap()],
            mode: RedisMode::Single,
            tls: RedisTls::default(),
            username: None,
            password: None,
            prefix: "bff:".to_owned(),
            grace: None,
            at_hand: 10,
        };
        let ring = KeyRing::new(vec!["0123456789abcdef0123456789abcdef".into()]).unwrap();
        let random: SharedRandom = Arc::new(SystemRandom);
        SessionStore::Redis(RedisStore::start(settings, Arc::new(ring), renderer(&[]), random, clock))
    })
}

fn asking(target: &'static str, with_cookie: bool) -> Request<'static> {
    static COOKIE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!("__Host-session={}", SessionId::random(&SystemRandom).unwrap().cookie_value())
    });
    let mut request = Request { method: "GET", host: HOST, target, ..Request::default() };
    request.read_header("accept", "text/html");
    if with_cookie {
        request.read_header("cookie", &COOKIE);
    }
    request
}

#[tokio::test]
async fn who_cannot_be_known_is_told_to_come_back_and_sent_to_no_login() {
    let test = test("http://127.0.0.1:9");
    for (target, with_cookie, expected) in [
        ("/public/a", true, 200),
        ("/optional/a", false, 200),
        ("/optional/a", true, 503),
        ("/a", false, 302),
        ("/a", true, 503),
    ] {
        let status = match test.flows.check(&asking(target, with_cookie)).await {
            Verdict::Allow(_) => 200,
            Verdict::Login(..) => 302,
            Verdict::Refuse(refused) => {
                let answer = refused.refusal.answer();
                assert_eq!(answer.retry_after, Some(1));
                answer.status
            }
            Verdict::Endpoint(_) | Verdict::Preflight(..) | Verdict::Workload(_) => panic!("{target}"),
        };
        assert_eq!(status, expected, "{target} {with_cookie}");
    }
}

#[tokio::test]
async fn nothing_is_said_to_be_done_that_was_not() {
    let provider = FakeProvider::start().await;
    let test = test(&provider.issuer);
    let (flows, site) = (&test.flows, site(ORIGIN));
    let asking = asking("/auth/x", true);
    assert!(flows.log_out(&site, &asking).await.is_err());
    assert!(matches!(flows.current_user(&site, &asking, false).await, Err(CurrentUserError::Unavailable)));
    assert!(matches!(flows.own_sessions(&site, &asking).await, Err(CurrentUserError::Unavailable)));
    let ended = flows.end_own_session(&site, &asking, "handle").await;
    assert_eq!(ended, Err(EndSessionError::CurrentUser(CurrentUserError::Unavailable)));
    let login = flows.begin_login(&site, &asking, LoginRequest::default()).await;
    assert!(matches!(login, Err(LoginError::Store(_))));
    let provider = &flows.providers[&site.frontend.provider];
    let issuer = Arc::clone(&provider.settings().issuer);
    assert!(flows.frontchannel_logout(&site, Some(&issuer), Some("sid")).await.is_err());
    let group = SessionGroup::ProviderSession { issuer, sid: "sid".to_owned() };
    let sign_out = crate::session::SignOut::here(flows.clock.now());
    let ended = flows.provider_ended(provider, &group, sign_out).await;
    let answer = BackchannelLogoutError::from(ended.unwrap_err()).answer();
    assert_eq!((answer.status, answer.retry_after), (503, Some(2)));
}
