"""A Celery application's configuration as an ``aioresult.Backend``."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote_plus

from aioresult.backend import Backend
from aioresult.errors import BackendNotConfigured, SettingsError, UnknownStore
from aioresult.integrations.celery.protocols import App
from aioresult.settings import SERIALIZERS, Settings
from aioresult.stores.foreign import READ_HERE, why_not

_PLUGIN: Final = "aioresult+"
_BARE_NAMES: Final = {
    "redis": "redis:///{redis_db}",
    "rediss": "rediss:///{redis_db}",
    "mongodb": "mongodb://",
    "celery.backends.redis:RedisBackend": "redis:///{redis_db}",
    "celery.backends.mongodb:MongoBackend": "mongodb://",
}
_SOCKETS: Final = ("socket", "unix")
"""Words in the schemes of Unix sockets."""
_DATABASE: Final = ("database", "db", "celery.backends.database:DatabaseBackend")
"""Names without a URL, which is in the setting ``database_url``."""
_NOT_IN_NAMES: Final = frozenset('/\\@ "$')
"""Characters that no database name should hold. ``@`` is valid, but mostly means that a password is not encoded."""
_CONTENT: Final = ("accept_content", "result_accept_content")
_SETTINGS: Final = frozenset(Settings.__struct_fields__) - {"result_backend", "database_url"}


def backend_from_app(app: App, **overrides: Any) -> Backend:
    """Return a backend that reads and writes what a Celery application's workers and clients store.

    The URL, ``result_backend_transport_options`` and all other settings about results are used. ``rpc://``,
    ``cache+...`` and the like are refused, because other processes cannot read results there.

    Args:
        app: the application; its configuration is loaded by this call.
        overrides: settings that win over the application's; ``result_backend`` gives another URL.

    Raises:
        BackendNotConfigured: the application has no result backend.
        UnknownStore: its result backend cannot be used here.
        SettingsError: a serializer or another setting cannot be used here.
    """
    url = overrides.pop("result_backend", None) or _url(app)
    url, settings = _signing_in_as_celery(url, {**_settings(app, url), **overrides})
    try:
        return Backend(url, **settings)
    except UnknownStore as exc:
        raise _refusal(app, f"{url.partition('://')[0]}://", str(exc)) from exc
    except SettingsError as exc:
        raise type(exc)(f"the configuration of the Celery application {app.main!r}: {exc}") from exc


def _url(app: App) -> str:
    configured = app.backend_cls or app.conf.result_backend
    if not configured or configured == "disabled":
        raise BackendNotConfigured(
            f"the Celery application {app.main!r} has no result_backend: set it to where its workers store results"
        )
    if isinstance(configured, type):
        if getattr(configured, "is_aioresult", False):
            return app.backend.url
        configured = f"{configured.__module__}:{configured.__qualname__}"
    return _spelled_out(app, str(configured).removeprefix(_PLUGIN))


def _spelled_out(app: App, configured: str) -> str:
    """Return the URL of a result backend that is configured in one of Celery's ways.

    Raises:
        SettingsError: the result backend cannot be used here.
    """
    kind, separator, _ = configured.partition("://")
    if separator:
        return configured
    if kind in _DATABASE:
        url = app.conf.get("database_url")
        if not url:
            raise SettingsError(
                f"the Celery application {app.main!r}: result_backend={kind!r} needs the setting database_url"
            )
        return str(url)
    if kind not in _BARE_NAMES:
        shown = kind.partition(":")[0] if "@" in kind else kind  # a URL without slashes may hold a password
        raise _refusal(app, shown, why_not(kind) or f"it is not known here; {READ_HERE}")
    return _BARE_NAMES[kind].format(redis_db=app.conf.get("redis_db") or 0)


def _refusal(app: App, what: str, why: str) -> UnknownStore:
    return UnknownStore(
        f"the Celery application {app.main!r} has the result backend {what!r}, which cannot be used here: {why}"
    )


def _settings(app: App, url: object) -> dict[str, Any]:
    """Return the application's settings about results, without those that are not set.

    Celery looks at ``redis_db`` only where ``result_backend`` is a name or a Unix socket: a URL without a number means
    database 0.
    """
    conf = app.conf
    values = {name: value for name in _SETTINGS if (value := conf.get(name)) is not None}
    if not any(word in str(url).partition("://")[0].lower() for word in _SOCKETS):
        values.pop("redis_db", None)
    values["result_expires"] = conf.get("result_expires")  # None means for ever
    for name in _CONTENT:
        if name in values:  # other content types cannot be read here, which matters only if a worker stores them
            listed = [values[name]] if isinstance(values[name], str) else values[name]
            values[name] = tuple(content for content in listed if content in SERIALIZERS)
    return values


def _signing_in_as_celery(url: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Move the database from a MongoDB URL into the settings, if both are well formed.

    A driver looks for the user in the URL's database. Celery passes only the hosts to the driver, which then looks in
    the default database of the mechanism, mostly ``admin``, unless ``authSource`` names one.
    """
    scheme, _, rest = url.removeprefix(_PLUGIN).partition("://") if isinstance(url, str) else ("", "", "")
    place, question, options = rest.partition("?")
    hosts, _, name = place.partition("/")
    database = unquote_plus(name).partition(".")[0]  # after a dot, a collection would follow
    given = settings.get("mongodb_backend_settings") or {}
    odd = _NOT_IN_NAMES.intersection(database) or not isinstance(given, dict)
    if scheme.lower().partition("+")[0] != "mongodb" or not database or odd:
        return url, settings
    chosen = {**given, "database": given.get("database") or database}
    return f"{scheme}://{hosts}/{question}{options}", {**settings, "mongodb_backend_settings": chosen}
