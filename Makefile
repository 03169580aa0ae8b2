# `make up` and `make test` do everything on a fresh machine.
.PHONY: install up check lint types arrows docs servers test clients vendor bench bench-growth profile lock image image-cluster
BIN := .venv/bin

install: .venv/installed

# Installed once for each version of the lock file; pip checks every package by its hash. The lock is
# complete, so pip does not resolve dependencies: for `grpcio[protobuf]` it would install the newest
# grpcio, whatever version the lock has.
# All packages and our own sources are compiled to bytecode here, on all cores; pip would use one.
# Otherwise, where Python may not write bytecode (PYTHONDONTWRITEBYTECODE), each process of a stack
# would compile them again, and use 15 MB for that. Python compiles changed sources by itself.
# `make PYTHON=…` sets the interpreter; by default it is the fastest one of `python3`'s version.
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

# Builds the documentation site in site/; needs no network. The variable silences an advertisement.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# If npm is installed, the types for TypeScript clients are tested too.
TYPESCRIPT := tests/contract/api/typescript
NPM := $(shell command -v npm)
CLIENT_TOOLS := $(if $(NPM),$(TYPESCRIPT)/node_modules/.package-lock.json)

$(TYPESCRIPT)/node_modules/.package-lock.json: $(TYPESCRIPT)/package-lock.json
	npm ci --silent --no-audit --no-fund --prefix $(TYPESCRIPT)
	touch $@

# The servers and the browser that the tests run. Root on Debian installs them from Debian's packages.
DEBIAN := redis-server chromium prometheus
MISSING = $(foreach each,redis-server chromium promtool,$(if $(shell command -v $(each)),,$(each)))
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq
servers:
ifneq ($(strip $(MISSING)),)
ifneq ($(and $(shell command -v apt-get),$(filter 0,$(shell id -u))),)
	$(APT) update && $(APT) install -y --no-install-recommends $(DEBIAN) > /dev/null
else
	@echo "the tests need these programs, which are not installed: $(strip $(MISSING)); Debian's packages are $(DEBIAN)" >&2; exit 1
endif
endif

# The tests run in three processes, because many of them only wait; the tests of a file run in the same
# process. While the sources are checked, what the tests need is installed.
WORKERS ?= 3
test: install
	$(MAKE) --no-print-directory --jobs 3 --output-sync=target check servers $(CLIENT_TOOLS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Generates clients from the OpenAPI document and type-checks them: Python, and TypeScript if npm is
# installed.
clients: install $(CLIENT_TOOLS)
	$(BIN)/python -m pytest tests/contract/api -k client

# Measures Rayfold, plain CRUD and a no-op in interleaved rounds; writes loadtests/results/.
bench: install
	$(BIN)/python -m loadtests.bench

# Measures the effect of the log's size, and of the number of hosts, replicas and partitions; takes
# about 15 minutes.
bench-growth: install
	$(BIN)/python -m loadtests.bench.growth --scale

# Measures the CPU of a write by process and package; takes half a minute.
profile: install
	$(BIN)/python -m loadtests.bench.profile

# Writes the lock files with hashes, from pyproject.toml. A version stays the same unless pyproject.toml
# requires another one. UV is the `uv` program to use.
UV ?= uv
COMPILE = $(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --no-header pyproject.toml
lock:
	$(COMPILE) --extra build -o requirements.lock
	$(COMPILE) --extra build --extra dev -c requirements.lock -o requirements-dev.lock

# Builds the image without a container engine, in a plain Debian root folder, and runs the README's
# commands in the image. It needs root, `mmdebstrap` and, only for the build, a network. It takes two
# minutes and 1.5 GB. LEND=FILE:PATH lets the build steps read a file of this machine.
IMAGE ?= /tmp/rayfold-image
LEND ?=
image:
	rm -rf $(IMAGE)
	$(or $(PYTHON),python3) deploy/container/without_an_engine.py build $(IMAGE) $(if $(LEND),--lend $(LEND))
	$(or $(PYTHON),python3) deploy/container/without_an_engine.py try $(IMAGE)

# Runs the services of deploy/compose.yaml from that image, each on a host of its own, and kills Ray's
# head meanwhile. It also needs `iproute2`, `curl` and a `redis-server`, but no network. It takes a
# minute.
image-cluster: install
	$(BIN)/python -m deploy.container.compose_without_an_engine $(IMAGE)

# Copies the console's JavaScript and CSS from npm into the package, at the versions of the lock file,
# and axe-core for its tests. To run after a change of api/console/vendor/package.json, and after
# `npm install --package-lock-only` in that folder.
VENDOR := api/console/vendor
vendor:
	bash $(VENDOR)/bring.sh
