"""Versions of the recipe: a study that was written before keeps its names, if its file says version 1.

The literals were computed with the flowlab that knew no versions.
"""

import pytest

from flowlab.core.digest import digest_json
from flowlab.core.errors import StudyError
from flowlab.lab.caches import wanted_caches
from flowlab.study.document import parse_document
from flowlab.study.lever import flat_keys
from flowlab.study.recipe import Recipe
from flowlab.study.settings import Inputs
from flowlab.study.study import Study, build_study
from flowlab.study.versions import ADDED, ADDED_SINCE, BEFORE, fill_in, is_before, read_recorded, spell, write_out
from tests.lab.small_study import small_text

CACHE = "0123456789abcdef"
REGRESSION = {"objective": {"kind": "regression", "lds": {"alpha": 0.0}, "delta_weight": 0.0}}
DCT = {
    "action_space": {"transform": "chunk-dct"},
    "decoder": {"width": 64, "heads": 2, "rotary_slots": True},
    "train": {"lr": 1e-3, "ema_decay": 0.999},
}
PLUG_INS = {
    "objective": {"kind": "mine:Flow", "options": {"depth": 2}},
    "decoder": {"kind": "mine:Decoder", "horizon": 3},
    "evaluation": {"draws": 4},
}
DIGESTS = [
    ({}, "a998c4bc7c39ca66"),
    (REGRESSION, "790a9d7243c069eb"),
    (DCT, "7f0a021494aed178"),
    (PLUG_INS, "a0f012342e2e71ba"),
]


def of_version(tables: dict, version: int) -> Recipe:
    return Recipe.model_validate(write_out({"control": tables}, version)["control"])


@pytest.fixture
def study_of(tmp_path, good_text):
    """The study of the good text with something in its [control], and with edits made to it."""

    def build(control: str = "", edits: dict[str, str] | None = None) -> Study:
        text = good_text
        for old, new in (edits or {}).items():
            assert old in text
            text = text.replace(old, new)
        return build_study(tmp_path, parse_document(f"{text}\n[control]\n{control}\n"))

    return build


@pytest.mark.parametrize(("tables", "digest"), DIGESTS)
def test_a_recipe_of_version_1_has_the_digest_that_it_had_before(tables, digest):
    assert of_version(tables, 1).digest(CACHE) == digest


@pytest.mark.parametrize(("tables", "digest"), DIGESTS)
def test_a_recipe_that_leaves_keys_out_is_another_one_in_version_2(tables, digest):
    assert of_version(tables, 2).digest(CACHE) != digest


@pytest.mark.parametrize("key", sorted(ADDED))
def test_a_new_key_with_another_value_is_another_recipe(key):
    other = {"action_space.relative_floor": 0.1, "train.keep_every": 1, "evaluation.precision": "float16"}.get(key)
    value = dict(flat_keys(Recipe().to_json()))[key] if other is None else other
    assert value != ADDED[key]
    assert Recipe.model_validate(fill_in({}, BEFORE | {key: value})).digest(CACHE) != DIGESTS[0][1]


USED = {"train.shuffle": "blocks", "train.arithmetic": "bfloat16", "evaluation.arithmetic": "tf32"}


@pytest.mark.parametrize("key", sorted(ADDED_SINCE))
def test_a_key_of_later_names_no_recipe_anew_until_it_is_used(key):
    """A recipe of version 2 that was recorded before there was the key is of version 2 still, and the same recipe."""
    now = Recipe().to_json()
    table, name = key.split(".")
    tables = now | {table: {own: value for own, value in now[table].items() if own != name}}
    assert not is_before(tables)
    assert Recipe.model_validate(read_recorded(tables)) == Recipe()
    other = Recipe.model_validate({table: {name: USED[key]}})
    assert other.digest(CACHE) != Recipe().digest(CACHE) == digest_json({"recipe": spell(tables), "cache_id": CACHE})


def test_version_1_is_all_of_its_keys_written_out(study_of, tmp_path, good_text):
    tables = parse_document(good_text)
    written = build_study(tmp_path, tables | {"control": fill_in(tables["control"], BEFORE)})
    assert study_of("version = 1").control == written.control != study_of().control


def test_a_key_that_the_file_has_is_as_the_file_has_it():
    recipe = of_version({"decoder": {"gate": "gelu"}}, 1)
    assert (recipe.decoder.gate, recipe.decoder.init) == ("gelu", "xavier")


def test_no_version_is_the_newest(study_of):
    assert study_of().control == study_of("version = 2").control
    assert [study_of(said).version for said in ("", "version = 1", "version = 2")] == [None, 1, 2]


