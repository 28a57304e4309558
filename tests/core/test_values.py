"""Errors, states, records, ids and settings: the values that everything else is made of."""

from __future__ import annotations

import inspect
import pickle
import uuid
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import aioresult
from aioresult import errors, states
from aioresult.credentials import without_credentials
from aioresult.errors import AioResultError, DecodeError, InvalidTaskId, RemoteTaskError, SettingsError
from aioresult.record import Record, check_task_id
from aioresult.settings import Settings, make_settings

ERRORS = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, AioResultError)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_the_one_root_a_docstring_a_place_in_the_tree_and_an_export(
    error: type[AioResultError],
) -> None:
    assert error.__doc__
    assert error.__name__ in (errors.__doc__ or "")
    assert getattr(aioresult, error.__name__) is error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_survives_pickling(error: type[AioResultError]) -> None:
    original = RemoteTaskError("Odd", "m", ("a", 1), "tb") if error is RemoteTaskError else error("what happened")
    copy = pickle.loads(pickle.dumps(original))
    assert type(copy) is error
    assert str(copy) == str(original)
    assert copy.args == original.args


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ResultTimeout", TimeoutError),
        ("SettingsError", ValueError),
        ("StoreUnavailable", ConnectionError),
        ("MissingDriver", ImportError),
        ("Unsupported", NotImplementedError),
        ("WouldBlockLoop", RuntimeError),
        ("InvalidTaskId", ValueError),
        ("InvalidTaskId", TypeError),
        ("EncodeError", ValueError),
        ("DecodeError", ValueError),
    ],
)
def test_errors_are_also_what_python_calls_them(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_a_remote_error_shows_what_it_was() -> None:
    assert str(RemoteTaskError("Outer.Inner", "tasks", ["a", 1])) == "tasks.Outer.Inner('a', 1)"
    assert str(RemoteTaskError("Odd")) == "Odd()"


READY = {"SUCCESS", "FAILURE", "REVOKED"}


@pytest.mark.parametrize("old", sorted(states.ALL_STATES | {"PROGRESS", "IGNORED", "CUSTOM"}))
@pytest.mark.parametrize("new", sorted(states.ALL_STATES | {"PROGRESS", "IGNORED", "CUSTOM"}))
def test_success_stays_and_final_states_give_way_to_final_ones_only(old: str, new: str) -> None:
    expected = old != "SUCCESS" and (old not in READY or new in READY)
    assert states.replaces(new, old) is expected
    assert states.is_ready(new) is (new in READY)


def test_a_record_answers_for_its_state() -> None:
    done = Record(id="a", status="SUCCESS", result=None)
    assert (done.ready, done.successful, done.failed, done.state) == (True, True, False, "SUCCESS")
    failed = Record(id="a", status="FAILURE", result=ValueError())
    assert (failed.ready, failed.successful, failed.failed) == (True, False, True)
    revoked = Record(id="a", status="REVOKED")
    assert (revoked.ready, revoked.successful, revoked.failed) == (True, False, False)
    assert not Record(id="a").ready
    with pytest.raises(AttributeError):
        done.status = "PENDING"  # type: ignore[misc]  # frozen, which is the point


def test_an_undecodable_record_ends_the_waiting_and_a_failure_with_a_decode_error_is_just_a_failure() -> None:
    error = DecodeError("broken")
    poisoned = Record.undecodable("a", error)
    assert poisoned.error is error
    assert poisoned.ended
    assert not poisoned.ready
    assert Record(id="a", status="FAILURE", result=error).error is None


@pytest.mark.parametrize("bad", [None, 1, b"bytes", "", object(), ["a"], "\ud800"])
def test_what_is_no_id_is_refused(bad: object) -> None:
    with pytest.raises(InvalidTaskId, match="task id"):
        check_task_id(bad)


def test_a_uuid_is_an_id_and_a_limit_counts_characters() -> None:
    identity = uuid.uuid4()
    assert check_task_id(identity) == str(identity)
    assert check_task_id("\u4e2d" * 155, 155)
    with pytest.raises(InvalidTaskId, match="156 characters"):
        check_task_id("x" * 156, 155)


def test_a_whole_celery_configuration_can_be_handed_over() -> None:
    settings = make_settings(
        {
            "broker_url": "amqp://",
            "task_serializer": "json",
            "worker_concurrency": 4,
            "beat_schedule": {},
            "task_routes": {},
            "result_expires": timedelta(hours=1),
            "accept_content": ["json", "msgpack", "application/x-yaml"],
            "timezone": "Europe/Berlin",
            "task_track_started": True,
        }
    )
    assert settings.result_expires == 3600
    assert settings.accepted == {"json", "msgpack", "yaml"}
    assert settings.zone == ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("result_expire", "result_expires"), ("task_track_startd", "task_track_started"), ("redis_hots", "redis_host")],
)
def test_an_unknown_setting_is_refused_and_the_nearest_is_named(typo: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"{typo}.*{meant}"):
        make_settings({typo: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("result_expires", "soon"),
        ("result_expires", -1),
        ("max_result_bytes", -5),
        ("fallback_interval", 0),
        ("poll_interval", float("nan")),
        ("result_extended", "perhaps"),
        ("timezone", "Mars/Olympus"),
        ("result_serializer", "xml"),
        ("result_accept_content", ["jsn"]),
        ("database_result_format", "json"),
    ],
)
def test_a_bad_value_is_refused_and_its_setting_is_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name if "content" not in name and "serializer" not in name else "jsn|xml"):
        make_settings({name: value})


