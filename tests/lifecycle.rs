//! Starting, stopping and listening, whatever Keycloak does.

use crate::steps::{
    SOON, access_token, call_that_waits, checks_under_way, patient, patient_envoy, signed_in, until_expired,
};
use keycloak_bff_testbed::process::Signal;
use keycloak_bff_testbed::{Stand, UserAgent, files, wait};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than anything takes that does not wait for Keycloak, shorter than the drain.
const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn it_serves_while_keycloak_is_away_and_signs_in_once_it_is_there() {
    let stand = Stand::builder().with_closed_gate().start().await;
    let agent = UserAgent::new();
    let (app, login) = (stand.app(), format!("{}/auth/login?return_to=/api/echo", stand.app()));
    assert_eq!(agent.fetch(format!("{app}/public/echo")).await.status, 200);
    assert_eq!(agent.fetch(format!("{app}/api/echo")).await.status, 401);
    assert_eq!(agent.fetch(format!("{app}/auth/me")).await.status, 401);
    let page = agent.navigate(&login).await;
    assert_eq!(page.status, 503, "{}", page.text());
    assert_eq!(page.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert!(page.header("retry-after").is_some());
    assert!(page.text().contains(&format!("href=\"{app}/auth/login")), "{}", page.text());

    stand.gate().open().await;
    let page = wait::until("Keycloak's login page", SOON, async || {
        Some(agent.navigate(&login).await).filter(keycloak_bff_testbed::Response::is_login_page)
    });
    let landed = agent.submit_login(&page.await, "alice", "alice").await;
    assert_eq!((landed.status, landed.url), (200, format!("{app}/api/echo")));
}

#[tokio::test]
async fn keycloak_away_signs_nobody_out() {
    let stand = Stand::builder()
        .with_gate()
        .realm(|realm| realm["accessTokenLifespan"] = json!(4))
        .program(|config| config["sessions"]["least_token_life"] = json!("1s"))
        .start()
        .await;
    let agent = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &agent).await;
    stand.gate().close().await;
    until_expired(&token).await;
    let answer = agent.fetch(format!("{}/api/echo", stand.app())).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("sign_in_unavailable")));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(agent.fetch(format!("{}/auth/me", stand.app())).await.status, 200, "still signed in");
    stand.gate().open().await;
    let back = async || (agent.fetch(format!("{}/api/echo", stand.app())).await.status == 200).then_some(());
    wait::until("the session to go on", Duration::from_secs(60), back).await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way() {
    let mut stand = Stand::builder()
        .with_gate()
        .realm(|realm| realm["accessTokenLifespan"] = json!(4))
        .program(patient)
        .envoy(patient_envoy)
        .start()
        .await;
    let agent = signed_in(&stand, "alice").await;
    let call = call_that_waits(&stand, &agent).await;
    let api = format!("{}/api/echo", stand.app());
    let others = (0..9).map(|_| async { agent.fetch(&api).await.status });
    let mut others = Box::pin(futures_util::future::join_all(others));
    let all_wait = async || (checks_under_way(&stand).await == 10).then_some(());
    tokio::select! {
        statuses = &mut others => panic!("the calls should wait for the refresh: {statuses:?}"),
        () = wait::until("ten calls that wait", SOON, all_wait) => {}
    }
    stand.program.signal(Signal::TERM);
    let stopping = async || stand.program.log().contains("stopping").then_some(());
    wait::until("the program to stop", PROMPT, stopping).await;
    stand.gate().release();
    let (status, others) = tokio::join!(call, others);
    assert_eq!((status, others), (200, vec![200; 9]), "everyone who waits is answered");
    let status = stand.program.process().wait(PROMPT).await;
    assert_eq!(status.code(), Some(0), "{}", stand.program.log());
    assert!(!stand.program.log().contains("stopped before everything had finished"));
    // Without its authorizer, Envoy lets nothing through.
    assert_eq!(agent.fetch(format!("{}/public/echo", stand.app())).await.status, 503);
}

