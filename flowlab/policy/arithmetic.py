"""In which numbers matrix products are computed: what `train.arithmetic` and `evaluation.arithmetic` mean.

float32   throughout, the control's.
tf32      a GPU rounds the factors of a product to 10 bits of mantissa and adds up in float32.
bfloat16  the matrices of a decoder, and what is multiplied with them, have 7 bits of mantissa; sums are float32.
          Vectors, norms, the tokens between sublayers, the loss, gradients' sum, moments and averages stay float32.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from flowlab.core.errors import StudyError
from flowlab.policy.decoder import AnyDecoder
from flowlab.policy.foreign import ForeignDecoder

FIRST_CAPABLE = (8, 0)  # the compute capability of the first GPUs that multiply in these numbers

PRODUCTS = torch.backends.cuda.matmul
PRECISION, FLOAT32, TF32 = ("fp32_precision", "ieee", "tf32")
if not hasattr(PRODUCTS, PRECISION):  # before torch 2.9
    PRECISION, FLOAT32, TF32 = ("allow_tf32", False, True)  # type: ignore[assignment]


def require_products(key: str, arithmetic: str, device: torch.device) -> None:
    """Raises StudyError, naming the setting `key`, for an arithmetic that the device does not have."""
    if arithmetic == "float32":
        return
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < FIRST_CAPABLE:
        name = torch.cuda.get_device_name(device)
        raise StudyError(f"{key}: {name} has no {arithmetic} products, only later GPUs do. Set it to float32.")
    if device.type != "cuda" and arithmetic == "tf32":
        raise StudyError(
            f"{key} is tf32, which only a GPU has, and this is a {device.type.upper()}. Give --device cuda where there "
            f"is one, or set {key} to float32."
        )


@contextmanager
def products_in(arithmetic: str) -> Iterator[None]:
    """Within it a GPU computes products of float32 as `arithmetic` says, and adds up bfloat16 ones in float32."""
    wanted = {PRECISION: TF32 if arithmetic == "tf32" else FLOAT32, "allow_bf16_reduced_precision_reduction": False}
    before = {name: getattr(PRODUCTS, name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(PRODUCTS, name, value)


def decoder_in(arithmetic: str, decoder: AnyDecoder) -> AnyDecoder:
    """What computes in `arithmetic`: the decoder itself, or a copy with matrices of bfloat16.

    Raises StudyError for a plug-in in bfloat16: how it computes is its own.
    """
    if arithmetic != "bfloat16":
        return decoder
    if isinstance(decoder, ForeignDecoder):
        raise StudyError("bfloat16 is for flowlab's own decoders, and this one is a plug-in. Use float32.")
    made = copy.deepcopy(decoder)
    for _, parameter in made.named_stacked():
        if parameter.decays:
            parameter.data = parameter.data.to(torch.bfloat16)
    return made
