"""Converting a file: every reference that is written has been replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mentor_pl.errors import DataFileError
from mentor_pl.files.references import write_references
from mentor_pl.reference import Reference
from mentor_pl.references.converters import Converter, Rejected
from mentor_pl.references.replay import find_fault
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.tools.toolbox import ToolBox


@dataclass(slots=True, kw_only=True)
class ConversionReport:
    """What became of a source.

    Attributes:
        written: References in the output.
        reasons: Why pieces of the source were rejected, with their numbers.
        examples: For each reason the first `path:line`.
    """

    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of all pieces, the fraction that was written."""
        total = self.written + self.reasons.total()
        return self.written / total if total else 0.0


def convert(
    converter: Converter,
    source: Path,
    output: Path,
    *,
    judges: Sequence[RewardComponent],
    toolbox: ToolBox | None = None,
    final_tools: Collection[str] = (),
) -> ConversionReport:
    """Write the references of a source that hold when replayed.

    Args:
        converter: One of `CONVERTERS`.
        source: The file to read.
        output: The reference file to write, whole or not at all.
        judges: Each must score a reference's own solution 1.0.
        toolbox: Runs every call again, where given; a prompt with neither tools nor a solution is
            offered its tools.
        final_tools: Tools whose call ends a solution; their arguments are its answer.

    Raises:
        DataFileError: The source is not what the converter is for, or yields nothing.
    """
    report = ConversionReport()

    def held() -> Iterator[Reference]:
        for place, piece in enumerate(converter(source), start=1):
            if isinstance(piece, Rejected):
                where, reason = piece.where, piece.reason
            else:
                if toolbox and not (piece.tools or piece.messages or piece.tool_calls):
                    piece = replace(piece, tools=toolbox.specs)
                where, reason = (
                    f"{source}: reference {place}",
                    find_fault(piece, judges=judges, toolbox=toolbox, final_tools=final_tools),
                )
                if reason is None:
                    report.written += 1
                    yield piece
                    continue
            report.reasons[reason] += 1
            report.examples.setdefault(reason, where)
        if not report.written:
            most = report.reasons.most_common(3)
            why = "; ".join(f"{reason} ({count}, first at {report.examples[reason]})" for reason, count in most)
            raise DataFileError(f"{source}: no reference could be made of it: {why or 'it is empty'}")

    write_references(output, held())
    return report
