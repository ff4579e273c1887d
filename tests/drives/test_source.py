from pathlib import Path

import pytest

from flowlab.core.errors import DriveError, UnknownNameError
from flowlab.drives.source import CheckedSource, open_source
from flowlab.drives.synthetic import SyntheticSource
from flowlab.drives.udacity import UdacitySource
from flowlab.study.settings import PluginDrives, SyntheticDrives, UdacityDrives


class ForeignSource(SyntheticSource):
    def __init__(self, settings: PluginDrives, folder: Path) -> None:
        super().__init__(SyntheticDrives(source="synthetic", **settings.options), folder)


def test_a_source_is_opened_by_the_name_in_its_settings(tmp_path):
    for settings, kind in (
        (SyntheticDrives(source="synthetic"), SyntheticSource),
        (UdacityDrives(source="udacity", roots=(".",)), UdacitySource),
    ):
        opened = open_source(settings, tmp_path)
        assert isinstance(opened, CheckedSource) and isinstance(opened.source, kind)


def test_a_foreign_source_is_opened_by_module_and_attribute_with_its_options(tmp_path):
    settings = PluginDrives(source=f"{__name__}:ForeignSource", options={"count": 2})
    assert open_source(settings, tmp_path).drive_ids() == ["drive_00", "drive_01"]


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'carracing'"):
        open_source(PluginDrives(source="carrracing"), tmp_path)


def test_a_plug_in_that_is_no_source_is_refused(tmp_path):
    with pytest.raises(DriveError, match="not a Source"):
        open_source(PluginDrives(source="os:sep"), tmp_path)
