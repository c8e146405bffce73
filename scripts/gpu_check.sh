#!/usr/bin/env bash
# Everything worth checking on one GPU, in eight minutes at most: tests, speed, a short real run. Needs no network.
#
#   MENTOR_PL_WHEELS=/folder/with/wheels scripts/gpu_check.sh [--output FOLDER]
#   scripts/gpu_check.sh --device cpu --quick      tries the checks themselves, without a GPU
#
# With MENTOR_PL_WHEELS set, a virtual environment is made on top of the packages that $PYTHON (default: python3) has, its torch among
# them, and the folder's wheels are installed into it; else $PYTHON must have all that mentor_pl needs. What is needed beyond torch,
# transformers, lightning, torchmetrics, peft, accelerate, rich and pytest: see docs/performance.md. $OUT is the default of --output.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}"

if [ -n "${MENTOR_PL_WHEELS:-}" ]; then
    venv="${MENTOR_PL_VENV:-$(mktemp -d)/venv}"
    "$PYTHON" -m venv --system-site-packages --without-pip "$venv"
    # $PYTHON may be of a virtual environment itself, whose packages --system-site-packages leaves out
    "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_parent.pth"
    install() {
        "$PYTHON" -m pip --python "$venv/bin/python" install --quiet --no-index --no-deps --disable-pip-version-check "$@"
    }
    install "$MENTOR_PL_WHEELS"/*.whl
    install --no-build-isolation --editable .
    PYTHON="$venv/bin/python"
fi
exec "$PYTHON" -m benchmarks.gpu_check ${OUT:+--output "$OUT"} "$@"
