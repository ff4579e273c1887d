"""The ladder of policies that runs keep on the way, on disk: named, on record once, and scorable later."""

import json
import shutil
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from flowlab.core.digest import digest_files
from flowlab.core.errors import MissingError, PolicyError
from flowlab.core.types import MetricRow
from flowlab.evaluate.definitions import define_metrics
from flowlab.evaluate.draw_bank import as_kept
from flowlab.evaluate.draws import draw_model
from flowlab.evaluate.frames import read_frames
from flowlab.evaluate.scorer import Scorer
from flowlab.journal.lines import RunJournal
from flowlab.lab.caches import prepare_caches
from flowlab.lab.ground import Ground, open_ground, prepare_stats
from flowlab.lab.plan import plan_runs
from flowlab.lab.policies import Facts, load_policy_of
from flowlab.lab.run import run_all
from flowlab.policy.build import seen_tokens
from flowlab.study.study import Study, load_study
from flowlab.study.versions import spell
from flowlab.train.checkpoint import load_policy, save_policy
from tests.lab.small_study import CPU, edited, write_small

SEED, STEPS, RUNGS = 7, 16, (7, 14)  # seven steps an epoch
LEVERS = """
[levers.averaged]
set = { "train.ema_decay" = 0.9 }
[levers.waves]
set = { "decoder.kind" = "tests.policy.mlp_decoder:build_with_waves", "train.lr" = 1e-2 }
[levers.kept-seldom]
set = { "train.keep_every" = 2 }
"""


def train(study: Study, *levers: str) -> Ground:
    ground = open_ground(study, levers)
    planned = [item for item in plan_runs(study, ground, levers, [SEED], {}, again=False) if item.run.seed == SEED]
    run_all(study, ground, [item for item in planned if item.run.lever in levers], CPU)
    return ground


def folder_of(study: Study, lever: str) -> Path:
    (found,) = study.runs.glob(f"{lever}-{SEED}-*")
    return found


def lines(folder: Path, kind: str) -> list[dict]:
    read = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [line for line in read if line["kind"] == kind]


def rows(folder: Path) -> list[list]:
    return [row for line in lines(folder, "metrics") for row in line["rows"]]


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that keeps a policy each epoch, looks at one draw each epoch, and draws once at the end."""
    study = write_small(tmp_path_factory.mktemp("ladder") / "study", LEVERS)
    edited(study, "steps = 2", f"steps = {STEPS}\nkeep_every = 1\nsample_every = 1")
    study = edited(study, "draws = 2", "draws = 1")
    prepare_caches(study, (), CPU)
    return study.root


@pytest.fixture(scope="module")
def trained(cached: Path) -> Study:
    study = load_study(cached)
    train(study, "control", "averaged", "waves", "kept-seldom")
    return study


@pytest.fixture
def fresh(cached: Path, tmp_path: Path) -> Study:
    """The same study, of which nothing is trained."""
    ignored = shutil.ignore_patterns("runs", "ledger*")
    return load_study(Path(shutil.copytree(cached, tmp_path / "study", ignore=ignored)))


def scored(study: Study, lever: str, step: int | None) -> list[MetricRow]:
    """The rows of a policy that was kept, on the study's validation frames."""
    policy, ground = load_policy_of(folder_of(study, lever), step), open_ground(study, [lever])
    supply, recipe = ground.supplies[lever], policy.facts.recipe
    _, tokens = seen_tokens(recipe.decoder, supply.cache.spec)
    frames = read_frames(supply.cache.split("val", CPU, ("normal",)), supply.cache.channels, None, tokens)
    space = prepare_stats(study, supply.stats_cache, recipe).space
    definitions = define_metrics(study.file.slices, frames.channels, ground.thresholds)
    scorer = Scorer(frames, definitions, space, recipe.evaluation)
    (model,) = draw_model(policy.objective, policy.decoder, frames, recipe.evaluation)
    return scorer.rows(scorer.raw(as_kept(model, recipe.evaluation.precision)))


@pytest.mark.parametrize("lever", ["control", "averaged", "waves"])
@pytest.mark.parametrize("step", RUNGS)
def test_a_rung_scores_what_the_run_said_while_it_trained(trained: Study, lever: str, step: int) -> None:
    found = {(*row[:4],): row.value for row in scored(trained, lever, step) if not row.drive}
    told = {(*row[:4],): row[4] for row in rows(folder_of(trained, lever)) if row[5] == step and row[3]}
    assert ("l1", "steering", "overall", "single") in told
    assert {key: found[key] for key in told} == told


