"""The settings of a backend: Celery's names and meanings, and a few of our own.

A Celery configuration can be passed as it is: settings about results take effect, Celery's other settings
(``broker_url``, ``worker_concurrency``, ...) are accepted and ignored, and anything else is an error that names the
nearest known setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, timedelta, tzinfo
from typing import Any, Final, Literal

import msgspec

from aioresult.credentials import MASK, without_credentials
from aioresult.errors import SettingsError
from aioresult.states import EXCEPTION_STATES

_CELERYS_OTHER_FAMILIES: Final = (
    "arangodb_ azureblockblob_ beat_ broker_ cache_ cassandra_ control_ cosmosdbsql_ couchbase_ dynamodb_"
    " elasticsearch_ event_ gcs_ s3_ security_ worker_"
)
_CELERYS_OTHER_SETTINGS: Final = (
    "imports include override_backends result_cache_max result_chord_expires result_chord_join_timeout"
    " result_chord_retry_interval result_exchange result_exchange_type result_persistent result_backend_thread_safe"
    " task_acks_late task_acks_on_failure task_acks_on_failure_or_timeout task_acks_on_timeout"
    " task_allow_error_cb_on_chord_header task_always_eager task_annotations task_compression"
    " task_create_missing_queue_exchange_type task_create_missing_queue_type task_create_missing_queues"
    " task_default_delivery_mode task_default_exchange task_default_exchange_type task_default_priority"
    " task_default_queue task_default_queue_type task_default_rate_limit task_default_routing_key"
    " task_eager_propagates task_inherit_parent_priority task_protocol task_publish_retry task_publish_retry_policy"
    " task_queue_max_priority task_queues task_reject_on_worker_lost task_remote_tracebacks task_repr_maxlevels"
    " task_retry_on_worker_lost task_routes task_send_sent_event task_serializer task_soft_time_limit"
    " task_store_eager_result task_time_limit"
)
_IGNORED_PREFIXES: Final = tuple(_CELERYS_OTHER_FAMILIES.split())
_IGNORED: Final = frozenset(_CELERYS_OTHER_SETTINGS.split())

SERIALIZERS: Final[dict[str, str]] = {
    "json": "json",
    "application/json": "json",
    "msgpack": "msgpack",
    "application/x-msgpack": "msgpack",
    "yaml": "yaml",
    "application/x-yaml": "yaml",
    "pickle": "pickle",
    "application/x-python-serialize": "pickle",
}
"""Celery's aliases and MIME types of the serializers that can be used."""
_HARMLESS: Final = frozenset(
    """
    result_serializer accept_content result_accept_content result_compression timezone global_keyprefix
    redis_host redis_client_name database_result_format
    """.split()
)
"""Settings whose text is shown. All other text and all containers may hold a credential; numbers do not."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one backend, checked. Times are seconds.

    Its ``repr`` shows the settings that differ from the default, but nothing that may hold a credential.

    Attributes:
        result_expires: lifetime of a stored result; ``None`` or 0 keeps it for ever. It never hides a stored result:
            results of other writers, and rows of a SQL table, are read until they are deleted.
        result_failure_expires: the same for FAILURE, but not on SQL; ``None`` means ``result_expires``, 0 for ever.
        result_serializer: encoder and only decoder of stored values: json, msgpack, yaml, or pickle if accepted.
        accept_content, result_accept_content: serializers that may be decoded (the second wins); by default json and
            the chosen ``result_serializer``, but never pickle unless it is named here.
        result_compression: zlib, gzip, bzip2, lzma, zstd, brotli or ``None``.
        result_extended: also store name, args, kwargs, worker, retries and queue.
        task_track_started: store STARTED; with ``None`` the producer decides (a ``TaskRunner`` stores it, Celery does
            not).
        task_ignore_result: store nothing, unless a call says otherwise.
        task_store_errors_even_if_ignored: store FAILURE, RETRY and REVOKED nevertheless.
        timezone, enable_utc: the zone of stored dates, a name or a ``tzinfo``; ``date_done`` is always given in UTC.
            SQLite and MySQL do not store the zone, so dates there are read in the zone of this setting.
        global_keyprefix: prefix of all keys and channels on key-value stores.
        max_result_bytes: largest encoded record that is stored; ``None`` for no limit.
        max_decompressed_bytes: largest record that compressed data may expand to.
        stream_max_items: most items in one stream; ``None`` for no limit.
        stream_trim: what happens beyond that: ``True`` deletes the oldest items, ``False`` refuses new ones.
        stream_buffer: most items of one task that wait to be stored, before ``emit`` blocks or refuses more.
        push: ``False`` polls even where the store could push.
        poll_interval, poll_min_interval: longest and shortest pause between two reads of a polling feed.
        fallback_interval: pause between two reads of everything outstanding, in case a notification was lost.
        idle_timeout: how long the subscription is kept open after the last waiter has left.
        connect_timeout: longest time that opening a connection may take.
        purge_interval: pause between two purges by a backend that stores results, for stores that do not delete expired
            results by themselves (SQL, memory, and what Celery stored in MongoDB). ``None``, the default, leaves it to
            calls of ``purge``. A purge deletes what *any* writer has stored longer than ``result_expires`` ago.
        database_result_format: ``"serializer"`` writes SQL results as Celery 5.7 does, ``"pickle"`` as Celery up to
            5.6.
        database_trigger: PostgreSQL announces what other writers store, such as Celery's workers, by a trigger. True
            installs it. Without the trigger, ``None`` polls in addition to the push. False does not poll; it is for
            tables in which only aioresult stores results.
    """

    result_expires: float | None = 86400.0
    result_failure_expires: float | None = None
    result_serializer: str = "json"
    accept_content: tuple[str, ...] | None = None
    result_accept_content: tuple[str, ...] | None = None
    result_compression: str | None = None
    result_extended: bool = False
    result_backend: str | None = None
    result_backend_transport_options: dict[str, Any] = {}
    result_backend_always_retry: bool = False
    result_backend_max_retries: float = float("inf")
    result_backend_base_sleep_between_retries_ms: float = 10
    result_backend_max_sleep_between_retries_ms: float = 10000
    task_track_started: bool | None = None
    task_ignore_result: bool = False
    task_store_errors_even_if_ignored: bool = False
    timezone: Any = None
    enable_utc: bool = True
    global_keyprefix: str = ""

    redis_host: str | None = None
    redis_port: int | None = None
    redis_db: int | None = None
    redis_username: str | None = None
    redis_password: str | None = None
    redis_max_connections: int | None = None
    redis_socket_timeout: float | None = 120.0
    redis_socket_connect_timeout: float | None = None
    redis_socket_keepalive: bool = False
    redis_retry_on_timeout: bool = False
    redis_backend_use_ssl: Any = None
    redis_backend_health_check_interval: float | None = None
    redis_backend_credential_provider: Any = None
    redis_client_name: str | None = None

    mongodb_backend_settings: dict[str, Any] | None = None

    database_url: str | None = None
    database_engine_options: dict[str, Any] | None = None
    database_engine_callback: Any = None
    database_short_lived_sessions: bool = False
    database_table_schemas: dict[str, str] | None = None
    database_table_names: dict[str, str] | None = None
    database_create_tables_at_setup: bool = True

    max_result_bytes: int | None = None
    max_decompressed_bytes: int = 256 * 2**20
    stream_max_items: int | None = 100_000
    stream_trim: bool = False
    stream_buffer: int = 1000
    push: bool = True
    poll_interval: float = 0.5
    poll_min_interval: float = 0.05
    fallback_interval: float = 30.0
    idle_timeout: float = 1.0
    connect_timeout: float = 5.0
    database_result_format: Literal["serializer", "pickle"] = "serializer"
    database_trigger: bool | None = None
    purge_interval: float | None = None

    @property
    def accepted(self) -> frozenset[str]:
        """Names of the serializers that may be decoded."""
        explicit = self.result_accept_content if self.result_accept_content is not None else self.accept_content
        if explicit is None:
            return frozenset({"json", self.result_serializer} - {"pickle"})
        return frozenset(SERIALIZERS[name] for name in explicit if name in SERIALIZERS)

    @property
    def zone(self) -> tzinfo | None:
        """The zone in which dates are stored; ``None`` for local time."""
        if self.timezone is None:
            return UTC if self.enable_utc else None
        if isinstance(self.timezone, tzinfo):
            return self.timezone
        from zoneinfo import ZoneInfo  # slow to import, and seldom needed

        return ZoneInfo(self.timezone)

    @property
    def keyprefix(self) -> str:
        """``global_keyprefix`` (ours, or Celery's transport option) with Celery's separator rule applied."""
        prefix = self.global_keyprefix or self.result_backend_transport_options.get("global_keyprefix") or ""
        return prefix if not prefix or prefix[-1] in ":_-." else f"{prefix}_"

    def expires_for(self, status: str) -> float | None:
        """Return the lifetime of a record in state ``status``, or ``None`` for no expiry."""
        if status == "FAILURE" and self.result_failure_expires is not None:
            return self.result_failure_expires or None
        return self.result_expires or None

    def ignores(self, status: str, ignore_result: bool | None = None) -> bool:
        """Return whether a record in state ``status`` is not stored; ``ignore_result`` is the option of its task."""
        ignored = self.task_ignore_result if ignore_result is None else ignore_result
        return ignored and not (status in EXCEPTION_STATES and self.task_store_errors_even_if_ignored)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, _shown(name, value)) for name, value in values if value != getattr(_DEFAULTS, name)]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


