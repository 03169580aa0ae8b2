# `make up` and `make test` do everything on a fresh machine.
.PHONY: install up check lint types arrows docs servers test clients vendor bench bench-growth profile lock image image-cluster
BIN := .venv/bin

install: .venv/installed

# Installed once for a given lock, from hashes alone. The lock is complete, so nothing is resolved:
# pip would take the newest grpcio for `grpcio[protobuf]`, whatever the lock says of `grpcio`.
# All of it is compiled, on all cores, which pip would do on one: where Python may write no bytecode
# (PYTHONDONTWRITEBYTECODE) each process of a stack would do that anew, and keep 15 MB for it. So are
# our own sources; Python compiles those that change by itself.
# `make PYTHON=…` takes another interpreter than the fastest of `python3`'s version.
.venv/installed: requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || "$(or $(PYTHON),$$(python3 deploy/interpreter.py))" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps -r requirements-dev.lock
	-$(BIN)/python -m compileall -q -j 0 .venv/lib rayfold eventstore actors projections api deploy domain examples
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

up: install
	$(BIN)/rayfold up

check: lint types arrows docs

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

arrows: install
	$(BIN)/lint-imports

# The documentation site, into site/; without a network. The variable silences an advertisement.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Where there is npm, the types that TypeScript clients get are tested too.
TYPESCRIPT := tests/contract/api/typescript
NPM := $(shell command -v npm)
CLIENT_TOOLS := $(if $(NPM),$(TYPESCRIPT)/node_modules/.package-lock.json)

$(TYPESCRIPT)/node_modules/.package-lock.json: $(TYPESCRIPT)/package-lock.json
	npm ci --silent --no-audit --no-fund --prefix $(TYPESCRIPT)
	touch $@

# Servers and a browser that tests run for real: Debian's packages, where root may install them.
DEBIAN := redis-server chromium prometheus
MISSING = $(foreach each,redis-server chromium promtool,$(if $(shell command -v $(each)),,$(each)))
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq
servers:
ifneq ($(strip $(MISSING)),)
ifneq ($(and $(shell command -v apt-get),$(filter 0,$(shell id -u))),)
	$(APT) update && $(APT) install -y --no-install-recommends $(DEBIAN) > /dev/null
else
	@echo "the tests run $(strip $(MISSING)): Debian has them as $(DEBIAN)" >&2; exit 1
endif
endif

# In three processes, as much of it waits for something to happen; a file's tests stay together. What
# they need comes while the sources are checked.
WORKERS ?= 3
test: install
	$(MAKE) --no-print-directory --jobs 3 --output-sync=target check servers $(CLIENT_TOOLS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Clients generated from the OpenAPI document, type-checked: Python, and TypeScript with npm.
clients: install $(CLIENT_TOOLS)
	$(BIN)/python -m pytest tests/contract/api -k client

# Rayfold, plain CRUD and a no-op in interleaved rounds; results in loadtests/results/.
bench: install
	$(BIN)/python -m loadtests.bench

# What a log's size changes, and the number of hosts, replicas and partitions; some 15 minutes.
bench-growth: install
	$(BIN)/python -m loadtests.bench.growth --scale

# Where the CPU of a write goes, by process and package; half a minute.
profile: install
	$(BIN)/python -m loadtests.bench.profile

# The hashed lock files, from pyproject.toml; versions stay where they may. UV is any `uv` at hand.
UV ?= uv
COMPILE = $(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml
lock:
	$(COMPILE) --extra build -o requirements.lock
	$(COMPILE) --extra build --extra dev -c requirements.lock -o requirements-dev.lock

# The image's build steps in a plain Debian root, and the README's commands in what comes out; needs
# root, `mmdebstrap`, and a network for the build alone. Two minutes and 1.5 GB. LEND=FILE:PATH.
IMAGE ?= /tmp/rayfold-image
LEND ?=
image:
	rm -rf $(IMAGE)
	$(or $(PYTHON),python3) deploy/container/without_an_engine.py build $(IMAGE) $(if $(LEND),--lend $(LEND))
	$(or $(PYTHON),python3) deploy/container/without_an_engine.py try $(IMAGE)

# The services of deploy/compose.yaml from that image, each on a host of its own; Ray's head is lost
# meanwhile. Needs `iproute2`, `curl` and a `redis-server` as well; no network. A minute.
image-cluster: install
	$(BIN)/python -m deploy.container.compose_without_an_engine $(IMAGE)

# What the console is made of, from npm by the lock into the package, and axe-core for its tests:
# after a change of api/console/vendor/package.json; `npm install --package-lock-only` there first.
VENDOR := api/console/vendor
vendor:
	bash $(VENDOR)/bring.sh
