"""A clock that is set while a study arrives: it closes once, whole and soon. More: ``make faults``."""

from pathlib import Path

import pytest

from tests.conftest import make_study
from tests.faults_clock import DAY, in_one_piece, node_with_clock, while_it_closes


@pytest.mark.peer
def test_a_study_that_arrives_while_the_clock_is_set(tmp_path: Path) -> None:
    first, second = (make_study(tmp_path / f"sent-{n}", seed=390 + n) for n in range(2))
    with node_with_clock(tmp_path, roles=("receive", "work")) as (node, clock):
        in_one_piece(node, clock, first, DAY)
        while_it_closes(node, clock, second, -DAY)
