# Two commands, always true: `make demo` and `make test`. Each installs what it needs.
# Build caches lie outside the clone, so that the next clone finds them warm.

export PLI_CACHE ?= $(HOME)/.cache/pli
export CARGO_TARGET_DIR ?= $(PLI_CACHE)/target
export PATH := $(PLI_CACHE)/tools/bin:$(PATH)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-garage lint fuzz bench install

install:
	tests/env/install.sh

# Builds Pli, starts it with its embedded database and a folder, sends a procedure through a kill -9,
# compares every digest, and leaves the gateway running.
demo: install
	tests/demo/run.sh

# Every test, with the real PostgreSQL, the real S3 server and the real tus clients.
test: install
	tests/clients/install.sh
	tests/env/with.sh postgres s3 clamd -- cargo nextest run --workspace --locked
	cargo test --workspace --doc --locked

# The storage suite against Garage: one node, then three of which one is killed. Builds Garage once.
test-garage: install
	tests/env/garage.sh build
	tests/env/with.sh garage1 -- cargo nextest run -p pli-storage --locked -E 'binary(suite) & test(s3)'
	tests/env/with.sh garage3 -- cargo nextest run -p pli-storage --locked --run-ignored all -E 'binary(suite) & (test(s3) | test(garage::))'

lint: install
	tests/env/install.sh lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked
	cargo deny --locked check licenses bans sources

# Each fuzz target for SECONDS (60 unless told).
fuzz: install
	tests/env/install.sh fuzz
	fuzz/run.sh $(or $(SECONDS_EACH),60)

# Sealing, transfers, memory and small documents beside their peers. Uses release binaries; takes some minutes.
bench: install
	tests/clients/install.sh
	tests/bench/run.sh
