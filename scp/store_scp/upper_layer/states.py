"""PS3.8 Table 9-10, the state machine of the upper layer, as far as an acceptor can be in it.

All that changes an association's state is in this file. The names are the standard's own: states
Sta1 to Sta13, events Evt3 to Evt19, actions AE-5 to AA-8 (PS3.8 9.2.1 to 9.2.3). An acceptor that
never asks for a release itself knows neither Sta4, Sta5, Sta7 nor Sta9 to Sta12.
"""

from enum import Enum

from store_scp.errors import ReceiverError


class IllegalTransition(ReceiverError):
    """Our own code asked for what the state does not allow. Nothing was changed, nothing sent."""


class _Named(Enum):
    """Found in a table by identity: the hash Enum brings along is computed in Python each time."""

    __hash__ = object.__hash__


class State(_Named):
    """PS3.8 Tables 9-1 to 9-5."""

    STA1 = "idle"
    STA2 = "transport connection open, awaiting A-ASSOCIATE-RQ"
    STA3 = "awaiting the local A-ASSOCIATE response"
    STA6 = "association established, ready for data transfer"
    STA8 = "awaiting the local A-RELEASE response"
    STA13 = "awaiting the transport connection's close"


class Evt(_Named):
    """PS3.8 Table 9-10's rows."""

    EVT3 = "A-ASSOCIATE-AC PDU received"
    EVT4 = "A-ASSOCIATE-RJ PDU received"
    EVT5 = "transport connection indication"
    EVT6 = "A-ASSOCIATE-RQ PDU received"
    EVT7 = "A-ASSOCIATE response primitive (accept)"
    EVT8 = "A-ASSOCIATE response primitive (reject)"
    EVT9 = "P-DATA request primitive"
    EVT10 = "P-DATA-TF PDU received"
    EVT12 = "A-RELEASE-RQ PDU received"
    EVT13 = "A-RELEASE-RP PDU received"
    EVT14 = "A-RELEASE response primitive"
    EVT15 = "A-ABORT request primitive"
    EVT16 = "A-ABORT PDU received"
    EVT17 = "transport connection closed"
    EVT18 = "ARTIM timer expired"
    EVT19 = "unrecognized or invalid PDU received"


class Action(Enum):
    """PS3.8 Tables 9-6 to 9-9. "Close" and the timers are the caller's: see Connection."""

    AE_5 = "start ARTIM"
    AE_6 = "stop ARTIM, indicate the association request"
    AE_7 = "send A-ASSOCIATE-AC"
    AE_8 = "send A-ASSOCIATE-RJ, start ARTIM"
    DT_1 = "send P-DATA-TF"
    DT_2 = "indicate the data"
    AR_2 = "indicate the release"
    AR_4 = "send A-RELEASE-RP, start ARTIM"
    AR_5 = "stop ARTIM"
    AR_7 = "send P-DATA-TF while a release waits"
    AA_1 = "send A-ABORT as the service user, start ARTIM"
    AA_2 = "stop ARTIM, close"
    AA_3 = "indicate the abort, close"
    AA_4 = "indicate a provider abort"
    AA_5 = "stop ARTIM, nobody is told"
    AA_6 = "ignore the PDU"
    AA_7 = "send A-ABORT"
    AA_8 = "send A-ABORT as the service provider, indicate it, start ARTIM"


_S1, _S2, _S3, _S6, _S8, _S13 = State

TRANSITIONS: dict[State, dict[Evt, tuple[Action, State]]] = {
    _S1: {
        Evt.EVT5: (Action.AE_5, _S2),
    },
    _S2: {
        Evt.EVT3: (Action.AA_1, _S13),
        Evt.EVT4: (Action.AA_1, _S13),
        Evt.EVT6: (Action.AE_6, _S3),
        Evt.EVT10: (Action.AA_1, _S13),
        Evt.EVT12: (Action.AA_1, _S13),
        Evt.EVT13: (Action.AA_1, _S13),
        Evt.EVT16: (Action.AA_2, _S1),
        Evt.EVT17: (Action.AA_5, _S1),
        Evt.EVT18: (Action.AA_2, _S1),
        Evt.EVT19: (Action.AA_1, _S13),
    },
    _S3: {
        Evt.EVT3: (Action.AA_8, _S13),
        Evt.EVT4: (Action.AA_8, _S13),
        Evt.EVT6: (Action.AA_8, _S13),
        Evt.EVT7: (Action.AE_7, _S6),
        Evt.EVT8: (Action.AE_8, _S13),
        Evt.EVT10: (Action.AA_8, _S13),
        Evt.EVT12: (Action.AA_8, _S13),
        Evt.EVT13: (Action.AA_8, _S13),
        Evt.EVT15: (Action.AA_1, _S13),
        Evt.EVT16: (Action.AA_3, _S1),
        Evt.EVT17: (Action.AA_4, _S1),
        Evt.EVT19: (Action.AA_8, _S13),
    },
    _S6: {
        Evt.EVT3: (Action.AA_8, _S13),
        Evt.EVT4: (Action.AA_8, _S13),
        Evt.EVT6: (Action.AA_8, _S13),
        Evt.EVT9: (Action.DT_1, _S6),
        Evt.EVT10: (Action.DT_2, _S6),
        Evt.EVT12: (Action.AR_2, _S8),
        Evt.EVT13: (Action.AA_8, _S13),
        Evt.EVT15: (Action.AA_1, _S13),
        Evt.EVT16: (Action.AA_3, _S1),
        Evt.EVT17: (Action.AA_4, _S1),
        Evt.EVT19: (Action.AA_8, _S13),
    },
    _S8: {
        Evt.EVT3: (Action.AA_8, _S13),
        Evt.EVT4: (Action.AA_8, _S13),
        Evt.EVT6: (Action.AA_8, _S13),
        Evt.EVT9: (Action.AR_7, _S8),
        Evt.EVT10: (Action.AA_8, _S13),
        Evt.EVT12: (Action.AA_8, _S13),
        Evt.EVT13: (Action.AA_8, _S13),
        Evt.EVT14: (Action.AR_4, _S13),
        Evt.EVT15: (Action.AA_1, _S13),
        Evt.EVT16: (Action.AA_3, _S1),
        Evt.EVT17: (Action.AA_4, _S1),
        Evt.EVT19: (Action.AA_8, _S13),
    },
    _S13: {
        Evt.EVT3: (Action.AA_6, _S13),
        Evt.EVT4: (Action.AA_6, _S13),
        Evt.EVT6: (Action.AA_7, _S13),
        Evt.EVT10: (Action.AA_6, _S13),
        Evt.EVT12: (Action.AA_6, _S13),
        Evt.EVT13: (Action.AA_6, _S13),
        Evt.EVT16: (Action.AA_2, _S1),
        Evt.EVT17: (Action.AR_5, _S1),
        Evt.EVT18: (Action.AA_2, _S1),
        Evt.EVT19: (Action.AA_7, _S13),
    },
}


def transition(state: State, event: Evt) -> tuple[Action, State]:
    """What an event does in a state; raises IllegalTransition where the table has nothing."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{event.name} ({event.value}) in {state.name}") from None
