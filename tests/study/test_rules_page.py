"""docs/rules.md: each rule that it writes out is one, and its table has the presets' seeds."""

import re
import tomllib
from pathlib import Path

import pytest

from flowlab.study.rule import INSIDE, PRESETS, write_out
from flowlab.study.settings import MetricKey, RuleSettings

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
RULES = re.findall(r"((?:^    .*\n)+)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("text", [block for block in RULES if "[rules." in block])
def test_every_rule_of_the_page_is_a_rule(text: str) -> None:
    for name, table in tomllib.loads(text)["rules"].items():
        settings = RuleSettings.model_validate(table)
        assert write_out(name, settings, MetricKey(slice="overall")).stages


def test_the_table_of_presets_tells_how_many_seeds_each_judges_by_and_where() -> None:
    told = dict(re.findall(r"^\| `([\w-]+)` \| (\d) \| the panel's", PAGE, re.MULTILINE))
    others = dict(re.findall(r"^\| `([\w-]+)` \| (\d) \| of (?:their|its) own", PAGE, re.MULTILINE))
    judged = {name: str(max(stage.last_seed for stage in stages)) for name, stages in PRESETS.items()}
    assert told | others == judged
    assert told.keys() == set(INSIDE)
