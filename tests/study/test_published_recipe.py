"""A control that says nothing has the published numbers."""

import pytest

from flowlab.study.recipe import Recipe

PUBLISHED = {
    "objective.kind": "flow",
    "objective.delta_weight": 10.0,
    "objective.delta_weighted": True,
    "objective.coupling": "independent",
    "objective.flow_time.kind": "logit-normal",
    "objective.flow_time.mean": 0.0,
    "objective.flow_time.std": 1.0,
    "objective.lds.alpha": 0.5,
    "objective.lds.cap": 15.0,
    "objective.lds.cap_on": "inverse-density",
    "objective.lds.edges": "repeat",
    "action_space.merge": True,
    "action_space.transform": "gaussianize",
    "action_space.knots": 256,
    "decoder.kind": "transformer",
    "decoder.width": 256,
    "decoder.layers": 4,
    "decoder.heads": 4,
    "decoder.dropout": 0.1,
    "decoder.mlp_multiplier": 1.0,
    "decoder.gate": "gelu",
    "decoder.init": "torch",
    "decoder.dropout_at": "attention",
    "decoder.final_norm": False,
    "decoder.adaln_silu": False,
    "decoder.first_wave": 1,
    "decoder.logit_limit": 2.0**-23,
    "decoder.rotary_slots": True,
    "decoder.rotary_base": 10.0,
    "train.batch": 1024,
    "train.steps": 3500,
    "train.lr": 1.6e-4,
    "train.warmup_steps": 200,
    "train.warmup_from_zero": True,
    "train.betas": [0.9, 0.95],
    "train.weight_decay": 0.1,
    "train.history_dropout": 0.0,
    "train.ema_decay": 0.0,
    "evaluation.draws": 32,
    "evaluation.solver": "heun",
    "evaluation.solver_steps": 32,
    "evaluation.noise_scale": 1.0,
}


@pytest.mark.parametrize("key", PUBLISHED)
def test_the_default_is_the_published_value(key):
    value = Recipe().to_json()
    for name in key.split("."):
        value = value[name]
    assert value == PUBLISHED[key]
