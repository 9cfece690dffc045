//! Workloads of a mesh, which an Envoy that ends their mutual TLS names; and who may speak for them.

use crate::steps::{access_token, claims, ext_authz, is_signed_in, patient, patient_envoy, signed_in};
use keycloak_bff_testbed::certificates::{self, Authority, Certificate};
use keycloak_bff_testbed::{Stand, UserAgent, files, ports, wait};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const TRAINER: &str = "spiffe://cluster.local/ns/ml/sa/trainer";
const OTHER: &str = "spiffe://cluster.local/ns/other/sa/trainer";
const PROXY: &str = "spiffe://cluster.local/ns/istio-system/sa/gateway";
/// Where the workloads ask.
const HOST: &str = "models.mesh";

/// A mesh: its authority, and the port where its Envoy takes connections of workloads.
struct Mesh {
    authority: Authority,
    port: u16,
    dir: TempDir,
}

impl Mesh {
    fn new() -> Self {
        Self { authority: Authority::new(), port: ports::free(), dir: files::temporary("mesh-") }
    }

    /// Has Envoy take connections of workloads, with whatever certificate of the mesh.
    fn listener(&self) -> impl FnOnce(&mut Value) + Send + 'static {
        let authority = self.authority.write(self.dir.path(), "mesh.pem");
        let server = self.authority.issue(&[HOST], self.dir.path(), "edge");
        let port = self.port;
        move |envoy| {
            let listeners = &mut envoy["static_resources"]["listeners"];
            let mut listener = listeners[0].clone();
            listener["name"] = json!("mesh");
            listener["address"]["socket_address"]["port_value"] = json!(port);
            listener["filter_chains"][0]["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "require_client_certificate": true,
                    "common_tls_context": tls_context(&server, &authority),
                },
            });
            listeners.as_array_mut().expect("a list").push(listener);
        }
    }

    /// A workload with this name.
    fn workload(&self, name: &str) -> Workload {
        let certificate = self.authority.issue(&[name], self.dir.path(), "workload");
        let client = certificates::client(&certificate, &self.authority, HOST, self.port);
        Workload { client, origin: format!("https://{HOST}:{}", self.port) }
    }
}

fn tls_context(own: &Certificate, authority: &Path) -> Value {
    json!({
        "tls_certificates": [{
            "certificate_chain": {"filename": own.certificate}, "private_key": {"filename": own.key},
        }],
        "validation_context": {"trusted_ca": {"filename": authority}},
    })
}

struct Workload {
    client: Client,
    origin: String,
}

impl Workload {
    async fn ask(&self, target: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        self.send(Method::GET, target, headers).await
    }

    async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{target}", self.origin));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default())
    }
}

fn refused(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default())
}

/// The models answer to the trainer of the mesh.
fn allow_trainer(config: &mut Value) {
    config["workloads"]["mesh"] = json!({"hosts": [HOST]});
    config["models"][0]["allowed"] = json!([{"principal": TRAINER}]);
}

/// Has Envoy and the program talk over a unix socket.
async fn over_a_unix_socket(mesh: &Mesh, edit: impl FnOnce(&mut Value) + Send + 'static) -> Stand {
    let socket = mesh.dir.path().join("grpc.sock");
    let path = socket.clone();
    Stand::builder()
        .with_models()
        .program(move |config| {
            config["listeners"]["grpc"] = json!(format!("unix:{}", socket.display()));
            allow_trainer(config);
            patient(config);
            edit(config);
        })
        .envoy(patient_envoy)
        .envoy(mesh.listener())
        .envoy(move |envoy| *endpoint(envoy) = json!({"pipe": {"path": path}}))
        .start()
        .await
}