def test_pickle_is_accepted_only_where_it_is_named() -> None:
    assert make_settings({"result_serializer": "msgpack"}).accepted == {"json", "msgpack"}
    for settings in ({"result_serializer": "pickle"}, {"result_serializer": "pickle", "accept_content": ["json"]}):
        with pytest.raises(SettingsError, match="pickle"):
            make_settings(settings)
    assert "pickle" in make_settings({"result_serializer": "pickle", "result_accept_content": {"pickle"}}).accepted


@pytest.mark.parametrize(("given", "used"), [("", ""), ("app", "app_"), ("app:", "app:"), ("a-", "a-"), ("a.", "a.")])
def test_the_key_prefix_gets_celerys_separator(given: str, used: str) -> None:
    assert make_settings({"global_keyprefix": given}).keyprefix == used
    assert make_settings({"result_backend_transport_options": {"global_keyprefix": given}}).keyprefix == used


def test_lifetimes_follow_celerys_rules() -> None:
    assert Settings().expires_for("SUCCESS") == 86400
    assert make_settings({"result_expires": 0}).expires_for("SUCCESS") is None
    assert make_settings({"result_expires": None}).expires_for("FAILURE") is None
    both = make_settings({"result_expires": 10, "result_failure_expires": 20})
    assert (both.expires_for("SUCCESS"), both.expires_for("FAILURE"), both.expires_for("REVOKED")) == (10, 20, 10)
    assert make_settings({"result_failure_expires": 0}).expires_for("FAILURE") is None


HARMLESS = """result_serializer accept_content result_accept_content result_compression timezone global_keyprefix
    redis_host redis_client_name database_result_format""".split()


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_text_that_is_not_known_to_be_harmless_is_not_shown(name: str) -> None:
    """A setting that is added tomorrow is masked until somebody says otherwise."""
    values: list[Any] = ["s3cret", {"password": "s3cret"}, ["s3cret"]]
    for value in values:
        settings = Settings(**{name: value})
        for shown in (repr(settings), str(settings), repr(settings.__rich_repr__())):
            assert name in shown
            assert ("s3cret" in shown) is (name in HARMLESS)
    url: Any = "redis://u:s3cret@h"
    assert "s3cret" not in repr(Settings(**{name: url}))


def test_settings_show_what_is_not_the_default() -> None:
    assert repr(Settings()) == "Settings()"
    settings = make_settings({"result_expires": 60, "push": False, "result_backend": "redis://:s3cret@h:7/1"})
    assert repr(settings) == "Settings(result_expires=60.0, result_backend='redis://***@h:7/1', push=False)"
    assert "s3cret" not in repr(aioresult.Backend("redis://:s3cret@h", redis_password="s3cret").settings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:7/1", "redis://h:7/1"),
        ("redis://user:s3cret@h:7/1", "redis://***@h:7/1"),
        ("redis://h/0?password=s3cret", "redis://h/0?***"),
        ("sentinel://:s3cret@a:1;sentinel://b:2", "sentinel://***@a:1;sentinel://b:2"),
        ("sentinel://:s3cret@a:1;sentinel://:s3cret@b:2", "sentinel://***@b:2"),
        ("postgresql://u:12/s3c;r et@h/d", "postgresql://***@h/d"),
        ("postgresql://u:12?s3cret@h/d", "postgresql://***"),
        ("redis://u:12#s3cret@h/0", "redis://***@h/0"),
        ("u:s3cret@h://", "***"),
        ("s3cret", "***"),
        ("redis://", "redis://"),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_password(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_the_public_names_are_these() -> None:
    assert sorted(aioresult.__all__) == sorted(set(aioresult.__all__))
    for name in aioresult.__all__:
        assert getattr(aioresult, name) is not None
    required = """Backend AsyncResult GroupResult ResultSet TaskRunner Record Settings configure get_backend gather
        as_completed wait progress register_exception"""
    assert set(required.split()) <= set(aioresult.__all__)