@pytest.mark.parametrize(
    ("value", "got"), [("3", "3"), ('"1"', "the text '1'"), ("true", "true"), ("1.0", "1.0"), ("[1]", "[1]")]
)
def test_a_version_that_there_is_not_is_one_sentence(study_of, value, got):
    with pytest.raises(StudyError) as raised:
        study_of(f"version = {value}")
    assert str(raised.value) == (
        f"experiments.toml: control.version: got {got}, expected the number 1 or 2. Write 2 for the published "
        f"control, 1 for the one before it."
    )


def test_the_version_is_no_key_of_a_recipe(study_of):
    with pytest.raises(StudyError, match=r"unknown key 'version' in \[control\.train\]"):
        study_of("train = { version = 1 }")


def test_an_evaluation_that_clips_nothing_is_named_as_before():
    settings = of_version({}, 1).evaluation.model_dump(mode="json")
    named = {"frames": "v0", "metrics": {}, **spell({"evaluation": settings})["evaluation"]}
    assert digest_json(named) == "8c8308f1feb935d9"
    assert spell({"evaluation": settings | {"clip": True}})["evaluation"]["clip"] is True


def name_of(split: dict, version: int) -> str:
    """The name of the cache of these inputs, as `Wanted.name` makes it."""
    tables = write_out({"drives": {"source": "carracing"}, "split": split}, version)
    inputs = Inputs.model_validate({name: tables[name] for name in ("drives", "split")})
    return digest_json({"inputs": spell(inputs.to_json()), "val": None})


@pytest.mark.parametrize(
    ("split", "name", "is_the_same"),
    [
        ({"num_val": 1}, "6fd0aa2cdd18d1f7", True),
        ({"scale": "overfit"}, "f86bfc7afc5fe743", True),
        ({"scale": "pilot", "num_val": 5}, "84271f5bc383011f", False),
        ({"scale": "pilot", "val": ["a", "b"], "choice": "stratified"}, "3735bb46663ca50c", False),
    ],
)
def test_the_cache_of_inputs_keeps_its_name_and_a_pilot_counts_otherwise_now(split, name, is_the_same):
    assert name_of(split, 1) == name
    assert (name_of(split, 2) == name) == is_the_same


def test_the_caches_of_a_study_of_before_keep_their_names(tmp_path):
    """The literals were computed before a split knew blocks and strata."""
    study = build_study(tmp_path, parse_document(small_text()))
    names = {wanted.levers[0]: wanted.name for wanted in wanted_caches(study, ("drive_03",), study.levers)}
    assert names == {
        "control": "8215d5ff6a1665ee",
        "narrow": "ad3dff492d2cef49",
        "fewer": "30091a0ef26a17ca",
        "short": "8703b30748c2e86e",
        "more": "83dda200c9400ea4",
        "normal-only": "ee8d24d10187e2bd",
    }


def test_a_pilot_of_version_1_counts_its_validation_drives(study_of):
    pilot = {"num_val = 1": 'scale = "pilot"\nnum_val = 5'}
    assert study_of("version = 1", edits=pilot).file.split.num_train == 25
    assert study_of("", edits=pilot).file.split.num_train is None
    named = {"num_val = 1": 'scale = "pilot"\nval = ["a", "b"]'}
    assert study_of("version = 1", edits=named).file.split.num_train == 28
    given = {"num_val = 1": 'scale = "pilot"\nnum_val = 5\nnum_train = 7'}
    assert study_of("version = 1", edits=given).file.split.num_train == 7
    assert study_of("version = 1").file.split.num_train is None


@pytest.mark.parametrize("change", ['{ "split.scale" = "SCALE" }', "{ split = { scale = 'SCALE' } }"])
def test_a_lever_of_version_1_that_sets_the_scale_means_what_it_meant(study_of, change):
    for of_control, of_lever, num_train in (("corpus", "pilot", 29), ("pilot", "corpus", None), ("pilot", "pilot", 29)):
        lever = f"[levers.scale]\nset = {change.replace('SCALE', of_lever)}\n[split]"
        edits = {"[split]": lever, "num_val = 1": f'scale = "{of_control}"\nnum_val = 1'}
        assert study_of("version = 1", edits=edits).setup("scale").inputs.split.num_train == num_train
        assert study_of("", edits=edits).setup("scale").inputs.split.num_train is None


def test_a_recorded_recipe_is_read_as_its_version_meant_it():
    before = spell(of_version(DCT, 1).to_json())
    assert is_before(before) and "gate" not in before["decoder"]
    assert Recipe.model_validate(read_recorded(before)) == of_version(DCT, 1)
    now = of_version({}, 2).to_json()
    assert not is_before(now) and read_recorded(now) == now
