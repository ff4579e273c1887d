from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlab.core.digest import canonical_json
from flowlab.core.errors import MissingError, StudyError, UnknownNameError
from flowlab.study.lever import FIXED, OPEN_TABLES, changed_keys, flat_keys, idle_keys, twin_keys
from flowlab.study.lever import pull as pull_lever
from flowlab.study.recipe import EvaluationSettings, ObjectiveSettings, Recipe
from flowlab.study.settings import Inputs, LeverSettings
from flowlab.study.setup import Setup
from flowlab.study.study import find_study, load_study
from flowlab.study.versions import BEFORE, spell

INPUTS = Inputs.model_validate({"drives": {"source": "carracing"}, "split": {"num_val": 1}})
PLAIN = Setup(recipe=Recipe(), inputs=INPUTS)


def pull(name, control, changes):
    return pull_lever(name, control, LeverSettings(set=changes))


def digest(setup):
    """A name of all that a run is made from."""
    return canonical_json(setup.to_json())


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
    assert changed_keys(study.base, study.setup("delta-off")) == ["objective.delta_weight"]


def test_an_empty_set_is_a_placebo_with_the_controls_digest(study_of):
    study = study_of(more="[levers.placebo]\nset = {}\n")
    assert study.recipe("placebo").digest("cache") == study.control.digest("cache")


def test_a_lever_on_one_key_of_a_table_leaves_its_other_keys_as_the_control_has_them():
    control = pull("base", PLAIN, {"objective.lds.cap": 7.0})
    lever = pull("lds-off", control, {"objective": {"lds": {"alpha": 0.0}}})
    assert changed_keys(control, lever) == ["objective.lds.alpha"]
    assert lever.recipe.objective.lds.cap == 7.0


def test_a_list_is_set_whole():
    lever = pull("betas", PLAIN, {"train.betas": [0.9, 0.99]})
    assert lever.recipe.train.betas == (0.9, 0.99)


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
    assert Recipe().digest("cache") == "4a21a751e6f5f86d"


def test_the_default_recipe_of_version_1_has_the_name_that_it_had():
    """Nothing that version 2 added counts where it does what version 1 did."""
    fixed = {"evaluation": EvaluationSettings(clip=BEFORE["evaluation.clip"])}
    written = pull("control", PLAIN, {key: value for key, value in BEFORE.items() if key != "evaluation.clip"}).recipe
    assert written.model_copy(update=fixed).digest("cache") == "d597ee74fbc5d6c0"


