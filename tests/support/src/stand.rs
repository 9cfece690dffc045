//! Everything that one test needs: a realm of its own, the program, Envoy and an upstream.

use crate::deployment::{self, Deployment, Edit, apply};
use crate::envoy::Ports;
use crate::files;
use crate::gate::Gate;
use crate::keycloak::{AdminApi, Realm};
use crate::ports;
use serde_json::{Value, json};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable with the address of the Keycloak that the tests share.
pub const KEYCLOAK: &str = "KEYCLOAK_BFF_TEST_KEYCLOAK";

/// Counts the stands of this process, so that no two realms have one name.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What a test drives: a [`Deployment`] and its Keycloak. Dropping it ends all of it, except for the realms, which end
/// with their Keycloak.
pub struct Stand {
    /// Keycloak's administrator, signed in.
    pub keycloak: AdminApi,
    /// This test's copy of realm `demo`: client `keycloak-bff`, users alice and bob.
    pub realm: Realm,
    /// This test's copy of realm `corp`, if it was asked for.
    pub corp: Option<Realm>,
    /// This test's copy of realm `models`, and what stands between everyone and it, if it was asked for.
    pub models: Option<(Realm, Gate)>,
    /// What stands between everyone and Keycloak, if it was asked for.
    pub gate: Option<Gate>,
    deployment: Deployment,
}

impl Stand {
    /// The demo as it is, in the shared Keycloak.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The demo with changes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Another copy of realm `demo` for the same addresses, for a second provider.
    pub async fn another_realm(&self) -> Realm {
        let mut realm = RealmNames::new().apply("demo", &self.ports, self.keycloak.server(), None);
        remove_broker(&mut realm);
        self.keycloak.create_realm(&realm).await
    }

    /// The realm of the models; panics if it was not asked for.
    pub fn models(&self) -> &Realm {
        &self.models.as_ref().expect("the stand was built with the realm of the models").0
    }

    /// The gate before the realm of the models; panics if that was not asked for.
    pub fn models_gate(&self) -> &Gate {
        &self.models.as_ref().expect("the stand was built with the realm of the models").1
    }

    /// The gate; panics if none was asked for.
    pub fn gate(&self) -> &Gate {
        self.gate.as_ref().expect("the stand was built with a gate")
    }
}

impl Deref for Stand {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.deployment
    }
}

