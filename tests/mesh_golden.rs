//! What Istio makes of the overlays for it, as recorded in `tests/golden/`: the real Envoy takes it and the program works
//! with it.

use crate::steps::{bearer, claims};
use keycloak_bff_testbed::mesh::{PROXIES, Proxy};
use keycloak_bff_testbed::{Stand, UserAgent, overlay};
use serde_json::{Value, json};
use std::fs;

fn golden(proxy: &Proxy) -> Value {
    let text = fs::read_to_string(proxy.golden());
    overlay::yaml(&text.unwrap_or_else(|error| panic!("{error}: run `make mesh-golden`")))
}

/// The recorded HTTP connection manager.
fn connection_manager(proxy: &Proxy) -> Value {
    let golden = golden(proxy);
    let filters = golden["filter_chain"]["filters"].as_array().cloned().unwrap_or_default();
    let is_it = |filter: &&Value| filter["name"] == "envoy.filters.network.http_connection_manager";
    filters.iter().find(is_it).expect("a connection manager")["typedConfig"].clone()
}

#[test]
fn the_record_is_of_the_overlays_as_they_are() {
    for proxy in PROXIES {
        assert_eq!(
            golden(&proxy)["made_from"],
            proxy.made_from(),
            "{}: run `make mesh-golden`",
            proxy.overlay
        );
    }
}

#[test]
fn istio_makes_of_the_overlays_what_they_mean() {
    for proxy in PROXIES {
        let manager = connection_manager(&proxy);
        let filters = manager["httpFilters"].as_array().expect("a list");
        let at = |name: &str| filters.iter().position(|filter| filter["name"] == name);
        let authorizer = &filters[at("envoy.filters.http.ext_authz").expect("the filter")]["typedConfig"];
        assert_eq!(
            (&authorizer["validateMutations"], &authorizer["encodeRawHeaders"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(authorizer["grpcService"]["timeout"], "3s");
        assert_eq!(authorizer["statusOnError"]["code"], "ServiceUnavailable");
        assert!(authorizer["failureModeAllow"].is_null(), "fails closed: {authorizer}");
        assert!(authorizer["allowedHeaders"].is_null() && authorizer["withRequestBody"].is_null());
        assert!(at("envoy.filters.http.ext_authz") < at("envoy.filters.http.router"));
        let options = &manager["commonHttpProtocolOptions"];
        assert_eq!(options["headersWithUnderscoresAction"], "REJECT_REQUEST");
        assert_eq!((&manager["mergeSlashes"], &manager["normalizePath"]), (&json!(true), &json!(true)));
        assert_eq!(manager["pathWithEscapedSlashesAction"], "REJECT_REQUEST");
    }
}

/// Whether a filter is one that only Istio's own Envoy has.
fn is_istios(filter: &Value) -> bool {
    let text = filter["typedConfig"].to_string();
    text.contains("type.googleapis.com/istio") || text.contains("type.googleapis.com/io.istio")
}

/// Puts the recorded filters in the place of the demo's.
fn as_recorded(proxy: &Proxy) -> impl FnOnce(&mut Value) + Send + 'static {
    let mut manager = connection_manager(proxy);
    move |envoy| {
        let own =
            &mut overlay::part(envoy, "listeners", "edge")["filter_chains"][0]["filters"][0]["typed_config"];
        let fields = manager.as_object_mut().expect("an object");
        for names_something_of_the_mesh in ["rds", "tracing"] {
            fields.remove(names_something_of_the_mesh);
        }
        fields.insert("routeConfig".to_owned(), own["route_config"].clone());
        let filters = manager["httpFilters"].as_array_mut().expect("a list");
        filters.retain(|filter| !is_istios(filter));
        let authorizer = filters.iter_mut().find(|filter| filter["name"] == "envoy.filters.http.ext_authz");
        let authorizer = authorizer.expect("the filter");
        authorizer["typedConfig"]["grpcService"]["envoyGrpc"]["clusterName"] = json!("bff");
        *own = manager;
    }
}

#[tokio::test]
async fn the_program_works_behind_the_filters_that_istio_makes_for_its_gateway() {
    let stand = Stand::builder().authorize_own_endpoints().envoy(as_recorded(&PROXIES[0])).start().await;
    let agent = UserAgent::new();
    let app = stand.app();
    assert_eq!(agent.fetch(format!("{app}/api/echo")).await.status, 401);
    let landed = agent.sign_in(format!("{app}/api/echo"), "alice", "alice").await;
    assert_eq!(landed.status, 200, "{landed:?}");
    assert_eq!(claims(&bearer(&landed).expect("a token"))["preferred_username"], "alice");
    assert_eq!(agent.fetch(format!("{app}/auth/me")).await.status, 200);
    // What the EnvoyFilter adds.
    assert_eq!(agent.fetch(format!("{app}/api/echo")).header("x_user_id", "bob").await.status, 400);
    assert_eq!(agent.fetch(format!("{app}/api%2Fecho")).await.status, 400);
}
