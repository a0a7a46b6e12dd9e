# The commands of every day. CARGO_FLAGS goes to all builds (CI: --locked), ARGS to the program that is run.

CARGO_FLAGS ?=
ARGS ?=
OTP ?=
RELEASES ?= 25 27 29
FUZZ_SECONDS ?= 60
SEEDS ?= 100000

.PHONY: help
help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

.PHONY: test
test: test-rust test-erlang ## All tests; installs what they need, or says what to install.

.PHONY: test-rust
test-rust: test-tools ## The tests of the crates.
	cargo test --workspace --no-fail-fast $(CARGO_FLAGS)

.PHONY: test-erlang
test-erlang: test-tools ## The suites and examples of the OTP application, with the NIF built in the same profile as the crates' tests.
	@interop=$$(scripts/build-example.sh interop $(CARGO_FLAGS)) && cd erlang && \
		TELEPORT_INTEROP="$$interop" TELEPORT_CARGO_FLAGS="$(CARGO_FLAGS)" rebar3 do compile, xref, ct
	scripts/test-build-nif.sh
	TELEPORT_CARGO_FLAGS="$(CARGO_FLAGS)" scripts/test-examples.sh

.PHONY: check
check: ## The fast loop while at work: format, clippy, documentation, unit tests of what needs no IO.
	cargo fmt --all -- --check
	scripts/check-docs.sh
	cargo clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	cargo test -q -p teleport_etf -p teleport_proto --lib $(CARGO_FLAGS)

.PHONY: test-otp
test-otp: test-tools ## The suites on another release of Erlang/OTP, OTP=27 or OTP=29; ARGS="--suite teleport_api_SUITE" runs one.
	TELEPORT_CARGO_FLAGS="$(CARGO_FLAGS)" scripts/test-otp.sh "$(OTP)" $(ARGS)

.PHONY: test-mixed
test-mixed: test-tools ## Suites on clusters of several releases of Erlang/OTP, each pair both ways; RELEASES="25 27 29".
	TELEPORT_CARGO_FLAGS="$(CARGO_FLAGS)" scripts/test-mixed.sh $(RELEASES)

.PHONY: test-tools
test-tools:
	@scripts/install-test-tools.sh

.PHONY: lint
lint: lint-erlang ## Format, clippy, documentation, and who may depend on whom; dialyzer.
	cargo fmt --all -- --check
	cargo fmt --manifest-path fuzz/Cargo.toml -- --check
	cargo clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	for features in "" embed metrics test-util; do \
		cargo clippy -p teleport --no-default-features --features "$$features" $(CARGO_FLAGS) -- -D warnings || exit 1; done
	RUSTDOCFLAGS="$$RUSTDOCFLAGS -D warnings" cargo doc --workspace --lib --no-deps $(CARGO_FLAGS)
	scripts/check-boundaries.sh
	scripts/check-layers.sh teleport teleport_nif teleport_etf teleport_proto teleport_cli teleport_testkit
	scripts/check-docs.sh

.PHONY: deny
deny: ## Licences, duplicates and sources of the dependencies; advisories where their database can be had.
	scripts/deny.sh

.PHONY: lint-erlang
lint-erlang: test-tools ## Dialyzer and edoc; the first run reads all of OTP.
	cd erlang && TELEPORT_CARGO_FLAGS="$(CARGO_FLAGS)" rebar3 do xref, dialyzer, edoc

.PHONY: ring
ring: ## The benchmark; ARGS="--help" lists its options.
	cargo run --release $(CARGO_FLAGS) -- ring $(ARGS)

.PHONY: ring-erlang
ring-erlang: test-tools ## The ring on Erlang nodes, distributed Erlang against teleport; TELEPORT_RING_JSON=file, TELEPORT_RING_TLS=1.
	cd erlang && TELEPORT_CARGO_FLAGS="--release $(CARGO_FLAGS)" rebar3 compile
	mkdir -p erlang/_build/ring
	cd erlang && erlc -o _build/ring test/teleport_test.erl test/teleport_test_server.erl \
		test/teleport_test_tls.erl test/teleport_ring.erl test/teleport_ring_node.erl test/teleport_ring_stream.erl test/teleport_ring_plot.erl
	erl -noshell -pa erlang/_build/default/lib/teleport/ebin erlang/_build/ring -run teleport_ring main