impl DerefMut for Stand {
    fn deref_mut(&mut self) -> &mut Deployment {
        &mut self.deployment
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GateAtStart {
    Open,
    Closed,
}

/// What a stand shall have other than the demo.
#[derive(Default)]
pub struct Builder {
    keycloak: Option<String>,
    with_corp: bool,
    with_models: bool,
    gate: Option<GateAtStart>,
    realm: Vec<Edit>,
    deployment: deployment::Builder,
}

impl Builder {
    /// Uses another Keycloak than the shared one, for tests that stop it.
    pub fn keycloak(mut self, url: &str) -> Self {
        self.keycloak = Some(url.to_owned());
        self
    }

    /// Makes the realm `corp` as well, brokered into the test's realm under the alias `corp`.
    pub fn with_corp(mut self) -> Self {
        self.with_corp = true;
        self
    }

    /// Makes the realm `models` as well, behind a gate of its own, with the test's users linked to those there.
    pub fn with_models(mut self) -> Self {
        self.with_models = true;
        self
    }

    /// Has Envoy ask the external authorizer for `/auth/` as well.
    pub fn authorize_own_endpoints(mut self) -> Self {
        self.deployment = self.deployment.authorize_own_endpoints();
        self
    }

    /// Puts a gate between everyone and Keycloak.
    pub fn with_gate(mut self) -> Self {
        self.gate = Some(GateAtStart::Open);
        self
    }

    /// Puts a gate between everyone and Keycloak that refuses connections until it is opened.
    pub fn with_closed_gate(mut self) -> Self {
        self.gate = Some(GateAtStart::Closed);
        self
    }

    /// Gives the program an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.deployment = self.deployment.environment(name, value);
        self
    }

    /// Edits the realm's representation.
    pub fn realm(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.realm.push(Box::new(edit));
        self
    }

    /// Edits the representation of the realm's client `keycloak-bff`.
    pub fn client(self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.realm(|realm| edit(&mut realm["clients"][0]))
    }

    /// Edits the program's configuration.
    pub fn program(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.deployment = self.deployment.program(edit);
        self
    }

    /// Edits Envoy's configuration.
    pub fn envoy(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.deployment = self.deployment.envoy(edit);
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> Stand {
        let keycloak = AdminApi::new(&self.keycloak.unwrap_or_else(shared_keycloak));
        let ports = Ports::free();

        let names = RealmNames::new();
        let corp = match self.with_corp {
            true => Some(keycloak.create_realm(&names.apply("corp", &ports, keycloak.server(), None)).await),
            false => None,
        };
        let models_gate = match self.with_models {
            true => Some(new_gate(GateAtStart::Open, &keycloak).await),
            false => None,
        };
        let mut realm = names.apply("demo", &ports, keycloak.server(), models_gate.as_ref());
        if corp.is_none() {
            remove_broker(&mut realm);
        }
        let gate = match self.gate {
            Some(at_start) => Some(gate(at_start, &keycloak, &mut realm).await),
            None => None,
        };
        apply(self.realm, &mut realm);
        let realm = keycloak.create_realm(&realm).await;

        let server = gate.as_ref().map_or_else(|| keycloak.server().to_owned(), Gate::url);
        let models = match models_gate {
            Some(models_gate) => {
                let mut models = names.apply("models", &ports, &server, None);
                files::merge(&mut models, &json!({"attributes": {"frontendUrl": models_gate.url()}}));
                Some((keycloak.create_realm(&models).await, models_gate))
            }
            None => None,
        };
        let issuer = format!("{server}/realms/{}", realm.name());
        let mut deployment = self.deployment;
        if let Some((_, models_gate)) = &models {
            let issuer = names.models_issuer(&models_gate.url());
            let change = (MODELS_ISSUER.to_owned(), issuer);
            deployment = deployment.program_first(move |config| files::replace(config, &[change]));
        }
        let deployment = deployment.start_on(ports, &issuer).await;
        Stand { keycloak, realm, corp, models, gate, deployment }
    }
}

/// The issuer of the demo's realm of models.
const MODELS_ISSUER: &str = "http://localhost:8080/realms/models";

/// What the demo's realms and users are called in one stand.
struct RealmNames {
    demo: String,
    corp: String,
    models: String,
    /// What no other user's id holds.
    number: u64,
}

impl RealmNames {
    /// Names that no other realm has.
    fn new() -> Self {
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = |realm: &str| format!("{realm}-{process}-{count}");
        let number = (u64::from(process) << 16) + u64::from(count);
        Self { demo: name("demo"), corp: name("corp"), models: name("models"), number }
    }

    /// The issuer of the realm of models at this server.
    fn models_issuer(&self, server: &str) -> String {
        format!("{server}/realms/{}", self.models)
    }

    /// A realm of the demo under its name here, with the addresses of this stand.
    fn apply(&self, realm: &str, ports: &Ports, server: &str, models_gate: Option<&Gate>) -> Value {
        let demo = Ports::DEMO;
        let mut value = files::read(&format!("realms/{realm}.json"));
        let models_server = models_gate.map_or_else(|| server.to_owned(), Gate::url);
        let mut changes = vec![
            // Before its beginning is replaced.
            (MODELS_ISSUER.to_owned(), self.models_issuer(&models_server)),
            ("http://localhost:8080".to_owned(), server.to_owned()),
            (format!(".demo.localhost:{}", demo.edge), format!(".demo.localhost:{}", ports.edge)),
            (format!("127.0.0.1:{}", demo.browser), format!("127.0.0.1:{}", ports.browser)),
        ];
        for (old, new) in [("demo", &self.demo), ("corp", &self.corp), ("models", &self.models)] {
            changes.push((format!("default-roles-{old}"), format!("default-roles-{new}")));
            if old != "models" {
                changes.push((format!("/realms/{old}"), format!("/realms/{new}")));
            }
        }
        // Ids of users are unique in a Keycloak, not in a realm.
        for user in ["a11ce000", "b0b00000"] {
            let id = |number: u64| format!("{user}-0000-4000-8000-{number:012x}");
            changes.push((id(0), id(self.number)));
        }
        files::replace(&mut value, &changes);
        let name = match realm {
            "corp" => &self.corp,
            "models" => &self.models,
            _ => &self.demo,
        };
        value["realm"] = Value::from(name.as_str());
        value
    }
}

async fn new_gate(at_start: GateAtStart, keycloak: &AdminApi) -> Gate {
    let target = keycloak.server().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let gate = Gate::closed(ports::free(), target.expect("the server's address ends in its port"));
    if at_start == GateAtStart::Open {
        gate.open().await;
    }
    gate
}

/// A gate before the server, and a realm whose every address leads through it.
async fn gate(at_start: GateAtStart, keycloak: &AdminApi, realm: &mut Value) -> Gate {
    let gate = new_gate(at_start, keycloak).await;
    files::merge(realm, &json!({"attributes": {"frontendUrl": gate.url()}}));
    gate
}

fn remove_broker(realm: &mut Value) {
    let fields = realm.as_object_mut().expect("a realm is an object");
    fields.remove("identityProviders");
    fields.remove("identityProviderMappers");
}

fn shared_keycloak() -> String {
    std::env::var(KEYCLOAK).unwrap_or_else(|_| {
        panic!("{KEYCLOAK} is not set: run `make test`, or `make testbed` and set what it prints")
    })
}
