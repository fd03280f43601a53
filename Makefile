# What a person runs; CI runs the same. `make` alone lists it.

SHELL := /usr/bin/env bash
TARGET ?= datagram
SECONDS ?= 60

.PHONY: help setup test test-all sim man demo demo-tipc tipc tipc-all filesystems dist packages boot bench figures fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# Every target installs first what it needs and this machine lacks.
setup: ## install what the checks need and this machine lacks
	@tests/rig/setup.sh test

test: setup ## all that CI runs: about 15 minutes on two quiet cores
	@tests/rig/test.sh

test-all: setup ## the same with long fuzzing, all filesystems, and all of a cluster's tests over TIPC: over an hour
	@FUZZ_SECONDS=1500 TIPC=all FILESYSTEMS=all tests/rig/test.sh

sim: ## SEED=n [NODES=n] [SEEDS=n] [LOG=1]: play a whole cluster, the same each time
	@tests/rig/setup.sh build
	@SEED=$(or $(SEED),1) SEEDS=$(SEEDS) NODES=$(NODES) LOG=$(LOG) cargo test --quiet --test sim every_seed -- --nocapture

man: ## write docs/thimble.8 anew, from the table of commands
	@tests/rig/setup.sh build
	@cargo build --quiet && target/debug/thimble man >docs/thimble.8

demo: ## a cluster in network namespaces, from its keys to a lost controller
	@tests/rig/setup.sh demo
	@tests/demo/demo.sh

demo-tipc: ## the same over TIPC, on a kernel that has it
	@tests/rig/setup.sh demo tipc
	@TRANSPORT=tipc tests/demo/demo.sh

tipc: ## thimble and TIPC's topology service on a real TIPC kernel, case by case
	@tests/rig/setup.sh tipc
	@tests/rig/tipc.sh

tipc-all: ## the same, with all tests of a cluster over TIPC
	@tests/rig/setup.sh tipc
	@tests/rig/tipc.sh all

filesystems: ## install, overlay, rollback, removal and notices on ten filesystems, in a table
	@tests/rig/setup.sh filesystems
	@tests/rig/build.sh udp >/dev/null
	@tests/rig/filesystems.sh

dist: ## static appliance binaries in dist/, each shown to run
	@tests/rig/setup.sh dist
	@tests/rig/dist.sh

packages: dist ## Debian packages and archives with install.sh of these, in dist/
	@tests/rig/setup.sh packages
	@packaging/deb/build.sh
	@packaging/tar/build.sh

boot: ## hosts of ARMv7 and ARM64 with Debian's kernels, emulated: patched over UDP and TIPC, from packages too
	@tests/rig/setup.sh boot
	@tests/rig/dist.sh $(sort dist/thimble-armv7 dist/thimble-tipc-armv7 dist/thimble-aarch64 dist/thimble-tipc-aarch64 dist/thimble-$(shell uname -m))
	@cargo build --quiet
	@FILES=20000 tests/boot/boot.sh armv7
	@tests/boot/boot.sh aarch64
	@tests/boot/tipc.sh aarch64
	@tests/boot/package.sh aarch64 udp
	@tests/boot/package.sh aarch64 tipc
	@tests/boot/package.sh armv7 udp
	@tests/boot/package.sh armv7 tipc

bench: ## PART="acks memory .."|all: the static binary's figures beside its peers', in one table; 25 minutes for all
	@tests/rig/setup.sh bench
	@$(if $(THIMBLE_BIN),,tests/rig/dist.sh dist/thimble-$(shell uname -m))
	@tests/rig/bench.sh $(PART)

figures: ## keep the last run of bench in docs/figures.tsv, and make figures.md, its plots and the README's table of it
	@benches/figures/keep.sh target/bench.tsv

fuzz: ## TARGET=datagram|frame|topology SECONDS=n: look for input that breaks the wire
	@tests/rig/setup.sh fuzz
	@tests/rig/fuzz.sh $(TARGET) $(SECONDS)
