#!/usr/bin/env bash
# Runs the unit tests at one end of what pyproject.toml allows.
#
#   bash scripts/bounds.sh lowest       every direct dependency at its lower bound
#   bash scripts/bounds.sh newest       every dependency at its newest release, pre-releases included
#
# Each has a virtual environment of its own, .venv-lowest or .venv-newest. Further arguments go to pytest.
# uv reads UV_CONSTRAINT and UV_FIND_LINKS, for example to keep a build of torch for the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
lowest) how=(--resolution lowest-direct) ;;
# sympy's mpmath<1.4 lets 1.4's alphas in, which it cannot be imported with.
newest) how=(--upgrade --prerelease allow --constraint <(echo "mpmath<1.4a0")) ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
VENV=".venv-$1"
shift

[ -x "$VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$VENV"
PATH="$(cd "$VENV/bin" && pwd):$PATH"
export VIRTUAL_ENV="$PWD/$VENV"
python -m pip install --quiet --disable-pip-version-check uv
uv pip install --quiet "${how[@]}" --editable ".[test]" $(printf -- '--editable %s ' plugins/*/)
python -m pytest tests/unit plugins -m "not integration and not gpu" "$@"
