# Everything that a developer runs. The program itself is built by cargo alone.
.PHONY: demo test bench testbed mesh-golden image clean

CARGO ?= cargo
# Where cargo puts what it builds; an environment may have moved it.
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

# The whole thing on this machine, until Ctrl-C: see README.md.
demo:
	@scripts/install-tools demo
	@$(CARGO) build --quiet --workspace --bins
	@exec $(TARGET)/debug/testbed demo

# All checks and tests. `make test TESTS=login` runs the black-box tests with that in their names.
# They wait for real neighbours more than they compute, so more of them run at once than there are cores.
test:
	@scripts/install-tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --lib --bins
	$(TARGET)/debug/testbed run -- $(CARGO) test --test blackbox -- --test-threads 8 $(TESTS)

# What a request costs beside what the frameworks cost by themselves: see docs/performance.md. Some minutes, on a
# machine that has little else to do.
bench:
	@scripts/install-tools bench
	@$(CARGO) bench --bench load

# A Keycloak that stays for many runs of the black-box tests in another shell.
testbed:
	@scripts/install-tools
	@$(CARGO) build --quiet --workspace --bins
	@exec $(TARGET)/debug/testbed keycloak

# Records anew what Istio makes of the overlays for it. Needed when those or Istio change; builds a control plane first.
mesh-golden:
	@scripts/install-tools mesh
	@$(CARGO) build --quiet --workspace --bins
	@exec $(TARGET)/debug/testbed mesh-golden

# A container image with the program, in the local store of buildah or docker.
image:
	@scripts/build-image

clean:
	$(CARGO) clean
