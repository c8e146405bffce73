# Sourced by the other scripts: a virtual environment in .venv with mentor_pl installed from this checkout.
#
#   install_mentor_pl [EXTRA ...]     e.g. install_mentor_pl test
#
# MENTOR_PL_VENV names another folder, PYTHON another interpreter.

VENV="${MENTOR_PL_VENV:-.venv}"

install_mentor_pl() {
    local extras="${*:-}"
    [ -x "$VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${extras:+[${extras// /,}]}"
    PATH="$(cd "$VENV/bin" && pwd):$PATH"
    export PATH
}
