"""A Celery application's configuration, in whatever spelling, becomes a backend that reads what it stores."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from aioresult import Backend, BackendNotConfigured, SettingsError
from aioresult.integrations.celery import backend_from_app
from aioresult.integrations.celery.plugin import AioResultBackend
from tests.integrations.celery.workers import application
from tests.servers import MongoServer, RedisSentinels, RedisServer


def app_with(**conf: Any) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update(conf)
    return app


def refusal(**conf: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        backend_from_app(app_with(**conf))
    return str(caught.value)


class TestUnderstands:
    @pytest.mark.parametrize(
        "url",
        [
            "redis://:secret@cache.example/3",
            "rediss://cache.example/0",
            "redis+socket:///run/redis.sock?virtual_host=4",
            "mongodb://user:secret@a.example,b.example/results?replicaSet=rs0",
            "socket:///run/redis.sock?db=4",
            "valkey://cache.example/3",
            "db+postgres://user:secret@a.example,b.example:5433/shop?target_session_attrs=read-write",
            "db+sqlite:///results.db",
            "db+postgresql://user:secret@db.example/shop",
            "db+postgresql+psycopg2://user:secret@db.example/shop",
            "db+mysql+pymysql://user:secret@db.example/shop",
            "database+sqlite:///results.db",
            "aioresult+redis://cache.example/3",
            "aioresult+db+sqlite:///results.db",
            "redis",
            "mongodb",
            "celery.backends.redis:RedisBackend",
        ],
    )
    def test_every_spelling_of_a_store_that_can_be_used(self, url: str) -> None:
        assert isinstance(backend_from_app(app_with(result_backend=url)), Backend)

    def test_a_database_that_has_a_setting_of_its_own(self) -> None:
        for name in ("database", "db"):
            backend = backend_from_app(app_with(result_backend=name, database_url="sqlite:///results.db"))
            assert isinstance(backend, Backend)

    def test_a_backend_class_in_place_of_a_url(self) -> None:
        from celery.backends.redis import RedisBackend

        app = Celery("shop", backend=RedisBackend, set_as_current=False)
        assert isinstance(backend_from_app(app), Backend)

    async def test_the_plugin_s_class_in_place_of_a_url(self) -> None:
        class OwnPlace(AioResultBackend):
            def __init__(self, app: Any, **options: Any) -> None:
                super().__init__(app, **{**options, "url": "memory://own"})

        app = Celery("shop", backend=OwnPlace, set_as_current=False)
        async with backend_from_app(app) as backend:
            assert backend._runtime.store.location == "memory://own"
        with pytest.raises(SettingsError, match=r"needs a URL: result_backend='aioresult\+redis://"):
            backend_from_app(Celery("shop", backend=AioResultBackend, set_as_current=False))

    def test_the_environment_wins_as_in_celery(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CELERY_RESULT_BACKEND", "rpc://")
        assert "rpc://" in refusal(result_backend="redis://")

    def test_all_that_says_something_about_results(self) -> None:
        backend = backend_from_app(
            app_with(
                result_backend="redis://",
                result_serializer="msgpack",
                accept_content=["json", "application/x-msgpack", "auth"],
                result_expires=timedelta(hours=2),
                result_compression="gzip",
                result_extended=True,
                result_backend_transport_options={"global_keyprefix": "shop"},
                task_ignore_result=True,
                timezone="Asia/Tokyo",
                redis_password="secret",
            )
        )
        settings = backend.settings
        assert settings.result_serializer == "msgpack"
        assert settings.accepted == {"json", "msgpack"}
        assert settings.result_expires == 7200
        assert (settings.result_compression, settings.result_extended) == ("gzip", True)
        assert settings.keyprefix == "shop_"
        assert settings.task_ignore_result
        assert str(settings.zone) == "Asia/Tokyo"
        assert settings.redis_password == "secret"

    def test_settings_by_their_old_names(self) -> None:
        app = Celery("shop", set_as_current=False)
        app.config_from_object({"CELERY_RESULT_BACKEND": "redis://", "CELERY_TASK_RESULT_EXPIRES": 60})
        assert backend_from_app(app).settings.result_expires == 60

    def test_results_that_are_kept_for_ever(self) -> None:
        assert (
            backend_from_app(app_with(result_backend="redis://", result_expires=None)).settings.result_expires is None
        )

    def test_what_the_caller_wants_otherwise(self) -> None:
        app = app_with(result_backend="rpc://", result_expires=60)
        backend = backend_from_app(app, result_backend="redis://", result_expires=5.0, poll_interval=2.0)
        assert (backend.settings.result_expires, backend.settings.poll_interval) == (5.0, 2.0)


class TestRefuses:
    def test_an_application_without_a_result_backend(self) -> None:
        with pytest.raises(BackendNotConfigured, match="'shop' has no result_backend"):
            backend_from_app(app_with())

    @pytest.mark.parametrize("url", ["rpc://", "cache+memcached://h:11211/", "file:///tmp/results", "django-db", "rpc"])
    def test_a_store_that_cannot_be_read_from_elsewhere(self, url: str) -> None:
        text = refusal(result_backend=url)
        assert f"'shop' has the result backend {url.partition('://')[0]!r}"[:-1] in text
        assert "aioresult reads Redis" in text

    @pytest.mark.parametrize("url", ["redis:user:secret@h", "redis:/user:secret@h/0", "user:secret@h://x/0"])
    def test_what_is_no_url_without_showing_its_password(self, url: str) -> None:
        assert "secret" not in refusal(result_backend=url)

    def test_a_store_that_nobody_knows(self) -> None:
        assert "no store for URLs that begin with 'dynamodb://'" in refusal(
            result_backend="dynamodb://@us-east-1/results"
        )

    def test_a_database_without_its_url(self) -> None:
        assert "needs the setting database_url" in refusal(result_backend="database")

    def test_a_serializer_that_is_not_known(self) -> None:
        assert "unknown serializer 'toml'" in refusal(result_backend="redis://", result_serializer="toml")

    def test_pickle_that_is_not_accepted(self) -> None:
        assert "accepted content" in refusal(result_backend="redis://", result_serializer="pickle")

    def test_never_quotes_a_password(self) -> None:
        for url in ("dynamodb://user:secret@host", "redis://user:secret@host:port/0", "mongodb://user:sec/ret@host/x"):
            assert "sec" not in refusal(result_backend=url)


@pytest.fixture(scope="module")
def guarded() -> Iterator[MongoServer]:
    """A server that asks for passwords; ``shop`` is a user of ``admin``, and ``clerk`` one of ``results``."""
    with MongoServer(guarded=True) as server:
        server.call("createUser", "root", pwd="pw", roles=["root"])
        with server.client(username="root", password="pw") as client:
            roles = [{"role": "readWrite", "db": "results"}]
            client.admin.command("createUser", "shop", pwd="s3cr et", roles=roles)
            client.results.command("createUser", "clerk", pwd="s3cr et", roles=roles)
        yield server


SIGNING_IN: list[tuple[str, dict[str, Any]]] = [
    ("mongodb://shop:s3cr%20et@{host}/results", {}),
    ("mongodb://shop:s3cr%20et@{host}/results?authSource=admin", {}),
    ("mongodb://shop:s3cr%20et@{host}/other", {"database": "results"}),
    ("mongodb://shop:s3cr%20et@nowhere/results", {"mongo_host": ["{host}"]}),
    ("mongodb://{host}/results", {"user": "shop", "password": "s3cr et"}),
    ("mongodb://clerk:s3cr%20et@{host}/results?authSource=results", {}),
    ("mongodb://{host}/results", {"user": "clerk", "password": "s3cr et", "options": {"authsource": "results"}}),
]


@pytest.mark.parametrize(("url", "mongodb"), SIGNING_IN)
async def test_signs_in_to_mongodb_as_celery_does(guarded: MongoServer, url: str, mongodb: dict[str, Any]) -> None:
    host = f"127.0.0.1:{guarded.port}"
    place: dict[str, Any] = {"broker": "memory://", "backend": url.format(host=host)}
    if mongodb:
        place["mongodb_backend_settings"] = json.loads(json.dumps(mongodb).replace("{host}", host))
    task_id = str(uuid.uuid4())
    with application(**place) as app, application(**{**place, "backend": f"aioresult+{place['backend']}"}) as plugin:
        app.backend.store_result(task_id, 1, "SUCCESS")
        async with backend_from_app(app) as backend:
            assert await backend.AsyncResult(task_id).get(timeout=10) == 1
        assert plugin.AsyncResult(task_id).result == 1


async def test_reads_what_the_application_stores_behind_sentinel() -> None:
    with RedisSentinels(password="secret") as servers:
        url = ";".join(f"sentinel://:secret@{host}:{port}/0" for host, port in servers.addresses)
        options = {"master_name": servers.service, "global_keyprefix": "shop"}
        with application(broker="memory://", backend=url, result_backend_transport_options=options) as app:
            task_id = str(uuid.uuid4())
            app.backend.store_result(task_id, {"stored": "by Celery"}, "SUCCESS")
            async with backend_from_app(app) as backend:
                assert await backend.AsyncResult(task_id).get(timeout=10) == {"stored": "by Celery"}


async def test_reads_what_the_application_stores_under_a_password(keyprefix: str) -> None:
    with RedisServer(password="secret") as server, application(broker="memory://", backend=server.url) as app:
        app.backend.store_result(keyprefix, 1, "SUCCESS")
        async with backend_from_app(app) as backend:
            assert await backend.AsyncResult(keyprefix).get(timeout=10) == 1
            assert "secret" not in repr(backend)
