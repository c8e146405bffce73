#!/usr/bin/env bash
# Trains on several nodes by torchrun: start the same line on every node, at about the same time.
#
#   RDZV=head-node:29500 NODES=2 GPUS=8 RUN=my-run scripts/torchrun.sh --config configs/mentor.yaml --config configs/strategy/fsdp.yaml
#
# RUN names the folder runs/fit-$RUN, which all nodes must see (a shared file system). To go on after a stop, give the same RUN and
# --ckpt_path runs/fit-$RUN/checkpoints/last.ckpt. torchrun passes SIGTERM on and kills after 30 s; a rollout is given up at once.
set -euo pipefail
: "${RDZV:?host:port of one of the nodes, for example head-node:29500}"
: "${NODES:?number of nodes}"
: "${GPUS:?processes on each node}"
: "${RUN:?a name for the run, the same on every node}"

exec torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" --rdzv-backend c10d --rdzv-endpoint "$RDZV" --rdzv-id "$RUN" \
    "$(command -v mentor-pl)" fit "$@" --trainer.num_nodes "$NODES" --trainer.devices "$GPUS"