_DEFAULTS: Final = Settings()
_KNOWN: Final = Settings.__struct_fields__
_FLAGS: Final = frozenset(name for name, kind in Settings.__annotations__.items() if "bool" in str(kind))


def _shown(name: str, value: Any) -> Any:
    """Return what ``repr`` shows of a setting: of a URL the location, of most others only that it is set."""
    if value is None or isinstance(value, (bool, int, float)) or (name in _HARMLESS and "@" not in str(value)):
        return value
    return without_credentials(value) if isinstance(value, str) else MASK


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Check ``values`` and return them as ``Settings``.

    Raises:
        SettingsError: a name is unknown, a value has the wrong type or is out of range, or two settings contradict.
    """
    known = {name: _plain(name, value) for name, value in values.items() if _is_known(name)}
    try:
        settings = msgspec.convert(known, Settings, strict=False)  # numbers may be text, as the environment has them
    except msgspec.ValidationError as exc:
        message, _, path = str(exc).replace("null", "None").partition(" - at `$.")
        raise SettingsError(f"setting {path.rstrip('`') or '?'}: {message}") from exc
    _check_serializer(settings)
    _check_ranges(settings)
    _check_zone(settings)
    return settings


def _is_known(name: str) -> bool:
    if name in _KNOWN:
        return True
    if name in _IGNORED or name.startswith(_IGNORED_PREFIXES):
        return False
    import difflib  # needed only after a mistake

    nearest = difflib.get_close_matches(name, _KNOWN, n=1) or difflib.get_close_matches(name, _IGNORED, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise SettingsError(f"unknown setting {name!r}{hint}")


def _plain(name: str, value: Any) -> Any:
    """Convert the other forms that Celery accepts for a setting to the one that ``Settings`` declares."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if name in ("accept_content", "result_accept_content"):
        return tuple([value] if isinstance(value, str) else value) if value is not None else None
    if name == "result_backend_max_retries" and value is None:
        return float("inf")
    if name == "timezone":
        return value or None
    if name in _FLAGS and isinstance(value, str):
        raise SettingsError(f"setting {name}: expected True or False, not text; Celery takes {value!r:.80} for True")
    return value


