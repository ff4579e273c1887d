from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.digest import canonical_json
from flowlab.core.errors import MissingError, StudyError, UnknownNameError
from flowlab.study.lever import OPEN_TABLES, changed_keys, flat_keys, pull
from flowlab.study.recipe import ObjectiveSettings, Recipe
from flowlab.study.study import find_study, load_study


@pytest.fixture
def study_of(tmp_path, good_text):
    """The study of the good text, with a change made to it and something added."""

    def build(old="", new="", more=""):
        (tmp_path / "experiments.toml").write_text(good_text.replace(old, new) + more)
        return load_study(tmp_path)

    return build


def test_the_demo_study_of_this_repository_loads():
    assert load_study(Path(__file__).parents[2]).levers[0] == "placebo"


def test_a_study_is_found_from_below_and_by_a_relative_path(tmp_path, study_of, monkeypatch):
    study_of()
    (tmp_path / "runs" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs" / "deep")
    assert find_study(Path()) == tmp_path.resolve()


def test_no_study_above_says_how_to_start_one(tmp_path):
    with pytest.raises(MissingError, match="flowlab init DIR"):
        find_study(tmp_path)


def test_a_folder_named_experiments_toml_is_found_so_that_reading_can_name_it(tmp_path):
    (tmp_path / "experiments.toml").mkdir()
    assert find_study(tmp_path) == tmp_path.resolve()


def test_a_lever_may_not_change_how_runs_are_evaluated(study_of):
    with pytest.raises(
        StudyError, match=r"levers.more sets evaluation.draws: .* Change control.evaluation.draws instead"
    ):
        study_of(more='\n[levers.more]\nset = { "evaluation.draws" = 7 }\n')


def test_an_unknown_lever_names_the_nearest(study_of):
    with pytest.raises(UnknownNameError, match="unknown lever 'delta-of': did you mean 'delta-off'"):
        study_of().recipe("delta-of")


def test_the_control_is_a_recipe_by_name(study_of):
    study = study_of()
    assert study.recipe("control") == study.control


def test_a_lever_changes_what_it_names_and_nothing_else(study_of):
    study = study_of()
    assert changed_keys(study.control, study.recipe("delta-off")) == ["objective.delta_weight"]


def test_an_empty_set_is_a_placebo_with_the_controls_digest(study_of):
    study = study_of(more="[levers.placebo]\nset = {}\n")
    assert study.recipe("placebo").digest("cache") == study.control.digest("cache")


def test_a_lever_on_one_key_of_a_table_leaves_its_other_keys_as_the_control_has_them():
    control = pull("base", Recipe(), {"objective.lds.cap": 7.0})
    lever = pull("lds-off", control, {"objective": {"lds": {"alpha": 0.0}}})
    assert changed_keys(control, lever) == ["objective.lds.alpha"]
    assert lever.objective.lds.cap == 7.0


def test_a_list_is_set_whole():
    lever = pull("betas", Recipe(), {"train.betas": [0.9, 0.99]})
    assert lever.train.betas == (0.9, 0.99)


def test_an_integer_is_accepted_where_a_number_is_expected(study_of):
    assert study_of("delta_weight = 10.0", "delta_weight = 10").control.to_json()["objective"]["delta_weight"] == 10.0


def test_the_sign_of_a_zero_does_not_change_the_digest():
    recipes = [Recipe(objective=ObjectiveSettings(delta_weight=zero)) for zero in (0.0, -0.0)]
    assert recipes[0].digest("cache") == recipes[1].digest("cache")


def test_the_spelling_of_a_number_does_not_change_the_digest():
    one = Recipe.model_validate({"train": {"lr": 1, "weight_decay": 0.10}})
    other = Recipe.model_validate({"train": {"weight_decay": 1e-1, "lr": 1.0}})
    assert one.digest("cache") == other.digest("cache")


def test_drives_settings_are_written_out_whole(study_of):
    dumped = study_of().file.model_dump(mode="json")["drives"]
    assert dumped == {"source": "carracing", "count": 4, "seconds": 60.0, "hz": 10.0, "seed": 0}


def test_a_plug_in_source_takes_its_own_options(study_of):
    drives = '[drives]\nsource = "my_module:Source"\noptions = { depth = { deeper = 1 } }'
    study = study_of('[drives]\nsource = "carracing"\ncount = 4', drives)
    assert study.file.drives.options == {"depth": {"deeper": 1}}


def test_the_default_recipe_is_pinned():
    # A new key or default renames every run that a ledger holds. Change this literal only if that is meant.
    assert Recipe().digest("cache") == "d597ee74fbc5d6c0"


# Another value of each key whose kind does not say what that could be.
OTHER = {
    "action_space.transform": "identity",
    "decoder.condition_projection": "mlp",
    "decoder.heads": 2,
    "decoder.horizon": 3,
    "decoder.kind": "my_module:Decoder",
    "decoder.options": {"depth": 2},
    "decoder.width": 64,
    "evaluation.solver": "euler",
    "objective.coupling": "optimal-transport",
    "objective.flow_time.kind": "uniform",
    "objective.kind": "regression",
    "objective.lds.alpha": 0.25,
    "objective.lds.channel_alpha": {"steering": 1.0},
    "objective.options": {"depth": 2},
}
# What the control must have for a key to count.
NEEDED = {
    "action_space.mu": {"action_space.transform": "mu-law"},
    "action_space.sigma_floor": {"action_space.transform": "chunk-dct"},
    "decoder.options": {"decoder.kind": "my_module:Decoder"},
    "decoder.rotary_base": {"decoder.rotary_slots": True},
    "objective.flow_time.alpha": {"objective.flow_time.kind": "beta"},
    "objective.flow_time.end": {"objective.flow_time.kind": "beta"},
    "objective.options": {"objective.kind": "my_module:Objective"},
}


def another(key, old):
    """A value of `key` that is not `old`."""
    values = {bool: lambda v: not v, int: lambda v: v * 2 + 2, float: lambda v: v / 2 + 0.25, list: lambda v: v[::-1]}
    return OTHER[key] if key in OTHER else values[type(old)](old)


@pytest.mark.parametrize("key", [key for key, _ in flat_keys(Recipe().to_json())])
def test_every_key_is_part_of_the_digest(key):
    control = pull("control", Recipe(), NEEDED.get(key, {}))
    lever = pull("lever", control, {key: another(key, dict(flat_keys(control.to_json()))[key])})
    assert lever.digest("cache") != control.digest("cache")


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_every_key_of_an_open_table_is_part_of_the_digest(table):
    control = pull("control", Recipe(), NEEDED.get(table, {}) | {table: {"first": 1.0, "second": 1.0}})
    levers = [pull("lever", control, {f"{table}.{name}": 2.0}) for name in ("first", "second", "third")]
    assert len({recipe.digest("cache") for recipe in (control, *levers)}) == 4


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_a_lever_adds_to_an_open_table_and_keeps_what_is_in_it(table):
    control = pull("control", Recipe(), NEEDED.get(table, {}) | {table: {"first": 1.0}})
    lever = pull("lever", control, {table: {"second": 2.0}})
    assert changed_keys(control, lever) == [f"{table}.second"]


@pytest.mark.parametrize("key", sorted(NEEDED))
def test_a_lever_on_a_key_that_does_nothing_is_refused(key):
    with pytest.raises(StudyError, match=rf"^levers\.lever sets {key}.*, which does nothing here: .* Leave it out\.$"):
        pull("lever", Recipe(), {key: another(key, dict(flat_keys(Recipe().to_json()))[key])})


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_a_lever_empties_an_open_table(table):
    control = pull("control", Recipe(), NEEDED.get(table, {}) | {table: {"first": 1.0}})
    assert changed_keys(control, pull("lever", control, {table: {}})) == [f"{table}.first"]


def test_the_options_of_a_plug_in_may_be_nested():
    lever = pull("lever", Recipe(), {"decoder.kind": "my_module:build", "decoder.options": {"mlp": {"hidden": 8}}})
    assert lever.decoder.options == {"mlp": {"hidden": 8}}
    assert changed_keys(Recipe(), lever) == ["decoder.kind", "decoder.options.mlp.hidden"]


def test_the_cache_is_part_of_the_digest():
    assert Recipe().digest("cache") != Recipe().digest("other")


def test_the_rules_digest_changes_with_a_margin(study_of):
    before = study_of().rule
    after = study_of("0.004", "0.005").rule
    assert before.digest() != after.digest()


def test_the_panel_preset_is_written_out(study_of):
    stages = study_of().rule.stages
    assert [(stage.name, stage.statistic, stage.num_seeds, stage.bar) for stage in stages] == [
        ("triage", "paired", 1, 0.010),
        ("stack", "panel", 2, 0.015),
    ]


LEAVES = st.floats(-1, 1) | st.integers() | st.booleans()
KEYS = st.sampled_from(["a", "b", "c d"])
TABLES = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=2), lambda inner: st.dictionaries(KEYS, inner, min_size=1), max_leaves=6
)


@given(TABLES)
def test_flat_keys_hold_every_leaf_once(tables):
    pairs = flat_keys(tables)
    assert len({key for key, _ in pairs}) == len(pairs)
    rebuilt: dict = {}
    for key, value in pairs:
        *above, last = key.split(".")
        place = rebuilt
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    assert canonical_json(rebuilt) == canonical_json(tables)
