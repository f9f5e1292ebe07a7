# Commands for users and CI. `make demo` and `make test` need only Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
# No compilation here: `compileall` compiles the packages of the commands below, on all processors; packages that only
# tests use (torch is large) are compiled at their import.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo test lint ui bench baselines soak lock clean

demo: .venv/installed
	$(BIN)/rag demo

ui: .venv/installed
	$(BIN)/rag ui

# If it is set, each process compiles our modules again: 6 s in each test process, 0.15 s in each command.
unexport PYTHONDONTWRITEBYTECODE

# Four processes also on two cores: half of the time they wait for servers.
test: .venv/installed-dev
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# About two hours on a quiet machine. Single rows: .venv/bin/python -m tests.benchmarks --only 1 "3 command"
bench: .venv/installed-dev
	-$(MAKE) --no-print-directory baselines
	$(BIN)/python -m tests.benchmarks

# The baselines of `ingestion` in their newest versions. Separate environments, as they require different versions of
# pymilvus.
baselines: .baselines/langchain/installed .baselines/llama_index/installed

.baselines/langchain/installed: PACKAGES = langchain-classic langchain-milvus langchain-text-splitters 'psycopg[binary]' \
	'sqlalchemy[asyncio]'
.baselines/llama_index/installed: PACKAGES = llama-index-core llama-index-vector-stores-milvus \
	llama-index-storage-docstore-postgres langchain-text-splitters

.baselines/%/installed:
	$(PYTHON) -m venv .baselines/$*
	.baselines/$*/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES) numpy psutil
	touch $@

# The long tests, run by hand: random kills with every invariant checked after each, kills of whole commands, the whole
# sweep, and more examples.
soak: .venv/installed-dev
	$(BIN)/python -m tests.faults.soak --rounds 1000 --minutes 120
	RAG_FAULT_ROUNDS=50 $(BIN)/python -m pytest tests/faults/test_kills.py
	RAG_SWEEP=whole $(BIN)/python -m pytest tests/faults/test_sweep_*.py
	RAG_STATEFUL=1000,50 RAG_MISREADS=10000 $(BIN)/python -m pytest --hypothesis-profile=exploring \
		tests/faults/test_stateful.py tests/stores/test_misreads.py tests/unit

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required. Name one: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --editable .
# If PYTHONDONTWRITEBYTECODE is set, as in many images, each command would compile the packages again: 3 s.
	-$(BIN)/python -m compileall -q -j 0 .venv/lib rag_assets resources >.venv/compiled.log
	touch $@

# Includes torch and FlagEmbedding: the tests run a tiny BGE-M3 in the real library.
.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	touch $@

lock:
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header --constraint requirements.lock --extra dev --extra bge-m3 -o requirements-dev.lock pyproject.toml
	sed -i 's/+cpu$$//' requirements-dev.lock  # the build of torch depends on the machine

clean:
	-test -x $(BIN)/rag && $(BIN)/rag down
	rm -rf .venv .baselines .rag *.egg-info .pytest_cache .ruff_cache .hypothesis