def _check_serializer(settings: Settings) -> None:
    for name in (settings.result_serializer, *(settings.result_accept_content or ()), *(settings.accept_content or ())):
        if name not in SERIALIZERS and (name == settings.result_serializer or "/" not in name):
            known = ", ".join(sorted(set(SERIALIZERS.values())))
            raise SettingsError(f"unknown serializer {name!r}; known are {known}")
    if SERIALIZERS[settings.result_serializer] not in settings.accepted:
        raise SettingsError(
            f"result_serializer {settings.result_serializer!r} is not among the accepted content "
            f"{sorted(settings.accepted)}, so nothing could be read; add it to result_accept_content "
            f"(pickle can run code: only where every writer is trusted)"
        )


def _check_ranges(settings: Settings) -> None:
    for name in ("result_expires", "result_failure_expires", "max_result_bytes", "idle_timeout"):
        value = getattr(settings, name)
        if value is not None and not value >= 0:
            raise SettingsError(f"setting {name}: expected a number >= 0, got {value!r}")
    for name in (
        "poll_interval",
        "poll_min_interval",
        "fallback_interval",
        "connect_timeout",
        "max_decompressed_bytes",
        "purge_interval",
        "stream_buffer",
    ):
        value = getattr(settings, name)
        if not (value is None or value > 0):
            raise SettingsError(f"setting {name}: expected a number > 0, got {value!r}")


def _check_zone(settings: Settings) -> None:
    if not isinstance(settings.timezone, str | tzinfo | None):
        raise SettingsError(f"setting timezone: expected a zone's name or a tzinfo, got {settings.timezone!r:.80}")
    try:
        _ = settings.zone
    except (KeyError, ValueError, OSError) as exc:
        raise SettingsError(f"setting timezone: unknown time zone {settings.timezone!r}") from exc
