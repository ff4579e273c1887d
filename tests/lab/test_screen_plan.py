import pytest

from flowlab.core.errors import StudyError
from flowlab.lab.screen_plan import choose_levers, choose_seeds, plan_screen, split_cohort
from flowlab.study.study import Study
from tests.lab.small_study import write_small

LEVERS = """
[levers.slow]
set = { "train.lr" = 5e-4 }
[levers.deep]
set = { "decoder.layers" = 2 }
[levers.no-decay]
set = { "train.weight_decay" = 0.0 }
[levers.ema]
set = { "train.ema_decay" = 0.9 }
[levers.short]
set = { "windows.history" = 4 }
"""
OPEN = ("slow", "deep", "no-decay", "ema", "short")


@pytest.fixture
def study(tmp_path) -> Study:
    return write_small(tmp_path / "study", LEVERS)


def plan(study, *levers, num_rows=None, number=1):
    return plan_screen(study, number, levers or OPEN, {}, num_rows)


def test_rows_are_named_by_their_screen_and_have_the_levers_of_the_design(study):
    found = plan(study, number=3)
    assert list(found.rows)[:2] == ["screen3_row01", "screen3_row02"]
    assert [[lever in on for lever in OPEN] for on in found.rows.values()] == found.design.on.tolist()
    assert found.weights.shape == (5, 12)


def test_the_same_number_plans_the_same_screen_and_another_one_another(study):
    assert plan(study).rows == plan(study).rows
    assert list(plan(study).rows.values()) != list(plan(study, number=2).rows.values())


def test_caches_beside_the_controls_are_counted_once_each(study):
    assert plan(study).num_caches == 1  # rows with `short` on, and it alone
    assert plan(study, "slow", "deep", "no-decay", "ema").num_caches == 0


def test_a_lever_that_combines_with_none_is_left_out(tmp_path):
    all_keys = '"train.lr" = 2e-3, "decoder.layers" = 3, "train.weight_decay" = 0.2, "train.ema_decay" = 0.5'
    study = write_small(tmp_path, LEVERS + f'[levers.all]\nset = {{ {all_keys}, "windows.history" = 3 }}\n')
    found = plan(study, "all", *OPEN)
    assert found.levers == OPEN
    assert found.excluded == {"all": "it can be on together with none of the others: run it alone"}
    assert found.conflicts == {}


def test_levers_that_combine_in_pairs_only_are_kept_apart(tmp_path):
    sizes = {"tall": "image_height", "wide": "image_width", "fine": "patch"}  # all three are a million patches
    more = "".join(
        f'[levers.{name}]\nset = {{ "encoder.{key}" = {2 if key == "patch" else 1024} }}\n'
        for name, key in sizes.items()
    )
    study = write_small(tmp_path, LEVERS + more)
    found = plan(study, *OPEN, *sizes)
    ((pair, reason),) = found.conflicts.items()
    assert set(pair) < set(sizes)
    assert "patches of 2 pixels are too many" in reason
    assert not any(set(sizes) <= set(on) for on in found.rows.values())


def test_levers_of_another_shape_or_cache_split_a_cohort(study):
    assert split_cohort(study, OPEN) == {
        "deep": "its runs have another shape (decoder.layers)",
        "short": "it needs a cache of its own (windows.history)",
    }


def test_levers_are_left_out_with_a_reason_each(study):
    levers, excluded = choose_levers(study, ["placebo", "delta-off", *OPEN], {"ema": "screen1"}, same_shape=False)
    assert levers == ("delta-off", "slow", "deep", "no-decay", "short")
    assert list(excluded) == ["placebo", "ema"]
    assert excluded["ema"].startswith("screen1 has had it")


def test_too_few_levers_are_refused_with_the_reasons(study):
    with pytest.raises(StudyError, match=r"here are 3\. deep: its runs have another shape .* --seeds 1001$"):
        choose_levers(study, OPEN, {}, same_shape=True)


def test_a_screen_has_seeds_that_nothing_has_run_at():
    assert choose_seeds([], 3) == [1, 2, 3]
    assert choose_seeds([1001, 2001], 3) == [1, 2, 3]
    assert choose_seeds([3, 1001, 2003], 3) == [3001, 3002, 3003]
