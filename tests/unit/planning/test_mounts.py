"""Working directories and stages that are not mounted are told from new ones."""

from pathlib import Path

import pytest

from halfpipe.errors import ConfigError
from halfpipe.planning.mounts import mark, refuse_unmounted
from halfpipe.settings import Paths, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Paths(tmp_path / "disk" / "work", tmp_path / "other" / "stage"))


def test_a_new_site_may_lack_both_but_not_what_they_lie_in(settings: Settings) -> None:
    work, stage = settings.paths.work, settings.paths.stage
    with pytest.raises(ConfigError, match=f"paths.work: there is no {work.parent}"):
        refuse_unmounted(settings)
    work.parent.mkdir()
    with pytest.raises(ConfigError, match=f"paths.stage: there is no {stage.parent}"):
        refuse_unmounted(settings)
    stage.parent.mkdir()
    refuse_unmounted(settings)


@pytest.mark.parametrize("empty", [True, False])
def test_a_working_directory_that_the_stage_knows_must_know_something(
    settings: Settings, empty: bool
) -> None:
    work = settings.paths.work
    (work / "runs").mkdir(parents=True)
    settings.paths.stage.mkdir(parents=True)
    mark(settings)
    mark(settings)
    refuse_unmounted(settings)
    (work / "runs").rmdir()
    if not empty:
        work.rmdir()
    with pytest.raises(ConfigError, match=f"{work} knows nothing of them.*rm ") as told:
        refuse_unmounted(settings)
    Path(str(told.value).rpartition("rm ")[2]).unlink()
    refuse_unmounted(settings)


def test_another_working_directory_may_use_the_stage(settings: Settings, tmp_path: Path) -> None:
    (settings.paths.work / "runs").mkdir(parents=True)
    settings.paths.stage.mkdir(parents=True)
    mark(settings)
    (tmp_path / "shadow").mkdir()
    refuse_unmounted(Settings(Paths(tmp_path / "shadow" / "work", settings.paths.stage)))
