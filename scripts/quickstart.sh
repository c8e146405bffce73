#!/usr/bin/env bash
# From a fresh clone to a trained student: installs into .venv, trains on the embedded task, shows the result.
# Further arguments go to `mentor-pl fit`, for example --trainer.max_epochs 1.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh

echo "Installing into $VENV ..."
install_mentor_pl
mentor-pl fit --config configs/mentor.yaml "$@"

echo
echo "runs/last holds:"
ls runs/last/
