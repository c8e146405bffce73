#!/usr/bin/env bash
# Runs the unit tests at one end of what pyproject.toml allows.
#
#   bash scripts/bounds.sh lowest       every required dependency at its lower bound
#   bash scripts/bounds.sh newest       every dependency at its newest release, pre-releases included
#
# Each has a virtual environment of its own, .venv-lowest or .venv-newest. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
end="${1:-}"
case "$end" in lowest | newest) shift ;; *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;; esac

VENV=".venv-$end"
[ -x "$VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$VENV"
PATH="$(cd "$VENV/bin" && pwd):$PATH"
pip() { python -m pip "$@" --quiet --disable-pip-version-check; }

if [ "$end" = lowest ]; then
    constraints="$VENV/lowest.txt"
    python - >"$constraints" <<'PY'
import re
import tomllib

with open("pyproject.toml", "rb") as file:
    required = tomllib.load(file)["project"]["dependencies"]
for line in required:
    name, lowest = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)", line).groups()
    print(f"{name}~={lowest}" if lowest.count(".") > 1 else f"{name}=={lowest}.*")
PY
    PIP_CONSTRAINT="$constraints" pip install --editable ".[test]"
else
    pip install --pre --upgrade --upgrade-strategy eager --editable ".[test]"
fi
for plugin in plugins/*/; do pip install --editable "$plugin"; done
python -m pytest tests/unit plugins -m "not integration and not gpu" "$@"
