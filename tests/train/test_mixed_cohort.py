"""Levers that are data of a run train with their control as one program, and each run is what it is alone."""

import pytest

from flowlab.study.recipe import FlowTime, ManeuverWeights
from flowlab.study.versions import BEFORE
from flowlab.train.checkpoint import load_resume, save_resume
from flowlab.train.cohort import Run, group_into_cohorts
from tests.train.conftest import equal_weights

OBJECTIVE = {
    "delta-off": {"delta_weight": 0.0},
    "delta-unweighted": {"delta_weighted": False},
    "lds-off": {"lds": ManeuverWeights(alpha=0.0)},
    "lds-steering": {"lds": ManeuverWeights(channel_alpha={"steering": 1.5})},
    "lds-cap": {"lds": ManeuverWeights(alpha=1.0, cap=40.0)},
    "lds-cap-on-mean": {"lds": ManeuverWeights(alpha=1.0, cap=1.2, cap_on="multiple-of-mean")},
    "uniform": {"flow_time": FlowTime(kind="uniform")},
    "beta": {"flow_time": FlowTime(kind="beta", alpha=2.0, end=0.9)},
    "early": {"flow_time": FlowTime(mean=-1.0, std=0.5)},
    "coupled": {"coupling": "optimal-transport"},
}
TRAIN = {
    "lr-half": {"lr": 1.5e-3},
    "ema": {"ema_decay": 0.99},
    "ema-short": {"ema_decay": 0.5},
    "history-dropout": {"history_dropout": 0.4},
    "decay-off": {"weight_decay": 0.0},
    "betas": {"betas": (0.8, 0.99)},
    "warm-up": {"warmup_steps": 6},
    "warm-up-ahead": {"warmup_from_zero": False},
    "clip": {"clip_norm": 0.05},
}
DECODER = {"dropout-off": {"dropout": 0.0}, "dropout-half": {"dropout": 0.5}}
CHANGES = {
    **{name: {"objective": change} for name, change in OBJECTIVE.items()},
    **{name: {"train": change} for name, change in TRAIN.items()},
    **{name: {"decoder": change} for name, change in DECODER.items()},
}


def changed(run: Run, run_id: str, changes: dict) -> Run:
    """`run` with parts of its recipe changed."""
    parts = {part: getattr(run.recipe, part).model_copy(update=change) for part, change in changes.items()}
    return Run(run_id, run_id, run.seed, run.recipe.model_copy(update=parts))


@pytest.fixture
def runs(run_of) -> list[Run]:
    """The control at two seeds, and each lever at one of them."""
    control = [run_of(seed=seed, run_id=f"control-{seed}") for seed in (1, 2)]
    return control + [changed(run_of(seed=1), name, changes) for name, changes in CHANGES.items()]


def test_all_of_them_are_one_cohort_and_each_equals_its_solo_run(train, runs):
    assert [cohort.size for cohort in group_into_cohorts(runs, largest=99)] == [len(runs)]
    together = train(*runs)
    for position, run in enumerate(runs):
        alone = train(run)
        assert equal_weights(together, position, alone, 0), run.run_id
        assert together.rows[position] == alone.rows[0], run.run_id


def test_each_lever_moves_its_run(train, runs):
    together = train(*runs)
    unmoved = [
        run.run_id for position, run in enumerate(runs) if position and equal_weights(together, 0, together, position)
    ]
    assert unmoved == []


def test_the_control_does_not_feel_who_shares_its_cohort(train, runs):
    plain = train(runs[0])
    for name in ("ema", "coupled", "history-dropout"):
        beside = train(runs[0], next(run for run in runs if run.run_id == name))
        assert equal_weights(plain, 0, beside, 0), name
        assert plain.rows[0] == beside.rows[0], name


SHAPES = {
    "regression": {"objective": {"kind": "regression"}},
    "slot-queries": {"objective": {"kind": "regression"}, "decoder": {"kind": "slot-queries"}},
    "rotary-off": {"decoder": {"rotary_slots": False}},
    "before": {"decoder": {k.removeprefix("decoder."): v for k, v in BEFORE.items() if k.startswith("decoder.")}},
    "slot-adaln": {"decoder": {"slot_adaln": True}},
    "condition": {"decoder": {"condition_adaln": True, "condition_norm": True, "condition_projection": "mlp"}},
    "projection-off": {"decoder": {"condition_projection": "none"}},
    "plug-in": {"decoder": {"kind": "tests.policy.mlp_decoder:build"}},
}