@pytest.mark.parametrize("lever", ["control", "averaged", "waves"])
@pytest.mark.parametrize("step", [None, STEPS])
def test_the_last_policy_scores_what_the_run_ended_with(trained: Study, lever: str, step: int | None) -> None:
    told = [row for row in rows(folder_of(trained, lever)) if row[5] == -1]
    found = [list(row if row.drive else row[:-1]) for row in scored(trained, lever, step)]
    assert found and all(row in told for row in found)


def test_each_rung_and_the_last_policy_are_on_record_once_by_their_digest(trained: Study) -> None:
    folder = folder_of(trained, "control")
    names = ["policy-000007.safetensors", "policy-000014.safetensors", "policy.safetensors"]
    assert sorted(path.name for path in folder.glob("policy*")) == names
    recorded = {line["name"]: line for line in lines(folder, "artifact")}
    assert len(recorded) == len(lines(folder, "artifact")) == 5, "the draws too, and the cache that it was trained from"
    for name in names:
        path = folder / name
        assert (recorded[name]["digest"], recorded[name]["bytes"]) == (digest_files([path]), path.stat().st_size)
    assert [path.name for path in folder_of(trained, "kept-seldom").glob("policy-*")] == ["policy-000014.safetensors"]


def test_a_rung_says_what_the_last_policy_says_but_for_its_step(trained: Study) -> None:
    folder = folder_of(trained, "waves")
    told = [load_policy(folder / name)[1] for name in ("policy-000007.safetensors", "policy.safetensors")]
    assert [of.pop("step") for of in told] == ["7", "16"]
    assert told[0] == told[1]
    assert told[0]["run_id"] == folder.name
    assert json.loads(told[0]["recipe"]) == trained.recipe("waves").to_json()


def test_the_buffers_of_a_plug_in_are_part_of_a_rung(trained: Study) -> None:
    weights, _ = load_policy(folder_of(trained, "waves") / "policy-000007.safetensors")
    policy = load_policy_of(folder_of(trained, "waves"), 7)
    assert torch.equal(policy.decoder.run_buffers(0)["waves"], weights["waves"])


def test_how_often_policies_are_kept_changes_no_metric_row(trained: Study) -> None:
    assert rows(folder_of(trained, "kept-seldom")) == rows(folder_of(trained, "control"))


@pytest.mark.parametrize("when", ["before its line", "after its line"])
def test_a_run_that_is_killed_at_a_rung_has_it_once_and_to_the_bit(trained: Study, fresh: Study, when: str) -> None:
    """No resume file is written between, so the run that goes on passes every rung again."""
    write = RunJournal.artifact

    def killed(journal: RunJournal, name: str, *more: object) -> None:
        if when == "after its line" or name != "policy-000014.safetensors":
            write(journal, name, *more)
        if name == "policy-000014.safetensors":
            raise KeyboardInterrupt

    with patch.object(RunJournal, "artifact", killed), pytest.raises(KeyboardInterrupt):
        train(fresh, "control")
    folder, whole = folder_of(fresh, "control"), folder_of(trained, "control")
    assert (folder / "policy-000014.safetensors").is_file()
    train(fresh, "control")
    made = [line["name"] for line in lines(folder, "artifact") if ".zarr built " not in line["name"]]
    assert Counter(made) == dict.fromkeys(
        ("policy-000007.safetensors", "policy-000014.safetensors", "policy.safetensors", "draws.zarr"), 1
    )
    for step in RUNGS:
        name = f"policy-{step:06d}.safetensors"
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_rung_that_was_not_kept_is_refused_with_those_that_were(trained: Study) -> None:
    told = r"has no policy after 8 steps\. It has after 7 steps, after 14 steps, the last one; train\.keep_every says"
    with pytest.raises(MissingError, match=told):
        load_policy_of(folder_of(trained, "control"), 8)


def test_a_run_without_a_last_policy_names_its_rungs(trained: Study, tmp_path: Path) -> None:
    folder = tmp_path / folder_of(trained, "control").name
    shutil.copytree(folder_of(trained, "control"), folder)
    (folder / "policy.safetensors").unlink()
    with pytest.raises(MissingError, match=r"has no last policy\. It has after 7 steps, after 14 steps; "):
        load_policy_of(folder)
    assert load_policy_of(folder, 7).step == 7


