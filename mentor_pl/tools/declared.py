"""Tools that are declared by the prompt and not run, as in function-calling data."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from mentor_pl.messages import ToolCall, ToolResult
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolSession
from mentor_pl.tools.prompt_tools import PromptTools


class DeclaredTools(PromptTools):
    """Takes the tools that each prompt describes, and runs none of them.

    A call is checked against its schema. One that fits ends the trajectory (`StopReason.CALLED`,
    which counts as finished); one that does not is an error that the student reads, and may mend in
    its next turn. What a call is worth is the reward's to say, for example `CallMatch`.

    Args:
        described_by: Describes tools that a prompt only names; runs nothing. Closed together with
            this one.
    """

    parallel = True
    final = True

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session for the tools of a prompt; calls share nothing."""
        specs = () if reference is None else self.specs_for(reference)

        def run(call: ToolCall) -> ToolResult:
            refusal = self.refusal(call, specs)
            return refusal or ToolResult(call_id=call.call_id, content="[called]", final=True)

        return nullcontext(ToolSession(run=run))