#[tokio::test]
async fn a_stop_with_nothing_under_way_is_quick() {
    let mut stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    assert_eq!(agent.fetch(format!("{}/api/echo", stand.app())).await.status, 200);
    // Envoy's connections to the program stay open; they hold up nothing.
    for signal in [Signal::TERM, Signal::INT] {
        stand.program.signal(signal);
        let status = stand.program.process().wait(PROMPT).await;
        assert_eq!(status.code(), Some(0), "{}", stand.program.log());
        stand.program.start_again().await;
    }
    let back =
        async || (agent.fetch(format!("{}/public/echo", stand.app())).await.status == 200).then_some(());
    wait::until("the program to serve again", SOON, back).await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut stand = Stand::builder()
        .with_gate()
        .realm(|realm| realm["accessTokenLifespan"] = json!(4))
        .program(|config| {
            patient(config);
            config["sessions"]["drain"] = json!("10m");
        })
        .envoy(patient_envoy)
        .start()
        .await;
    let agent = signed_in(&stand, "alice").await;
    let call = call_that_waits(&stand, &agent).await;
    stand.program.signal(Signal::TERM);
    let stopping = async || stand.program.log().contains("stopping").then_some(());
    wait::until("the program to stop", PROMPT, stopping).await;
    drop(call);
    assert!(stand.gate().waiting() > 0, "the refresh is still under way");
    stand.program.signal(Signal::TERM);
    let status = stand.program.process().wait(PROMPT).await;
    assert_eq!(status.code(), Some(0), "{}", stand.program.log());
    assert!(stand.program.log().contains("stopped at once by a second signal"));
}

#[tokio::test]
async fn envoys_health_check_finds_it_serving() {
    let checked = |envoy: &mut Value| {
        let bff = &mut envoy["static_resources"]["clusters"][0];
        assert_eq!(bff["name"], "bff");
        bff["health_checks"] = json!([{
            "timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s",
            "unhealthy_threshold": 1, "healthy_threshold": 1,
            "grpc_health_check": {"service_name": "envoy.service.auth.v3.Authorization"},
        }]);
        // No host that fails its checks gets a request.
        bff["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
    };
    let stand = Stand::builder().envoy(checked).start().await;
    let url = format!("{}/public/echo", stand.app());
    let agent = UserAgent::new();
    let healthy = async || (agent.fetch(&url).await.status == 200).then_some(());
    wait::until("a healthy program", SOON, healthy).await;
    let stats = format!("http://127.0.0.1:{}/stats?filter=cluster.bff.health_check", stand.ports.admin);
    let stats = UserAgent::new().fetch(stats).await.text();
    assert!(stats.contains("cluster.bff.health_check.healthy: 1"), "{stats}");
}

#[tokio::test]
async fn it_listens_on_unix_sockets() {
    let dir = files::temporary("test-");
    let [grpc, browser, internal] =
        ["grpc.sock", "browser.sock", "internal.sock"].map(|name| dir.path().join(name));
    // What a process that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&grpc).expect("a socket can be bound"));
    let unix = |path: &std::path::Path| format!("unix:{}", path.display());
    let listeners = json!({"grpc": unix(&grpc), "browser": unix(&browser), "internal": unix(&internal)});
    let pipes = [grpc.clone(), browser.clone()].map(|path| json!({"pipe": {"path": path}}));
    let mut stand = Stand::builder()
        .program(move |config| config["listeners"] = listeners)
        .envoy(move |envoy| {
            for (cluster, pipe) in pipes.into_iter().enumerate() {
                let cluster = &mut envoy["static_resources"]["clusters"][cluster];
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = pipe;
            }
        })
        .start()
        .await;
    let probe = UserAgent::new();
    let url = format!("{}/public/echo", stand.app());
    wait::until("an answer", SOON, async || (probe.fetch(&url).await.status == 200).then_some(())).await;
    let agent = signed_in(&stand, "alice").await;
    assert_eq!(agent.fetch(format!("{}/auth/me", stand.app())).await.status, 200);
    assert!(internal.exists(), "workloads have one too");
    assert_eq!(stand.program.process().stop().await.code(), Some(0));
    assert!(!grpc.exists() && !browser.exists() && !internal.exists(), "its sockets go with it");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_says_so() {
    let mut stand = Stand::start().await;
    let mut config = stand.program_config.clone();
    config["listeners"]["grpc"] = json!(format!("127.0.0.1:{}", stand.ports.upstream));
    let dir = files::temporary("test-");
    let mut second = keycloak_bff_testbed::program::Program::launch(&config, dir.path(), &Vec::new());
    assert_eq!(second.process().wait(PROMPT).await.code(), Some(1));
    assert!(second.log().contains(&format!("127.0.0.1:{} cannot be listened on", stand.ports.upstream)));
    assert_eq!(stand.program.process().ended(), None, "the first one does not mind");
}
