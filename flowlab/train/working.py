"""The decoder that a step computes with: the trained one, or a copy of it in other numbers."""

import torch
from torch import Tensor

from flowlab.policy.arithmetic import decoder_in
from flowlab.policy.decoder import AnyDecoder
from flowlab.train.flat import FlatWeights


class Working:
    """With bfloat16 the matrices are copies, rounded anew before each step; the vectors are the trained ones."""

    def __init__(self, decoder: AnyDecoder, flat: FlatWeights, arithmetic: str) -> None:
        self.decoder, self.flat = decoder_in(arithmetic, decoder), flat
        self.rounded: Tensor | None = None
        if self.decoder is not decoder:
            self.rounded = flat.weights[:, : flat.num_decaying].to(torch.bfloat16)
            self._share(self.rounded)
        self.parameters = [parameter for _, parameter in self.decoder.named_stacked()]

    def _share(self, rounded: Tensor) -> None:
        """Have the copy's matrices lie in the rounded rows, and its vectors be the trained ones."""
        trained, matrices = self.flat.by_name(self.flat.weights), self.flat.by_name(rounded)
        for name, parameter in self.decoder.named_stacked():
            parameter.data = matrices[name] if parameter.decays else trained[name]

    def refreshed(self) -> AnyDecoder:
        """The decoder with the weights of now."""
        if self.rounded is not None:
            self.rounded.copy_(self.flat.weights[:, : self.flat.num_decaying])
        return self.decoder
