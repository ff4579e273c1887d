"""A GPU's way to go a step: all of it is recorded once, as one graph, and replayed with one launch.

A step of the published control is some 650 kernels (benchmarks/operations.py), many of which take less time than their
launch. What a graph replays are the same kernels at the same places of memory, so it is believed only after its first
step gave the bits of the plain way; else training goes on the plain way.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from flowlab.policy.decoder import Decoder
from flowlab.policy.objectives import FlowMatching, Regression
from flowlab.policy.slot_queries import SlotQueries
from flowlab.train.data import Batch
from flowlab.train.step import Step

WARM_UP = 3  # steps the plain way, in which libraries set themselves up

Report = dict[str, Tensor]
Inputs = tuple[Tensor, Batch]
Record = Callable[[Callable[[], Report]], tuple[Report, Callable[[], object]]]
"""Records what a function does on the device, without doing it; what it returned, and what does it (again)."""


def cuda_graph(program: Callable[[], Report]) -> tuple[Report, Callable[[], object]]:
    """Record it as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        report = program()
    return report, graph.replay


def may_be_recorded(step: Step) -> bool:
    """Whether a step of flowlab's own decoders and objectives goes on a GPU; what a plug-in does is not known."""
    own = isinstance(step.decoder, Decoder | SlotQueries) and isinstance(step.objective, FlowMatching | Regression)
    return own and step.number.device.type == "cuda"


class Replayed:
    """Goes the steps of a cohort by replaying one of them, with the inputs of each put where the first one's lay."""

    def __init__(self, step: Step, say: Callable[[str], object], record: Record = cuda_graph) -> None:
        self.step, self.say, self.record = step, say, record
        self.step.dropout.ahead = True
        self.left_to_warm_up = WARM_UP
        self.inputs: Inputs | None = None
        self.replay: Callable[[], object] | None = None
        self.report: Report = {}

    def __call__(self, condition: Tensor, batch: Batch) -> Report:
        """Go the step that was begun, as Step does."""
        inputs = self._in_their_places((condition, batch))
        if self.replay:
            self.replay()
            return dict(zip(self.report, torch.stack(list(self.report.values())), strict=True))
        self.left_to_warm_up -= 1
        return self._recorded(inputs) if self.left_to_warm_up == -1 else self.step(*inputs)

    def _in_their_places(self, inputs: Inputs) -> Inputs:
        """The inputs, at the places of memory where the first ones lay."""
        if self.inputs is None:
            self.inputs = _own(inputs[0]), Batch(*map(_own, _fields(inputs[1])))
            return self.inputs
        for place, value in zip(_fields(self.inputs), _fields(inputs), strict=True):
            _put(place, value)
        return self.inputs

    def _recorded(self, inputs: Inputs) -> Report:
        """Go a step the plain way, record it, and see whether a replay does the same."""
        before = _copies(self.step.state())
        report = self.step(*inputs)
        after = _copies(self.step.state())
        _restore(self.step.state(), before)
        try:
            self.report, replay = self.record(lambda: self.step(*inputs))
            replay()
            same = _alike([*self.step.state(), *self.report.values()], [*after, *report.values()])
            why = "its replay gave other numbers"
        except RuntimeError as error:
            same, why = False, str(error).splitlines()[0].rstrip(".")
        if same:
            self.replay = replay
        else:
            _restore(self.step.state(), after)
            self.say(f"A step could not be recorded as a CUDA graph: {why}. Training goes on without, more slowly.")
        return report


def _fields(inputs: Batch | Inputs) -> list[Tensor]:
    if isinstance(inputs, Batch):
        return [getattr(inputs, field.name) for field in dataclasses.fields(Batch)]
    return [inputs[0], *_fields(inputs[1])]


def _own(x: Tensor) -> Tensor:
    """A copy of x (R, ...); what all runs share is there once."""
    return x[:1].clone().expand_as(x) if _is_shared(x) else x.clone()


def _put(place: Tensor, x: Tensor) -> None:
    if _is_shared(place):
        place, x = place[0], x[0]
    place.copy_(x)


def _is_shared(x: Tensor) -> bool:
    return len(x) > 1 and x.stride(0) == 0


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [one.detach().clone() for one in tensors]


@torch.no_grad()
def _restore(tensors: list[Tensor], before: list[Tensor]) -> None:
    for one, kept in zip(tensors, before, strict=True):
        one.copy_(kept)


def _alike(ones: list[Tensor], others: list[Tensor]) -> bool:
    """Whether all have the same bits, be they numbers or not."""
    pairs = zip(ones, others, strict=True)
    return all(torch.equal(*(x.detach().reshape(-1).view(torch.uint8) for x in pair)) for pair in pairs)
