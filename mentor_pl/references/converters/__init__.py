"""Other formats into references."""

from mentor_pl.references.converters.agent_runs import tau, verl
from mentor_pl.references.converters.bfcl import bfcl
from mentor_pl.references.converters.chat import chat
from mentor_pl.references.converters.function_calling import glaive, hermes, toolace, xlam
from mentor_pl.references.converters.gsm8k import gsm8k
from mentor_pl.references.converters.mentor_parquet import mentor_parquet
from mentor_pl.references.converters.outcome import Converter, Rejected
from mentor_pl.references.converters.question_answer import question_answer

CONVERTERS: dict[str, Converter] = {
    "gsm8k": gsm8k,
    "mentor-parquet": mentor_parquet,
    "bfcl": bfcl,
    "chat": chat,
    "question-answer": question_answer,
    "xlam": xlam,
    "toolace": toolace,
    "hermes": hermes,
    "glaive": glaive,
    "tau": tau,
    "verl": verl,
}
"""Name, as `mentor-pl references convert --from` takes it, to converter."""

__all__ = ["CONVERTERS", "Converter", "Rejected", "bfcl", "chat", "gsm8k", "mentor_parquet", "question_answer"]
__all__ += ["glaive", "hermes", "tau", "toolace", "verl", "xlam"]
