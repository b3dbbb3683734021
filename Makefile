# The front door. The work is done by image/ (a Rust program) and by cargo; this file only names it.
#
#   KERNEL=own|debian   which kernel is built and booted (own)
#   ONCE=1              make run: shut down at the end, and let the exit status tell whether all held
#   FUZZ_SECONDS=10     make fuzz: how long each target looks for an input that breaks it
#   DENSITY_ROUNDS=5    make density: how often a thousand zones are made and deleted

KERNEL ?= own
FUZZ_SECONDS ?= 10
export KERNEL
OTHER_KERNEL = $(if $(filter debian,$(KERNEL)),own,debian)

CARGO ?= cargo
IMAGE = $(CARGO) run --locked --package image --
RUN_FLAGS = $(if $(ONCE),--once)

density: DENSITY_ROUNDS ?= 5

.PHONY: help run test image media deps fmt fuzz lint unit demonstration other-kernel reproducible stories density bench power-cuts
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  KERNEL=debian boots Debian's packaged kernel; make run ONCE=1 shuts down at the end."

run: cc ## build what has changed, boot it in QEMU, demonstrate a job on real data, stay up
	@$(IMAGE) run $(RUN_FLAGS)

test: lint unit fuzz image demonstration other-kernel power-cuts stories ## everything: style, unit tests, and the booted appliance

media: cc ## make the zone image media (ffmpeg, imagemagick) in out/, to be imported
	@$(IMAGE) zone-image media

image: cc ## build kernel, initramfs and zone image into out/
	@$(IMAGE) build

deps: cc ## install the Debian packages that building takes (as root), or say how
	@$(IMAGE) deps

fmt: ## format the sources
	$(CARGO) fmt --all

lint: cc ## format and lints, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings

unit: deps ## tests that need no booted appliance
	$(CARGO) test --locked --workspace --no-fail-fast

fuzz: deps ## hostile bytes for every parser of ours, FUZZ_SECONDS for each
	$(CARGO) run --locked --package fuzz -- $(FUZZ_SECONDS)

demonstration: image ## make run's demonstration, and one in which an altered object must be noticed
	@$(IMAGE) run --no-build --once --alter-one

other-kernel: cc ## the demonstration on the kernel that KERNEL does not name
	@$(IMAGE) run --kernel $(OTHER_KERNEL) --once

reproducible: cc ## build everything twice and compare: takes a compilation from nothing
	@$(IMAGE) verify-reproducible

power-cuts: cc ## cut the power of a storaged on this machine 208 times (as root)
	@if [ "$$(id -u)" = 0 ]; then $(CARGO) run --locked --package tests --bin powercuts; \
	else echo "power-cuts: left out, loop devices take root"; fi

stories: image ## stories told to a booted appliance
	$(CARGO) run --locked --package tests --bin stories

density: image ## DENSITY_ROUNDS rounds of a thousand idle zones on a node with 1 GiB
	DENSITY_ROUNDS=$(DENSITY_ROUNDS) $(CARGO) run --locked --package tests --bin stories -- "thousand idle zones"

bench: cc ## storaged beside nginx, s3s-fs and SeaweedFS, zones beside bubblewrap, crun and runc; BENCH="--quick zones" for a part, BENCH=inline or BENCH=seals for what is not usual
	$(CARGO) run --locked --release --package bench -- $(BENCH)

# Rust links with the C compiler's driver, so it takes one to build even what installs packages.
.PHONY: cc
cc:
	@command -v cc >/dev/null || { \
		[ "$$(id -u)" = 0 ] || { echo "install a C compiler: sudo apt-get install build-essential"; exit 1; }; \
		apt-get -q update && apt-get -q install --yes --no-install-recommends build-essential; }
