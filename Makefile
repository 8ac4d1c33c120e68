# Everything a contributor types. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# rustup's place, for shells that were open before it was installed; and the programs that e2e/tools/setup.sh fetched.
export PATH := $(CURDIR)/.cache/bin:$(PATH):$(HOME)/.cargo/bin

step := e2e/tools/step.sh
deny := cargo-deny --log-level error --locked --offline check bans licenses sources

.PHONY: up build test check bench clean help setup fmt tidy codegen

up: setup build ## Build and start a whole mesh on loopback, kept in .flotilla; ARGS=--split for separate processes
	@exec target/release/flotilla up $(ARGS)

build: ## Build what `up` starts, in release: the plane, and the sample application beside it
	@$(step) build cargo build --release --locked -p flotilla -p sample

test: ## Everything that must hold: setup, `check`, then all tests
	@$(step) setup e2e/tools/setup.sh --tests
	@$(MAKE) check
# With all targets, so that programs and tests are built with the same features, once: dev-dependencies add some to tokio.
	@$(step) "test build" cargo build --workspace --all-targets --locked
	@$(step) test cargo test --workspace --locked
	@$(step) fuzz e2e/tools/fuzz.sh 30
	@echo; echo "make test: all green"

check: ## Formatting, tidy, licences and bans, clippy without warnings
	@$(step) fmt cargo fmt --all --check
	@$(step) tidy cargo run --quiet --locked -p xtask -- tidy
	@if [ -x .cache/bin/cargo-deny ]; then $(step) deny $(deny); else \
		echo; echo "==> deny: left out, cargo-deny is missing; e2e/tools/setup.sh --tests installs it"; fi
	@$(step) clippy cargo clippy --workspace --all-targets --locked -- -D warnings

bench: ## Measure what the plane costs; ARGS go to the load generator
	@$(step) "bench build" cargo build --release --locked -p flotilla -p bench
	@target/release/bench $(ARGS)
	@if [ -z "$(ARGS)" ]; then target/release/bench ca; fi

setup: ## Install what is missing beyond a Rust toolchain (Envoy, nats-server; into .cache/)
	@e2e/tools/setup.sh

fmt: ## Format all sources
	@cargo fmt --all

tidy: ## Run the repository's own rules alone
	@cargo xtask tidy

codegen: ## Write generated files anew
	@cargo xtask codegen

clean: ## Remove everything built or fetched here
	rm -rf target .cache

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
