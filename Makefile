# The verbs of this project; CI uses the same ones. Each does what it needs first, `setup` above all.

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix proto sanity test-releases bench e2e image vm soak

BIN := .venv/bin

help:  ## show the verbs
	@sed -n 's/^\([a-z0-9-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup:  ## install what is missing: packages, uv, the virtual environment
	@scripts/setup

demo: setup  ## a development Ceph, the driver, and a volume's life
	@$(BIN)/rbd-csi dev up
	@$(BIN)/rbd-csi demo

test: setup  ## all tests, on a real Ceph
	@scripts/test

check: setup  ## format, lint, types, import contracts, generated stubs
	@scripts/check

fix: setup  ## format, and repair what the linter can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

proto: setup  ## generate the stubs of proto/ again, and compare the contract with the official one
	@scripts/proto
	@scripts/proto --official

sanity: setup  ## csi-sanity against the driver on a real Ceph
	@scripts/sanity

test-releases:  ## the tests against newer Ceph releases
	@$(call when-there,scripts/test-releases)

bench: setup  ## what the driver adds to bare Ceph; FULL=1: every workload
	@scripts/bench

e2e: setup  ## the driver in a real Kubernetes, end to end; SUITE=smoke, SUITE=storage (Kubernetes' own tests)
	@env -u SUITE scripts/e2e $(if $(SUITE),--suite $(SUITE))

image: setup  ## the container image, built with or without an engine
	@scripts/image

vm: setup  ## the node side on a real kernel client, in a virtual machine; SMOKE=1: what CI runs of it
	@scripts/vm $(if $(SMOKE),--smoke)

soak: setup  ## hours of random work
	@scripts/soak

# A verb whose script does not exist yet says so and fails.
when-there = if [ -x $(1) ]; then scripts/setup && $(1); else echo "make $@: not there yet" >&2; exit 1; fi
