//! What Istio's control plane makes of the overlays of `k8s/` for its proxies, recorded in `tests/golden/`, since building
//! a control plane takes minutes.

use crate::overlay::yaml;
use crate::process::Process;
use crate::{Cluster, Overlay, files, ports, tools, wait};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const START: Duration = Duration::from_secs(120);

/// A proxy for which an overlay configures external authorization.
pub struct Proxy {
    /// The overlay.
    pub overlay: &'static str,
    /// Its kind, as Istio calls it.
    kind: &'static str,
    namespace: &'static str,
    /// The label by which policies select it.
    label: (&'static str, &'static str),
    listener: &'static str,
    /// The port of the filter chain with the authorizer, if the listener has many.
    port: Option<u16>,
}

/// All that there are.
pub const PROXIES: [Proxy; 2] = [
    Proxy {
        overlay: "istio-gateway",
        kind: "router",
        namespace: "istio-ingress",
        label: ("istio", "ingressgateway"),
        listener: "0.0.0.0_443",
        port: None,
    },
    Proxy {
        overlay: "istio-sidecar",
        kind: "sidecar",
        namespace: "keycloak-bff",
        label: ("app.kubernetes.io/name", "keycloak-bff"),
        listener: "virtualInbound",
        port: Some(8080),
    },
];

impl Proxy {
    /// The recorded file.
    pub fn golden(&self) -> PathBuf {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden");
        Path::new(dir).join(format!("{}.json", self.overlay))
    }

    /// What the record depends on: whoever changes it must record anew.
    pub fn made_from(&self) -> Value {
        let overlay = Overlay::build(self.overlay);
        let custom = overlay.of_kind("AuthorizationPolicy").into_iter();
        let custom: Vec<&Value> = custom.filter(|policy| policy["spec"]["action"] == "CUSTOM").collect();
        json!({
            "istio": tools::ISTIO,
            "mesh_config": mesh_config(),
            "policies": custom,
            "filters": overlay.of_kind("EnvoyFilter"),
        })
    }

    fn name(&self) -> String {
        format!("proxy.{}", self.namespace)
    }

    /// What an Envoy starts with that asks the control plane as this proxy.
    fn bootstrap(&self, control_plane: u16) -> Value {
        let domain = format!("{}.svc.cluster.local", self.namespace);
        let http2 = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        });
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": control_plane}});
        let ads = json!({"ads": {}, "resource_api_version": "V3"});
        json!({
            "node": {
                "id": format!("{}~10.1.1.1~{}~{domain}", self.kind, self.name()),
                "cluster": self.name(),
                "metadata": {
                    "NAMESPACE": self.namespace,
                    "LABELS": {self.label.0: self.label.1},
                    "CLUSTER_ID": "Kubernetes",
                    "INSTANCE_IPS": "10.1.1.1",
                },
            },
            "dynamic_resources": {
                "lds_config": ads, "cds_config": ads,
                "ads_config": {
                    "api_type": "GRPC", "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "control_plane"}}],
                },
            },
            "static_resources": {"clusters": [{
                "name": "control_plane", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                "load_assignment": {
                    "cluster_name": "control_plane",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                },
            }]},
        })
    }

    /// The filter chain with the authorizer, in what the control plane says that it has sent.
    fn filter_chain(&self, dump: &Value) -> Option<Value> {
        let listeners =
            dump["configs"].as_array()?.iter().find_map(|part| part["dynamicListeners"].as_array())?;
        let listener = listeners.iter().find(|listener| listener["name"] == self.listener)?;
        let chains = listener["activeState"]["listener"]["filterChains"].as_array()?;
        let is_it = |chain: &&Value| {
            self.port.is_none_or(|port| chain["filterChainMatch"]["destinationPort"] == port)
        };
        chains.iter().find(is_it).cloned()
    }
}

/// The values that Istio is to be given.
fn mesh_config() -> Value {
    let file = files::k8s("overlays/istio-gateway/mesh-config.yaml");
    yaml(&fs::read_to_string(file).expect("the overlay has it"))["meshConfig"].clone()
}

/// Records everything anew.
pub async fn record() {
    let cluster = Cluster::start().await;
    cluster.define_kinds().await;
    let dir = files::temporary("mesh-");
    let (http, grpc) = (ports::free(), ports::free());
    let mut istiod = start_istiod(&cluster, dir.path(), http, grpc);
    let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let is_ready = async || {
        let answer = client.get(format!("http://127.0.0.1:{http}/ready")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    };
    istiod.ready(START, is_ready).await;
    for proxy in PROXIES {
        let overlay = Overlay::build(proxy.overlay);
        cluster.prepare_for(&overlay).await;
        for object in &overlay.objects {
            let answer = cluster.apply(object).await;
            assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
        }
        let bootstrap = dir.path().join(format!("{}.json", proxy.overlay));
        fs::write(&bootstrap, proxy.bootstrap(grpc).to_string()).expect("a file can be written");
        let mut envoy = Command::new(tools::envoy());
        envoy.arg("--config-path").arg(&bootstrap).args(["--concurrency", "1", "--disable-hot-restart"]);
        // It asks, and refuses the answer, in which there are filters that only Istio's own Envoy has.
        let _envoy = Process::spawn("envoy", &mut envoy, dir.path());
        let dump = format!("http://127.0.0.1:{http}/debug/config_dump?proxyID={}", proxy.name());
        let chain = async || {
            let answer = client.get(&dump).send().await.ok()?;
            let chain = proxy.filter_chain(&answer.json().await.ok()?)?;
            // The policies may reach the control plane one after the other.
            let text = chain.to_string();
            (text.contains("validateMutations") && text.contains("REJECT_REQUEST")).then_some(chain)
        };
        let chain = wait::until("the filters of the overlay", START, chain).await;
        let golden = json!({"made_from": proxy.made_from(), "filter_chain": chain});
        let text = serde_json::to_string_pretty(&golden).expect("JSON can be written");
        fs::write(proxy.golden(), text + "\n").expect("the record can be written");
        println!("recorded {}", proxy.golden().display());
    }
}

fn start_istiod(cluster: &Cluster, dir: &Path, http: u16, grpc: u16) -> Process {
    let (mesh, kubeconfig) = (dir.join("mesh.json"), dir.join("kubeconfig.json"));
    fs::write(&mesh, mesh_config().to_string()).expect("a file can be written");
    fs::write(&kubeconfig, cluster.kubeconfig().to_string()).expect("a file can be written");
    let mut command = Command::new(tools::istiod());
    command.arg("discovery").arg("--kubeconfig").arg(kubeconfig).arg("--meshConfig").arg(mesh);
    command.args(["--networksConfig=/dev/null", "--secureGRPCAddr=", "--httpsAddr=", "--ctrlz_port=0"]);
    command.arg(format!("--httpAddr=127.0.0.1:{http}")).arg(format!("--grpcAddr=127.0.0.1:{grpc}"));
    command.arg(format!("--monitoringAddr=127.0.0.1:{}", ports::free()));
    // Nothing but what it tells proxies is wanted.
    command.envs([("ENABLE_CA_SERVER", "false"), ("PILOT_CERT_PROVIDER", "none")]);
    command.envs([("VALIDATION_WEBHOOK_CONFIG_NAME", ""), ("INJECTION_WEBHOOK_CONFIG_NAME", "")]);
    command.envs([("POD_NAMESPACE", "istio-system"), ("POD_NAME", "istiod")]);
    Process::spawn("istiod", &mut command, dir)
}
