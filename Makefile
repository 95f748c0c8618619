# popfetchd: the one way to do each thing. `make help` lists them.
#
# Rules of this file:
# - A bare machine with Python 3.11, its venv module and make is enough.
# - Everything installed is pinned by hash in locks/; what is set up is stamped in the
#   .venv itself, so that a second run needs no network and `rm -r .venv` forgets all.
# - Nothing outside this folder is touched, but for Dovecot (`make test`, as root).

PYTHON ?= python3
# Processes that run the tests side by side.
WORKERS ?= 2
UV ?= uv
# How long `make fuzz` looks.
MINUTES ?= 30

BIN := .venv/bin
STAMPS := .venv/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What builds a wheel of this project, and what an editable one needs as well.
BUILDERS := hatchling editables
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help demo test check docs crash fuzz bench boot coverage dovecot smoke image lock clean

help:
	@echo 'make demo     a maildrop of its own on loopback, and the service on it'
	@echo '              (Ctrl-C ends it; SECONDS=20 makes it end by itself)'
	@echo 'make test     every test, with Dovecot, and the coverage of each module'
	@echo 'make check    format, lint, imports, types, spelling'
	@echo 'make docs     write anew what is made from the code: docs/configuration.md, the'
	@echo '              manuals, the completions, the JSON schema'
	@echo 'make crash    a visit harmed at every system call, and wherever a line can be'
	@echo '              cut: two hours (SAMPLE=20: a part of it)'
	@echo 'make fuzz     the POP3 client against any octets, with atheris (MINUTES=30) in an'
	@echo '              environment of its own'
	@echo 'make boot     the units of deploy/systemd under a real systemd, in a Debian 12 of'
	@echo '              their own: 1 minute, the first time 3 (as root; needs mmdebstrap'
	@echo '              and systemd-nspawn)'
	@echo 'make bench    popfetchd beside its peers, into docs/benchmarks: hours (P=small: one'
	@echo '              profile; ROUNDS=5; P=thousands MINUTES=10: the service)'
	@echo 'make smoke    build the wheel and start it in a fresh environment'
	@echo 'make image    build the container image and try it with no rights at all (root,'
	@echo '              buildah, podman, runc; BASE_IMAGE=… or mmdebstrap)'
	@echo 'make lock     resolve locks/*.lock anew (needs uv)'
	@echo 'make clean    remove everything that the above made'

demo: $(STAMPS)/demo
	@$(BIN)/popfetchd demo $(if $(SECONDS),--seconds $(SECONDS))

check: $(STAMPS)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/codespell

docs: $(STAMPS)/dev
	$(BIN)/python -m docs.generate

# The tests' own processes (a service, a `fetch` to be killed) are measured too:
# see [tool.coverage.run] patch.
test: $(STAMPS)/dev dovecot
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) -r s
	@$(MAKE) --no-print-directory coverage

# A part of it is in `make test`.
crash: $(STAMPS)/dev dovecot
	$(BIN)/python -m tests.crash.syscalls $(if $(SAMPLE),--sample $(SAMPLE))

# What it finds stays in .fuzz/ as crash-…: `.fuzz/venv/bin/python -m tests.fuzz.engine FILE`
# plays it again. (atheris 3.1 has no wheel for Python 3.11.)
fuzz: .fuzz/venv/ready
	.fuzz/venv/bin/python -m tests.fuzz.engine .fuzz/corpus -artifact_prefix=.fuzz/ \
	  -max_total_time=$$((60 * $(MINUTES))) -max_len=4096 -timeout=60 -rss_limit_mb=1024

.fuzz/venv/ready: locks/runtime.lock locks/fuzz.lock
	$(PYTHON) -m venv .fuzz/venv
	.fuzz/venv/bin/pip install --quiet --require-hashes -r locks/runtime.lock -r locks/fuzz.lock
	@touch $@

# What it printed stays in .boot/transcript, the machine in .boot/tree.
boot: $(STAMPS)/dev
	@$(BIN)/python -m tests.boot

# The peers: apt-get install mpop fdm fetchmail getmail6. Who is missing is left out.
bench: MINUTES = 10
bench: $(STAMPS)/dev dovecot
	$(BIN)/python -m benchmarks $(P) $(if $(ROUNDS),--rounds $(ROUNDS)) --minutes $(MINUTES)

coverage:
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

dovecot:
	@.ci/dovecot

smoke: $(STAMPS)/dev
	@.ci/smoke $(BIN)/python

# BASE_IMAGE from the environment; see the head of the script.
image: $(STAMPS)/dev
	@.ci/image $(BIN)/python

lock:
	printf '%s\n' $(BUILDERS) | $(COMPILE) --extra demo --extra socks --extra basic-auth --group dev -o locks/dev.lock pyproject.toml -
	printf '%s\n' $(BUILDERS) | $(COMPILE) --extra demo --extra socks --extra basic-auth -c locks/dev.lock -o locks/demo.lock pyproject.toml -
	$(COMPILE) --extra socks --extra basic-auth -c locks/dev.lock -o locks/runtime.lock pyproject.toml
	echo 'atheris==3.0.0' | $(COMPILE) -o locks/fuzz.lock -

clean:
	rm -rf .venv .fuzz .boot build dist htmlcov .coverage .coverage.* .hypothesis .pytest_cache \
	  .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# -- set-up ---------------------------------------------------------------------------

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo '$(PYTHON) is missing, or older than 3.11: name another, PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo '$(PYTHON) lacks its venv module (Debian: apt install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/demo: $(STAMPS)/venv locks/demo.lock pyproject.toml
	$(PIP) install --require-hashes -r locks/demo.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# The developers' lock holds everything of the demo's: one set-up is enough for both.
$(STAMPS)/dev: $(STAMPS)/venv locks/dev.lock pyproject.toml
	$(PIP) install --require-hashes -r locks/dev.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(STAMPS)/demo $@