def put(trained: Study, tmp_path: Path, weights: dict, metadata: dict[str, str]) -> Path:
    """A run's folder with that policy, on record as the run's own."""
    folder = tmp_path / folder_of(trained, "control").name
    content = save_policy(folder / "policy.safetensors", weights, metadata)
    with RunJournal.of(tmp_path, folder.name) as journal:
        journal.artifact("policy.safetensors", digest_files([folder / "policy.safetensors"]), len(content))
    return folder


@pytest.mark.parametrize("where", [-1, 3000])
def test_a_policy_that_was_changed_is_refused(trained: Study, tmp_path: Path, where: int) -> None:
    folder = Path(shutil.copytree(folder_of(trained, "control"), tmp_path / folder_of(trained, "control").name))
    content = bytearray((folder / "policy.safetensors").read_bytes())
    content[where] ^= 1
    (folder / "policy.safetensors").write_bytes(content)
    with pytest.raises(PolicyError, match="is not the file that the run's journal names; it was changed"):
        load_policy_of(folder)


def test_a_policy_that_no_journal_names_or_of_another_run_is_refused(trained: Study, tmp_path: Path) -> None:
    own = folder_of(trained, "control")
    shutil.copy(own / "policy.safetensors", tmp_path)
    with pytest.raises(PolicyError, match="names none"):
        load_policy_of(tmp_path)
    weights, metadata = load_policy(own / "policy.safetensors")
    for change, told in (({"run_id": "x-1"}, "is of run x-1 after 16 steps of 16"), ({"step": "17"}, "after 17 steps")):
        with pytest.raises(PolicyError, match=told):
            load_policy_of(put(trained, tmp_path / told[-2:], weights, metadata | change))


def test_a_policy_whose_line_in_the_journal_is_damaged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.safetensors").write_bytes(b"whatever")
    (tmp_path / "journal.jsonl").write_text('{"kind":"artifact","time_us":1,"name":"policy.safetensors"}\n')
    with pytest.raises(PolicyError, match="is not the file that the run's journal names"):
        load_policy_of(tmp_path)


def test_a_policy_that_does_not_say_what_it_is_is_refused(trained: Study, tmp_path: Path) -> None:
    weights, metadata = load_policy(folder_of(trained, "control") / "policy.safetensors")
    folder = put(trained, tmp_path, weights, {"run_id": "r", "condition": metadata["condition"]})
    with pytest.raises(PolicyError, match=r"does not say its recipe and horizon and channels and step, so nobody"):
        load_policy_of(folder)
    put(trained, tmp_path, weights, metadata | {"recipe": "{", "horizon": "6"})
    with pytest.raises(PolicyError, match=r"in words that this flowlab does not read \(JSONDecodeError: "):
        load_policy_of(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights.pop("slot"), r"slot is none, and the decoder of its recipe has \(6, 16\) in torch"),
        (lambda weights: weights.update(more=torch.ones(1)), r"more is \(1,\) in torch\.float32, .* has none: "),
        (lambda weights: weights.update(slot=torch.ones(1)), r"slot is \(1,\) in torch\.float32, and the decoder"),
        (lambda weights: weights.update(slot=weights["slot"].double()), r"slot is \(6, 16\) in torch\.float64, and"),
    ],
)
def test_weights_that_do_not_fit_the_recipe_are_refused(trained: Study, tmp_path: Path, change, told: str) -> None:
    weights, metadata = load_policy(folder_of(trained, "control") / "policy.safetensors")
    change(weights)
    with pytest.raises(PolicyError, match=told):
        load_policy_of(put(trained, tmp_path, weights, metadata))


def test_a_recipe_without_the_keys_of_version_2_is_read_as_it_was_meant(trained: Study) -> None:
    _, metadata = load_policy(folder_of(trained, "control") / "policy.safetensors")
    recipe = json.loads(metadata["recipe"])
    recipe["decoder"]["gate"] = "silu"
    recipe = spell(recipe)
    assert "gate" not in recipe["decoder"]
    facts = Facts.from_metadata(metadata | {"recipe": json.dumps(recipe)})
    assert (facts.recipe.decoder.gate, facts.recipe.decoder.rotary_slots) == ("silu", True)
