"""Make a copy of a model folder whose output head is a weight of its own, for vLLM on CPUs.

There vLLM (0.32) packs the head when it starts, and a later reload of tied embeddings leaves that packed head as it was. Everything
else in the copy is a link. Run it with an interpreter that has safetensors and torch:

    python scripts/untie_embeddings.py MODEL COPY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight", "gpt_neox.embed_in.weight")


def untie(model: Path, copy: Path) -> bool:
    """Make the copy; return False, and make none, where the model's embeddings are not tied."""
    config = json.loads((model / "config.json").read_text())
    if not config.get("tie_word_embeddings", False):
        return False
    copy.mkdir(parents=True, exist_ok=True)
    head = None
    for file in sorted(model.resolve().iterdir()):
        if file.name in ("config.json", "model.safetensors.index.json"):
            continue
        link = copy / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
        if file.suffix == ".safetensors":
            with safe_open(str(file), framework="pt") as weights:
                for name in set(EMBEDDINGS) & set(weights.keys()):
                    head = weights.get_tensor(name)
    if head is None:
        sys.exit(f"{model}: no safetensors file holds any of {', '.join(EMBEDDINGS)}")
    save_file({"lm_head.weight": head}, str(copy / "head.safetensors"), metadata={"format": "pt"})
    (copy / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}, indent=2))
    return True


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    untie(Path(sys.argv[1]), Path(sys.argv[2]))
