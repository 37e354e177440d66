"""The whole matrix of PS3.8 Table 9-10, as far as an acceptor goes."""

from itertools import product

import pytest
from store_scp.upper_layer.states import (
    TRANSITIONS,
    Action,
    Evt,
    IllegalTransition,
    State,
    transition,
)

# PS3.8 Table 9-10, column by column, typed from the standard and not from the code.
TABLE = {
    "STA1": "EVT5:AE_5>STA2",
    "STA2": "EVT3:AA_1>STA13 EVT4:AA_1>STA13 EVT6:AE_6>STA3 EVT10:AA_1>STA13 EVT12:AA_1>STA13 "
    "EVT13:AA_1>STA13 EVT16:AA_2>STA1 EVT17:AA_5>STA1 EVT18:AA_2>STA1 EVT19:AA_1>STA13",
    "STA3": "EVT3:AA_8>STA13 EVT4:AA_8>STA13 EVT6:AA_8>STA13 EVT7:AE_7>STA6 EVT8:AE_8>STA13 "
    "EVT10:AA_8>STA13 EVT12:AA_8>STA13 EVT13:AA_8>STA13 EVT15:AA_1>STA13 EVT16:AA_3>STA1 "
    "EVT17:AA_4>STA1 EVT19:AA_8>STA13",
    "STA6": "EVT3:AA_8>STA13 EVT4:AA_8>STA13 EVT6:AA_8>STA13 EVT9:DT_1>STA6 EVT10:DT_2>STA6 "
    "EVT12:AR_2>STA8 EVT13:AA_8>STA13 EVT15:AA_1>STA13 EVT16:AA_3>STA1 EVT17:AA_4>STA1 "
    "EVT19:AA_8>STA13",
    "STA8": "EVT3:AA_8>STA13 EVT4:AA_8>STA13 EVT6:AA_8>STA13 EVT9:AR_7>STA8 EVT10:AA_8>STA13 "
    "EVT12:AA_8>STA13 EVT13:AA_8>STA13 EVT14:AR_4>STA13 EVT15:AA_1>STA13 EVT16:AA_3>STA1 "
    "EVT17:AA_4>STA1 EVT19:AA_8>STA13",
    "STA13": "EVT3:AA_6>STA13 EVT4:AA_6>STA13 EVT6:AA_7>STA13 EVT10:AA_6>STA13 EVT12:AA_6>STA13 "
    "EVT13:AA_6>STA13 EVT16:AA_2>STA1 EVT17:AR_5>STA1 EVT18:AA_2>STA1 EVT19:AA_7>STA13",
}


def expected(state: State, event: Evt) -> tuple[Action, State] | None:
    cells = dict(cell.split(":") for cell in TABLE[state.name].split())
    if event.name not in cells:
        return None
    action, after = cells[event.name].split(">")
    return Action[action], State[after]


@pytest.mark.parametrize(("state", "event"), list(product(State, Evt)), ids=lambda each: each.name)
def test_every_pair_is_the_standards_or_illegal(state: State, event: Evt) -> None:
    wanted = expected(state, event)
    if wanted is None:
        with pytest.raises(IllegalTransition, match=event.name):
            transition(state, event)
    else:
        assert transition(state, event) == wanted


def test_no_state_is_a_dead_end_and_every_state_is_reached() -> None:
    reached = {after for row in TRANSITIONS.values() for _, after in row.values()}
    assert reached == set(State)
    assert set(TRANSITIONS) == set(State)
