from pathlib import Path

import pytest

from flowlab.core.errors import UnknownNameError, unknown_name
from flowlab.core.plugins import TABLE, locate, resolve, study_path


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in TABLE.items() for name in names])
def test_every_name_in_the_table_is_there(kind, name):
    if name == "carracing":
        pytest.importorskip("gymnasium")
    assert resolve(kind, name).__name__ == TABLE[kind][name].partition(":")[2]


def test_a_module_and_attribute_is_a_plug_in():
    assert resolve("sources", "pathlib:Path") is Path


@pytest.mark.parametrize("name", ["no_such_module:X", "pathlib:NoSuch", ":X", "pathlib:", "a b:c"])
def test_what_cannot_be_loaded_is_one_sentence(name):
    with pytest.raises(UnknownNameError, match=r"^source '.*' cannot be loaded: .*\.$"):
        resolve("sources", name)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"^unknown source 'udacty': did you mean 'udacity'\? Known: carracing, "
    ):
        locate("sources", "udacty")


def test_nothing_near_gives_no_hint():
    assert str(unknown_name("lever", "zzz", ["delta-off"])) == "unknown lever 'zzz': Known: delta-off."


def test_of_very_many_names_the_nearest_are_listed():
    names = [f"decoder.key_{number:03}" for number in range(300)]
    told = str(unknown_name("key", "decoder.key_7", names))
    assert "did you mean 'decoder.key_" in told
    assert told.endswith(" and 292 more.") and len(told) < 300


def test_no_names_at_all():
    assert str(unknown_name("lever", "x", [], "levers")) == "unknown lever 'x' in levers: Known: none."


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("rec", "/study/rec"),
        ("/abs/rec", "/abs/rec"),
        ("../rec", "/study/../rec"),
        ("~no-such-user/x", "/study/~no-such-user/x"),
    ],
)
def test_a_relative_path_starts_at_the_study(text, path):
    assert study_path(Path("/study"), text) == Path(path)


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert study_path(Path("/study"), "~/rec") == Path("/home/someone/rec")