/// The address of the authorizer in Envoy's configuration.
fn endpoint(envoy: &mut Value) -> &mut Value {
    &mut envoy["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        ["address"]
}

#[tokio::test]
async fn a_workload_of_the_mesh_is_known_by_its_certificate() {
    let mesh = Mesh::new();
    let stand = over_a_unix_socket(&mesh, |_| {}).await;
    let trainer = mesh.workload(TRAINER);
    let (status, body) = trainer.ask("/get_model_tokens?model=ml&min_validity=10", &[]).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(claims(body["access_token"].as_str().expect("a token"))["azp"], "model-client");
    assert!(body.get("refresh_token").is_none() && body["expires_in"].as_u64() > Some(10), "{body}");
    assert!(stand.program.log().contains(&format!("principal {TRAINER}")), "the log says who asked");

    let other = mesh.workload(OTHER);
    assert_eq!(refused(&other.ask("/get_model_tokens", &[]).await), (403, "not_allowed"));
    let forged = format!("By=x;URI={TRAINER}");
    for (what, headers) in [
        ("X-Forwarded-Client-Cert", [("x-forwarded-client-cert", forged.as_str())]),
        ("a header that looks like one", [("x-envoy-peer-principal", TRAINER)]),
        ("a key", [("authorization", "Bearer demo-workload-key")]),
    ] {
        let answer = other.ask("/get_model_tokens", &headers).await;
        assert_eq!(refused(&answer), (403, "not_allowed"), "{what} makes nobody another");
    }
    let nameless = mesh.workload("trainer.example");
    assert_eq!(refused(&nameless.ask("/get_model_tokens", &[]).await), (403, "not_allowed"));

    for (target, expected) in [
        ("/", (404, "no_endpoint")),
        ("/api/echo", (404, "no_endpoint")),
        ("/auth/login", (404, "no_endpoint")),
        ("/get_model_tokens/", (404, "no_endpoint")),
        ("/get_model_tokens?model=unknown", (404, "unknown_model")),
        ("/get_model_tokens?model=ml&model=ml", (400, "invalid_request")),
        ("/get_model_tokens?min_validity=x", (400, "invalid_min_validity")),
    ] {
        assert_eq!(refused(&trainer.ask(target, &[]).await), expected, "{target}");
    }
    let post = trainer.send(Method::POST, "/get_model_tokens", &[]).await;
    assert_eq!(refused(&post), (405, "wrong_method"));
    assert!(stand.upstream.received().is_empty(), "nothing passes there");

    // Over a listener without TLS Envoy knows nobody.
    let plain = UserAgent::new();
    let plain = plain.fetch(format!("http://127.0.0.1:{}/get_model_tokens", stand.ports.edge));
    let answer = plain.header("host", HOST).await;
    assert_eq!((answer.status, answer.header("www-authenticate").as_deref()), (401, Some("Bearer")));
}

#[tokio::test]
async fn a_workload_of_the_mesh_acts_for_the_users_who_called_it() {
    let mesh = Mesh::new();
    let stand = over_a_unix_socket(&mesh, |config| {
        config["models"][0]["on_behalf_of_users"] =
            json!([{"workload": {"principal": TRAINER}, "audience": "demo-workload"}]);
    });
    let stand = stand.await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    let header = [("x-subject-token", token.as_str())];
    let (status, body) = mesh.workload(TRAINER).ask("/get_model_tokens", &header).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(claims(body["access_token"].as_str().expect("a token"))["preferred_username"], "alice");
    let other = mesh.workload(OTHER).ask("/get_model_tokens", &header).await;
    assert_eq!(refused(&other), (403, "not_allowed_for_users"));
    let twice = [header[0], header[0]];
    let twice = mesh.workload(TRAINER).ask("/get_model_tokens", &twice).await;
    assert_eq!(refused(&twice), (401, "invalid_subject_token"));
}

/// The program behind TLS, which takes the word of the proxy named `PROXY`; Envoy connects with this certificate.
async fn over_tls(mesh: &Mesh, proxy: &Certificate) -> Stand {
    let dir = mesh.dir.path();
    let server = mesh.authority.issue(&["bff"], dir, "server");
    let authority = mesh.authority.write(dir, "mesh.pem");
    let (listed_by, proxy) = (authority.clone(), proxy.clone());
    Stand::builder()
        .with_models()
        .program(move |config| {
            config["listeners"]["grpc_tls"] = json!({
                "certificate_file": server.certificate, "key_file": server.key,
                "client_ca_file": listed_by, "clients": [PROXY],
            });
            allow_trainer(config);
        })
        .envoy(mesh.listener())
        .envoy(move |envoy| {
            envoy["static_resources"]["clusters"][0]["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "bff",
                    "common_tls_context": tls_context(&proxy, &authority),
                },
            });
            ext_authz(envoy)["grpc_service"]["timeout"] = json!("1s");
        })
        .start()
        .await
}

#[tokio::test]
async fn a_listed_proxy_is_believed_and_may_change_its_certificate() {
    let mesh = Mesh::new();
    let proxy = mesh.authority.issue(&[PROXY], mesh.dir.path(), "proxy");
    let mut stand = over_tls(&mesh, &proxy).await;
    let trainer = mesh.workload(TRAINER);
    assert_eq!(trainer.ask("/get_model_tokens", &[]).await.0, 200);
    assert_eq!(refused(&mesh.workload(OTHER).ask("/get_model_tokens", &[]).await), (403, "not_allowed"));
    let alice = signed_in(&stand, "alice").await;

    // A file that cannot be used changes nothing; one that can is used for new connections.
    let server = mesh.dir.path().join("server.pem");
    let good = std::fs::read(&server).expect("a certificate");
    std::fs::write(&server, "nothing").expect("a file can be written");
    let envoy_config = stand.envoy_config.clone();
    let again = async |stand: &mut Stand| {
        stand.envoy.process().stop().await;
        let dir = stand.dir().to_owned();
        stand.envoy = keycloak_bff_testbed::envoy::Envoy::start(&envoy_config, &dir).await;
    };
    again(&mut stand).await;
    assert!(is_signed_in(&stand, &alice).await);
    assert!(stand.program.log().contains("the old ones stay"));
    std::fs::write(&server, good).expect("a file can be written");
    mesh.authority.issue(&["bff"], mesh.dir.path(), "server");
    again(&mut stand).await;
    assert!(is_signed_in(&stand, &alice).await);
    let reloaded = async || stand.program.log().contains("certificates read again").then_some(());
    wait::until("the certificates to be read again", Duration::from_secs(5), reloaded).await;
}

#[tokio::test]
async fn nobody_else_gets_to_the_authorizer() {
    let (mesh, elsewhere) = (Mesh::new(), Authority::new());
    for (what, proxy) in [
        ("another name", mesh.authority.issue(&[TRAINER], mesh.dir.path(), "proxy")),
        ("another authority", elsewhere.issue(&[PROXY], mesh.dir.path(), "foreign")),
    ] {
        let stand = over_tls(&mesh, &proxy).await;
        let answer = mesh.workload(TRAINER).ask("/get_model_tokens", &[]).await;
        assert_eq!(answer.0, 503, "{what}: {}", answer.1);
        assert!(stand.program.log().contains("did not get through the TLS handshake"), "{what}");
    }
}
