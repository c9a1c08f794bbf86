"""Fixtures of this folder."""

import pytest

from tests.eval.factories import make_mixture


@pytest.fixture
def mixture_dir(tmp_path):
    return make_mixture(tmp_path / "mixture")
