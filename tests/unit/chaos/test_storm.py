from local import names
from local.healthimaging.options import EmulatorOptions
from tests.chaos.plan import Fault, Kind
from tests.chaos.storm import bans_in, jobs_in, unread_in, weather_in
from tests.chaos.weather import Ban, Weather

# Done by other means than weather, bans and options.
SIGNALS = frozenset(
    {
        Kind.WORKER_KILLED,
        Kind.TASK_KILLED,
        Kind.TASK_STOPPED,
        Kind.WORKER_STALLED,
        Kind.TASK_STALLED,
        Kind.LAMBDAS_CRASHING,
        Kind.S3_EVENTS_UNRELIABLE,
        Kind.JOB_EVENTS_UNRELIABLE,
        Kind.IMAGE_SETS_DELETED,
        Kind.OBJECTS_ARCHIVED,
        Kind.EXECUTIONS_STOPPED,
    }
)


def fault(kind: Kind) -> Fault:
    return Fault(1.0, 5.0, kind, 0.25)


def test_every_kind_does_something() -> None:
    for kind in Kind:
        does = weather_in({kind}, lambdas=True) or bans_in([fault(kind)]) or jobs_in(fault(kind))
        assert bool(does) is (kind not in SIGNALS), kind


def test_faults_of_one_service_add_up() -> None:
    kinds = {Kind.S3_DENIED, Kind.S3_SILENT, Kind.TABLES_DENIED}
    assert weather_in(kinds) == {
        "s3": Weather(stalled=0.1, unanswered=0.2, denied=1.0),
        "dynamodb": Weather(denied=1.0),
    }


def test_s3_can_be_away_from_the_lambdas_while_receivers_have_it() -> None:
    assert weather_in({Kind.S3_AWAY}) == {}
    assert weather_in({Kind.S3_AWAY}, lambdas=True) == {"s3": Weather(refused=1.0)}


def test_some_objects_are_denied_and_all_results() -> None:
    some, results = bans_in([fault(Kind.OBJECTS_DENIED), fault(Kind.RESULTS_DENIED)])
    assert (some.bucket, some.share < 1) == (names.DICOM_BUCKET, True)
    assert results == Ban(names.RESULTS_BUCKET)


def test_what_the_lambdas_may_not_read_is_known() -> None:
    banned = {kind: ban for kind in Kind if (ban := unread_in(fault(kind)))}
    assert banned == {
        Kind.S3_DENIED: Ban(names.DICOM_BUCKET),
        Kind.OBJECTS_DENIED: bans_in([fault(Kind.OBJECTS_DENIED)])[0],
    }


def test_a_long_job_is_older_than_a_job_may_be() -> None:
    options = jobs_in(fault(Kind.JOBS_LONG))
    assert isinstance(options, EmulatorOptions)
    assert options.slow_seconds > 60
