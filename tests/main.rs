//! Black-box tests, one file a capability: the program, Envoy, Keycloak and Chromium as they are, reached only from
//! outside. `make test` runs them over one shared Keycloak.
