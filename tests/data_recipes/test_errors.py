import pytest

from data_recipes.errors import UserError, unknown
from data_recipes.sources import SOURCES, source
from data_recipes.tasks import TASKS, task


def test_unknown_guesses_and_lists_what_is_known():
    error = unknown("recipe", "imxa", ["imax", "dmax"], hint="Or give a file.")
    assert isinstance(error, UserError)
    assert str(error) == "unknown recipe 'imxa': did you mean 'imax'? Known: dmax, imax. Or give a file."


def test_unknown_does_not_guess_wildly():
    assert "did you mean" not in str(unknown("recipe", "zzz", ["imax", "dmax"]))


@pytest.mark.parametrize("name", ["", "\n", "ü" * 50, "a" * 10_000, "../etc"])
def test_unknown_is_one_line_for_any_name(name):
    assert "\n" not in str(unknown("task", name, TASKS))


def test_an_unknown_task_is_a_users_mistake():
    with pytest.raises(UserError, match="did you mean 'severity'"):
        task("severty")
    # A real module of the package that is no task must not load either.
    with pytest.raises(UserError):
        task("__init__")


def test_an_unknown_source_is_a_users_mistake():
    with pytest.raises(UserError, match="did you mean 'phantom'"):
        source("fantom")
    assert "phantom" in SOURCES