# Another value of each key whose kind does not say what that could be.
OTHER = {
    "action_space.tails": "linear",
    "action_space.transform": "identity",
    "decoder.condition_projection": "mlp",
    "decoder.dropout_at": "residuals",
    "decoder.first_wave": 0,
    "decoder.gate": "silu",
    "decoder.heads": 2,
    "decoder.horizon": 3,
    "decoder.init": "xavier",
    "decoder.kind": "my_module:Decoder",
    "decoder.options": {"depth": 2},
    "decoder.width": 64,
    "evaluation.precision": "float16",
    "evaluation.solver": "euler",
    "objective.coupling": "optimal-transport",
    "objective.flow_time.kind": "uniform",
    "objective.kind": "regression",
    "objective.lds.alpha": 0.25,
    "objective.lds.cap_on": "multiple-of-mean",
    "objective.lds.edges": "mirror",
    "objective.lds.channel_alpha": {"steering": 1.0},
    "objective.options": {"depth": 2},
    "train.shuffle": "blocks",
    "train.arithmetic": "bfloat16",
    "evaluation.arithmetic": "tf32",
}
# What the control must have for a key to count.
NEEDED = {
    "action_space.mu": {"action_space.transform": "mu-law"},
    "action_space.relative_floor": {"action_space.transform": "gaussianize-dct"},
    "action_space.sigma_floor": {"action_space.transform": "chunk-dct"},
    "decoder.options": {"decoder.kind": "my_module:Decoder"},
    "drives.options": {"drives.source": "my_module:Source"},
    "encoder.options": {"encoder.kind": "my_module:Encoder"},
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
    control = pull("control", PLAIN, NEEDED.get(key, {}))
    tables = control.recipe.to_json()
    *above, last = key.split(".")
    place = tables
    for name in above:
        place = place[name]
    place[last] = another(key, place[last])
    assert Recipe.model_validate(tables).digest("cache") != control.recipe.digest("cache")


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_every_key_of_an_open_table_is_part_of_the_digest(table):
    control = pull("control", PLAIN, NEEDED.get(table, {}) | {table: {"first": 1.0, "second": 1.0}})
    levers = [pull("lever", control, {f"{table}.{name}": 2.0}) for name in ("first", "second", "third")]
    assert len({digest(setup) for setup in (control, *levers)}) == 4


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_a_lever_adds_to_an_open_table_and_keeps_what_is_in_it(table):
    control = pull("control", PLAIN, NEEDED.get(table, {}) | {table: {"first": 1.0}})
    lever = pull("lever", control, {table: {"second": 2.0}})
    assert changed_keys(control, lever) == [f"{table}.second"]


@pytest.mark.parametrize("key", sorted(key for key in NEEDED if not key.startswith(("drives", "encoder"))))
def test_a_lever_on_a_key_that_does_nothing_is_refused(key):
    with pytest.raises(StudyError, match=rf"^levers\.lever sets {key}.*, which does nothing here: .* Leave it out\.$"):
        pull("lever", PLAIN, {key: another(key, dict(flat_keys(Recipe().to_json()))[key])})


IDLE = {  # beside a key that does nothing: what the control has, and why
    "decoder.rotary_base": ({"decoder.rotary_slots": False}, "decoder.rotary_slots is false"),
    "decoder.dropout_at": ({"decoder.dropout": 0.0}, "decoder.dropout is 0"),
    "objective.delta_weighted": ({"objective.delta_weight": 0.0}, "objective.delta_weight is 0"),
    "objective.lds.cap_on": ({"objective.lds.alpha": 0.0}, "with alpha 0 all weights are 1"),
    "objective.lds.edges": ({"objective.lds.alpha": 0.0}, "with alpha 0 all weights are 1"),
    "action_space.tails": ({"action_space.transform": "identity"}, "only the transform 'gaussianize' or"),
    "decoder.first_wave": (
        {"decoder.kind": "slot-queries", "objective.kind": "regression"},
        "the decoder 'slot-queries' has no flow time",
    ),
}


@pytest.mark.parametrize("key", IDLE)
def test_a_key_that_counts_by_default_is_refused_where_the_control_leaves_it_nothing_to_do(key):
    with_it, why = IDLE[key]
    value = another(key, dict(flat_keys(Recipe().to_json()))[key])
    assert changed_keys(PLAIN, pull("lever", PLAIN, {key: value})) == [key]
    with pytest.raises(StudyError, match=rf"^levers\.lever sets {key}, which does nothing here: {why}"):
        pull("lever", pull("control", PLAIN, with_it), {key: value})


@pytest.mark.parametrize("table", OPEN_TABLES)
def test_a_lever_empties_an_open_table(table):
    control = pull("control", PLAIN, NEEDED.get(table, {}) | {table: {"first": 1.0}})
    assert changed_keys(control, pull("lever", control, {table: {}})) == [f"{table}.first"]


def test_the_options_of_a_plug_in_may_be_nested():
    lever = pull("lever", PLAIN, {"decoder.kind": "my_module:build", "decoder.options": {"mlp": {"hidden": 8}}})
    assert lever.recipe.decoder.options == {"mlp": {"hidden": 8}}
    assert changed_keys(PLAIN, lever) == ["decoder.kind", "decoder.options.mlp.hidden"]


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


REFUSED = {
    "evaluation.draws": (7, "must be evaluated in one way to be compared. Change control.evaluation.draws instead"),
    "windows.horizon": (4, "the chunk is what all runs predict. Change decoder.horizon"),
    "split.val": (["drive_00"], "scored on the control's validation frames. Leave it out"),
    "split.num_val": (2, "scored on the control's validation frames. Leave it out"),
    "split.val_per": (1, "scored on the control's validation frames. Leave it out"),
    "split.blocks": (60.0, "other blocks are other validation frames"),
    "split.scale": ("overfit", "scored on the control's validation frames. Leave 'overfit' out"),
}


def test_every_fixed_key_has_a_case():
    assert {key.split(".")[0] if key.startswith("evaluation") else key for key in REFUSED} == set(FIXED)


@pytest.mark.parametrize("key", REFUSED)
def test_what_no_lever_may_change_is_refused_with_the_reason(key):
    value, why = REFUSED[key]
    with pytest.raises(StudyError, match=rf"^levers\.lever sets {key}: .*{why}"):
        pull("lever", PLAIN, {key: value})


def test_a_whole_table_of_what_no_lever_may_change_is_refused_too():
    with pytest.raises(StudyError, match=r"^levers\.lever sets evaluation\.draws: "):
        pull("lever", PLAIN, {"evaluation": {"draws": 7}})


def test_the_scale_is_a_levers_to_change_unless_one_drive_does_both():
    assert pull("lever", PLAIN, {"split.scale": "pilot"}).inputs.split.scale == "pilot"
    overfit = PLAIN.model_copy(
        update={"inputs": Inputs.model_validate({"drives": {"source": "carracing"}, "split": {"scale": "overfit"}})}
    )
    with pytest.raises(StudyError, match=r"^levers\.lever sets split\.scale: "):
        pull("lever", overfit, {"split.scale": "pilot"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("drives.count", 5),
        ("split.choice", "stratified"),
        ("split.without", ["drive_00"]),
        ("windows.history", 4),
        ("windows.max_gap_s", 1.0),
        ("encoder.width", 64),
        ("cache.variants", ["normal"]),
    ],
)
def test_a_lever_on_an_input_changes_that_input_and_leaves_the_recipe_alone(key, value):
    lever = pull("lever", PLAIN, {key: value})
    assert changed_keys(PLAIN, lever) == [key]
    assert lever.recipe == PLAIN.recipe
    assert lever.inputs != PLAIN.inputs


def test_a_lever_may_change_recipe_and_inputs_at_once():
    lever = pull("lever", PLAIN, {"encoder.width": 64, "train.lr": 0.5})
    assert changed_keys(PLAIN, lever) == ["encoder.width", "train.lr"]


def test_a_lever_may_take_another_kind_of_encoder_whose_table_then_begins_anew():
    lever = pull("lever", PLAIN, {"encoder.options.depth": 2, "encoder.kind": "my_module:Encoder"})
    assert lever.inputs.encoder.model_dump() == {"kind": "my_module:Encoder", "options": {"depth": 2}}


def test_a_lever_may_take_another_source_of_drives():
    lever = pull("lever", PLAIN, {"drives": {"source": "udacity", "roots": ["a", "b"]}})
    assert lever.inputs.drives.roots == ("a", "b")
    lever = pull("lever", PLAIN, {"drives.source": "synthetic"})
    assert lever.inputs.drives.model_dump()["frames"] == 200


def test_another_source_needs_what_it_needs():
    with pytest.raises(StudyError, match=r"^levers\.lever sets drives\.roots"):
        pull("lever", PLAIN, {"drives.source": "udacity"})


def test_a_lever_that_sets_what_the_control_has_is_idle_and_no_error():
    lever = LeverSettings(set={"encoder.width": 384, "train.lr": 0.5, "windows": {"history": 6}})
    setup = pull_lever("lever", PLAIN, lever)
    assert idle_keys(PLAIN, setup, lever) == ["encoder.width", "windows.history"]
    assert changed_keys(PLAIN, setup) == ["train.lr"]


def test_what_another_kind_of_encoder_is_given_is_not_idle():
    lever = LeverSettings(set={"encoder.kind": "huggingface", "encoder.model": "m", "encoder.heads": 4})
    assert idle_keys(PLAIN, pull_lever("lever", PLAIN, lever), lever) == []


def test_a_table_that_is_emptied_of_something_is_not_idle():
    control = pull("control", PLAIN, {"objective.kind": "a:b", "objective.options": {"first": 1}})
    lever = LeverSettings(set={"objective.options": {}})
    assert idle_keys(control, pull_lever("lever", control, lever), lever) == []
    assert idle_keys(PLAIN, PLAIN, LeverSettings(set={})) == []


def test_a_root_is_the_same_as_a_list_of_one_root():
    one, other = (
        Inputs.model_validate({"drives": {"source": "udacity"} | roots, "split": {"num_val": 1}})
        for roots in ({"root": "rec"}, {"roots": ["rec"]})
    )
    assert one.to_json() == other.to_json()
    assert one.to_json()["drives"] == {"source": "udacity", "roots": ["rec"], "max_fault_share": 0.02}


@pytest.mark.parametrize("source", ["udacity", "my_module:Source"])
def test_a_share_of_faults_is_no_part_of_what_a_cache_is_called_unless_it_is_another(source):
    tables = {"source": source} | ({"roots": ["rec"]} if source == "udacity" else {})
    plain, same, other = (
        spell(Inputs.model_validate({"drives": tables | share, "split": {"num_val": 1}}).to_json())["drives"]
        for share in ({}, {"max_fault_share": 0.02}, {"max_fault_share": 0.1})
    )
    assert "max_fault_share" not in plain and plain == same
    assert other == plain | {"max_fault_share": 0.1}


STACKED = 'stacked = ["uniform"]\n'
UNIFORM = """
[levers.uniform]
set = { "objective.flow_time.kind" = "uniform", "encoder.width" = 64 }
[levers.narrow]
set = { "encoder.width" = 64 }
"""


def test_the_base_has_the_inputs_and_the_recipe_of_what_is_stacked_and_the_file_setup_has_not(study_of):
    study = study_of('rule = "panel"\n', f'rule = "panel"\n{STACKED}', UNIFORM)
    assert (study.base.inputs.encoder.width, study.file_setup.inputs.encoder.width) == (64, 384)
    assert study.control.objective.flow_time.kind == "uniform"
    assert study.idle_keys("narrow") == ["encoder.width"]


def test_a_lever_that_the_base_has_made_pointless_is_left_out_of_the_open_ones_and_told(study_of):
    """With a uniform flow time there is no std to set: the file was sound before that lever was stacked."""
    more = UNIFORM + '[levers.std]\nset = { "objective.flow_time.std" = 2.0 }\n'
    study = study_of('rule = "panel"\n', 'rule = "panel"\n', more)
    assert study.open_levers == ("delta-off", "uniform", "narrow", "std")
    study = study_of('rule = "panel"\n', f'rule = "panel"\n{STACKED}', more)
    assert study.open_levers == ("delta-off", "narrow")
    assert list(study.overtaken) == ["std"]
    assert "levers.std sets objective.flow_time.std, which does nothing here" in study.overtaken["std"]


def test_a_control_that_took_in_a_lever_with_stats_of_its_own_keeps_them(study_of):
    own = '\n[levers.own]\nset = { "split.without" = ["a"] }\nstats = "own"\n'
    assert study_of(more=own).setup("own").stats == "own"
    stacked = study_of('rule = "panel"\n', 'rule = "panel"\nstacked = ["own"]\n', own)
    assert stacked.stats_inputs == stacked.base.inputs != stacked.file_setup.inputs
    assert study_of(more=own).stats_inputs == stacked.file_setup.inputs


@pytest.mark.parametrize(
    ("changes", "twins"),
    [
        ({"train.lr": 1.6e-4 * (1 + 9e-7)}, ["train.lr"]),
        ({"train.lr": 1.6e-4 * (1 + 2e-6)}, []),
        ({"train.lr": 1.6e-4 * (1 + 1e-9), "decoder.dropout": 0.1 - 1e-9}, ["decoder.dropout", "train.lr"]),
        ({"train.lr": 1.6e-4 * (1 + 1e-9), "decoder.dropout": 0.2}, []),
        ({"train.steps": 3501}, []),
        ({"objective.delta_weight": 1e-9}, []),
        ({}, []),
    ],
)
def test_a_lever_that_changes_by_less_than_a_millionth_is_a_twin(changes, twins):
    assert twin_keys(PLAIN, pull("lever", PLAIN, changes)) == twins


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("drives", "count", 10**30),
        ("drives", "seconds", 1e12),
        ("encoder", "width", 2**40),
        ("encoder", "image_layers", 10**9),
        ("windows", "horizon", 10**12),
        ("windows", "max_gap_s", 1e300),
    ],
)
def test_sizes_have_sane_upper_bounds(table, key, value):
    tables = INPUTS.to_json()
    tables[table][key] = value
    with pytest.raises(ValueError, match="less than or equal to"):
        Inputs.model_validate(tables)


def test_an_image_of_too_many_patches_is_refused():
    tables = INPUTS.to_json()
    tables["encoder"] |= {"image_height": 4096, "image_width": 4096, "patch": 1}
    with pytest.raises(ValueError, match="16777216 patches of 1 pixels are too many"):
        Inputs.model_validate(tables)