.PHONY: shapes-erlang
shapes-erlang: test-tools ## Terms of every kind and size between two Erlang nodes; TELEPORT_RING_KINDS="atoms binary" measures these.
	cd erlang && TELEPORT_CARGO_FLAGS="--release $(CARGO_FLAGS)" rebar3 compile
	mkdir -p erlang/_build/ring
	cd erlang && erlc -o _build/ring test/teleport_test.erl test/teleport_test_server.erl test/teleport_ring.erl \
		test/teleport_ring_node.erl test/teleport_ring_stream.erl test/teleport_ring_plot.erl test/teleport_ring_shapes.erl
	erl -noshell -pa erlang/_build/default/lib/teleport/ebin erlang/_build/ring -run teleport_ring_shapes main

.PHONY: test-real
test-real: test-tools ## RabbitMQ and ejabberd of Debian in clusters over the carrier and inet_tcp; needs root. ARGS="rabbitmq" runs one.
	cd erlang && TELEPORT_CARGO_FLAGS="--release $(CARGO_FLAGS)" rebar3 compile
	scripts/test-real.sh $(ARGS)

.PHONY: soak soak-erlang
soak: soak-erlang
soak-erlang: test-tools ## Erlang nodes that are stopped, killed and restarted under traffic, for MINUTES (10); ARGS="seed=1 json=FILE".
	cd erlang && TELEPORT_CARGO_FLAGS="--release $(CARGO_FLAGS)" rebar3 compile
	scripts/soak.sh $(ARGS)

.PHONY: siege
siege: ## One holder of the cookie against a node in Rust, and one in Erlang; ARGS as in CONTRIBUTING.md. Then 40 peers that stand still.
	cargo build --release -p teleport --example siege $(CARGO_FLAGS)
	cd erlang && TELEPORT_CARGO_FLAGS="--release $(CARGO_FLAGS)" rebar3 compile
	scripts/siege.sh rust $(ARGS)
	scripts/siege.sh erlang $(ARGS)
	scripts/siege.sh rust stopped --least 0.8

.PHONY: chaos
chaos: ## Messages of all sizes while connections are killed.
	cargo run --release $(CARGO_FLAGS) -- ring --chaos $(ARGS)

.PHONY: simulate
simulate: ## The virtual cluster for SEEDS (100000) seeds, with the numbers of what they reached; ARGS="--seed N" runs one, with every step.
	cargo run -q --release -p teleport_testkit --example simulate $(CARGO_FLAGS) -- $(if $(ARGS),$(ARGS),--seeds $(SEEDS))

.PHONY: soak-rust
soak-rust: ## Nodes in Rust that are stopped, killed and restarted under load; ARGS="--minutes 10 --nodes 6 --seed 1 --json FILE".
	cargo run --release $(CARGO_FLAGS) -- soak $(ARGS)

.PHONY: scale
scale: ## What peers cost a node that are idle, or lightly used; ARGS="--nodes 50 --json FILE".
	cargo run --release $(CARGO_FLAGS) -- scale $(ARGS)

.PHONY: rate
rate: ## Small messages per second, and calls; ARGS="--help" lists its options.
	cargo run --release $(CARGO_FLAGS) -- rate $(ARGS)

.PHONY: bench-compare
bench-compare: ## Instructions per message beside those stored; fails where they are more by a twentieth. ARGS="--store" stores them.
	scripts/install-test-tools.sh valgrind
	cargo bench -q -p teleport --bench instructions $(CARGO_FLAGS) -- $(ARGS)

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZ_SECONDS (60); needs nightly Rust.
	scripts/fuzz.sh $(FUZZ_SECONDS)

.PHONY: fuzz-seeds
fuzz-seeds: ## Makes the seeds of the fuzz targets anew, after a change to what is written.
	cargo run -p teleport_testkit --example fuzz_seeds $(CARGO_FLAGS)