def test_another_shape_is_another_cohort(run_of):
    others = {
        **SHAPES,
        "batch": {"train": {"batch": 4}},
        "steps": {"train": {"steps": 7}},
        "looks": {"train": {"sample_every": 1}},
        "rungs": {"train": {"keep_every": 1}},
        "edges": {"objective": {"lds": ManeuverWeights(edges="mirror")}},
        "options": {"objective": {"options": {"delta": 0.5}}},
        "transform": {"action_space": {"transform": "standardise"}},
        "draws": {"evaluation": {"draws": 8}},
    }
    runs = [run_of(), *(changed(run_of(), name, changes) for name, changes in others.items())]
    assert [cohort.size for cohort in group_into_cohorts(runs, largest=99)] == [1] * len(runs)


@pytest.mark.parametrize("shape", SHAPES)
def test_runs_of_another_shape_equal_their_solo_runs_too(train, run_of, shape):
    runs = [
        changed(run_of(seed=seed, lr=lr), f"{shape}-{seed}", SHAPES[shape])
        for seed, lr in ((1, 3e-3), (2, 1e-3), (1, 1e-3))
    ]
    together = train(*runs)
    for position, run in enumerate(runs):
        alone = train(run)
        assert equal_weights(together, position, alone, 0)
        assert together.rows[position] == alone.rows[0]
    assert not equal_weights(together, 0, together, 2)


def test_a_policy_of_one_slot_equals_its_solo_run_and_has_no_delta_loss(train, run_of, split_of):
    on = split_of(50, slots=1)
    runs = [run_of(seed=1), run_of(seed=2), run_of(seed=1, delta_weight=0.0)]
    together, alone = train(*runs, on=on), train(runs[1], on=on)
    assert equal_weights(together, 1, alone, 0)
    assert equal_weights(together, 0, together, 2), "a delta weight on one slot changes nothing"
    assert "delta_mse" not in {row.metric for row in together.rows[0]}


def test_a_regression_reports_its_own_error_and_no_buckets(train, run_of):
    rows = train(changed(run_of(), "regression", SHAPES["regression"])).rows[0]
    assert {(row.metric, row.slice) for row in rows if row.slice != "train"} == {("chunk_mse", "overall")}
    assert {"chunk_mse", "delta_mse", "pe_drift"} <= {row.metric for row in rows if row.slice == "train"}


def test_a_plug_in_learns_and_has_no_slots_to_drift(train, run_of):
    rows = train(changed(run_of(steps=120), "plug-in", SHAPES["plug-in"])).rows[0]
    errors = [row.value for row in rows if row.slice == "overall"]
    assert errors[-1] < 0.9 * errors[0]
    assert "pe_drift" not in {row.metric for row in rows}


def test_an_average_survives_a_kill(train, runs, tmp_path):
    chosen = [run for run in runs if run.run_id in ("control-1", "ema", "ema-short")]
    whole = train(*chosen, every_step=True)
    assert [bool(whole.kept[7][run].average) for run in range(3)] == [False, True, True]
    for position, state in whole.kept[7].items():
        save_resume(tmp_path / str(position), state, "run")
    resumed = train(*chosen, resume=[load_resume(tmp_path / str(position), "run", 99) for position in range(3)])
    for position in range(3):
        assert equal_weights(resumed, position, whole, position)
        assert resumed.rows[position] == [row for row in whole.rows[position] if row.step > 7]


def test_one_draw_per_frame_is_looked_at_every_so_many_epochs_but_not_at_the_end(train, run_of):
    run = changed(run_of(steps=24), "often", {"train": {"sample_every": 2}})
    asked = []

    def sample(objective, decoder, step):
        asked.append(step)
        return [[]]

    train(run, sample=sample)
    assert asked == [12]  # six steps an epoch: epochs 2 and 4 are due, and the run ends with epoch 4
