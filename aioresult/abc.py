"""The ports: stores, and the feeds of their events. The docstrings are the specification.

A new store is a subclass of ``Store`` with the three required methods, registered under the entry-point group
``aioresult.stores`` with its URL scheme as the name; ``aioresult.testing.StoreTests`` checks it against this page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import ClassVar, Self

import msgspec

from aioresult.codec import Codec
from aioresult.errors import AioResultError, Unsupported
from aioresult.record import Encoded, Record, ResultTree
from aioresult.settings import Settings
from aioresult.stream import Append, Chunk, Cursor, News

Event = tuple[str, Record | None]
"""A task's id and its record; ``None`` means that the receiver must read the record itself."""
Sink = Callable[[str, Record | None], None]
"""Takes one event; called in the loop's thread, never blocks, never raises."""
NewsSink = Callable[[str, News], None]
"""Takes news of a stream, as a ``Sink`` does."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do here and now, and why.

    Attributes:
        push: whether waiters are woken by the store rather than by polling.
        mechanism: for example ``"Redis pub/sub (RESP3, one connection)"``.
        reason: why it is this mechanism and not a better one; empty if there is none better.
        writes: whether results can be stored; a standby server, for example, only reads.
        details: further facts worth showing to an operator, such as the server's version.
    """

    push: bool
    mechanism: str
    reason: str = ""
    writes: bool = True
    details: dict[str, str] = {}


class Feed(ABC):
    """A stream of events about the tasks that are watched on it.

    The contract:

    1. After ``watch(ids)``, the feed must emit at least one event for each of these ids, and not before the
       subscription is effective: whatever is stored after that event is announced. A feed that reads the id itself
       after subscribing emits the record (PENDING where nothing is stored); any other feed emits ``(id, None)``.
    2. Every later state of a watched task is announced. Duplicates are fine, misses are not.
    3. If something may have been missed, emit ``(id, None)`` for every id concerned, or raise ``StoreUnavailable`` from
       the iteration; the hub then opens a new feed and watches everything again. Never end without an error.
    4. Watching an id again is harmless, and requires an event as the first time.

    5. After ``follow(ids, tell)``, the same holds for the streams of these tasks. The feed must call ``tell(id,
       LOOK)``, not before the subscription is effective. Every later item is announced by ``stream.News`` or
       ``stream.LOOK``.

    A feed belongs to one task that iterates it. The other methods are called from the same loop, one at a time, and
    raise ``StoreUnavailable`` when the connection is lost.
    """

    @abstractmethod
    async def watch(self, ids: Collection[str]) -> None:
        """Subscribe to ``ids``; may return before the subscription is effective."""

    @abstractmethod
    async def unwatch(self, ids: Collection[str]) -> None:
        """Drop the subscriptions to ``ids``; events that are already in flight may still arrive."""

    async def follow(self, ids: Collection[str], tell: NewsSink) -> None:
        """Subscribe to the streams of ``ids``; may return before the subscription is effective.

        Only called where the store ``keeps_streams``, and always with the same ``tell``.
        """
        raise Unsupported(f"{type(self).__name__} does not announce items of streams")

    async def unfollow(self, ids: Collection[str]) -> None:
        """Drop the subscriptions to the streams of ``ids``; events that are already in flight may still arrive."""
        raise Unsupported(f"{type(self).__name__} does not announce items of streams")

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Event]:
        """Iterate the events; ends only by an exception or by ``aclose``."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release what the feed holds; harmless when the connection is already lost, and when called twice."""

    def attach(self, sink: Sink) -> None:  # noqa: B027  (optional: the default is to deliver by iteration)
        """Let the feed call ``sink`` directly, at the moment an event arrives, instead of yielding it.

        Optional; saves a turn of the event loop for each event. Failures are still raised from the iteration.
        """


class Store(ABC):
    """Where records are kept.

    A store is made once for each event loop that uses it (unless ``loop_bound`` is false), opens its connections at the
    first call, and is called by the batcher: for one kind of call at most ``lanes`` times at once, and never twice with
    the same id in one call. A ready-made store serves the first loop; ``another`` makes one for each other loop.

    Every method raises ``StoreUnavailable`` when the store cannot be reached, naming ``location``. Before that, a dead
    connection is replaced and the call repeated once: an idle one may have been cut. A missing right is
    ``AccessDenied``. The three required methods may raise ``PartlyUnavailable`` where only some servers have answered.

    Attributes:
        loop_bound: whether an instance belongs to the event loop that first uses it. If false, one instance serves all
            loops, at once and from several threads, and forked children; each loop that ends calls ``aclose``.
        keeps_streams: whether ``append_many`` and ``read_many`` work.
        keeps_leases: whether ``renew_lease``, ``end_lease`` and ``ended_leases`` work, and ``put_many`` obeys
            conditional records.
        needs_purge: whether expired records are kept until ``purge`` is called.
        max_id_length: the longest id that can be stored, in characters of up to four bytes; ``None`` for no limit.
            Celery's SQL tables hold 155.
        lanes: how many batches of reads, and as many of writes and deletions, may be in flight at once: two if the
            server works in parallel with this process. An id is always written over the same lane.
        settings: the checked settings.
        codec: encodes and decodes records by these settings.
        location: host, port and database as shown in messages; never a credential.
        commands: how many commands, statements or requests have been sent so far. The store counts them itself, because
            they are the cost of waiting; see ``Backend.stats``.
    """

    loop_bound: ClassVar[bool] = True
    keeps_streams: ClassVar[bool] = False
    keeps_leases: ClassVar[bool] = False
    needs_purge: ClassVar[bool] = False
    max_id_length: ClassVar[int | None] = None
    lanes: int = 1

    def __init__(self, url: str, settings: Settings) -> None:
        """Prepare to use ``url``; connects to nothing yet.

        Raises:
            SettingsError: the URL cannot be understood.
        """
        self.settings = settings
        self.codec = Codec(settings)
        self.location = url.partition("://")[0] + "://"
        self.commands = 0
        self._made_from: object = url

    def encode(self, record: Record) -> Record:
        """Return ``record`` with its result in the store's own format (``Encoded``), ready for ``put_many``.

        Called at once, so that later changes to the value do not matter, and so that an error reaches this caller
        alone. Harmless when called twice.

        Raises:
            EncodeError: the value cannot be encoded, or is too large.
        """
        return msgspec.structs.replace(record, result=Encoded(self.codec.encode_record(record)))

    @classmethod
    def from_client(cls, client: object, settings: Settings) -> Self:
        """Return a store over a driver's client that the caller owns, and that ``aclose`` leaves open.

        Called for each event loop, with the same client; whether that may serve several is up to its driver.
        """
        raise Unsupported(f"{cls.__name__} takes a URL, not a ready client")

    def another(self) -> Store:
        """Return an unused store at the same place, for another event loop or a forked child.

        The default calls the class as backends do, with the URL and settings that ``Store.__init__`` got. A class whose
        constructor takes something else overrides this.

        Raises:
            Unsupported: this store cannot be made again.
        """
        source = self._made_from
        if not isinstance(source, str):
            return self.from_client(source, self.settings)
        try:
            other = type(self)(source, self.settings)
        except (TypeError, ValueError):  # the constructor takes something else
            other = None
        if other is None or other.location != self.location:
            raise Unsupported(
                f"{type(self).__name__} at {self.location} belongs to the event loop that used it first, and cannot be "
                f"made again for another: give the backend a URL, make one backend for each loop, or define another()"
            )
        return other

    @abstractmethod
    async def get_many(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Return the records of ``ids``; ids without one are left out.

        What is stored is returned, however old it is and whatever ``result_expires`` says here. Only a record that
        contains its own expiry time counts as absent after that time, even if it is not deleted yet. A record that
        cannot be decoded appears as ``Record.undecodable`` and never fails the others.
        """

    @abstractmethod
    async def put_many(self, records: Sequence[Record]) -> Sequence[bool]:
        """Store ``records`` and return for each, in order, whether it was written.

        Atomic per record: value, state, expiry and notification in one step, decided inside the store by
        ``record.goes_over(old)``, or its equivalent in the server's language; ``old`` is ``None`` where nothing is
        stored, or only an expired record. The rule is ``states.replaces``. A ``Conditional`` has a rule of its own, and
        is passed only to a store that ``keeps_leases``. A record that may not replace what is stored is left out and
        reported as ``False``, unless the same record is stored already: then the call was repeated. A record lives for
        ``settings.expires_for(record.status)`` seconds. ``records`` have distinct ids and usually come from ``encode``;
        plain records are encoded here. ``codec.encode_record`` returns the bytes of both.

        Raises:
            EncodeError: a plain record cannot be encoded; then none is written.
        """

    @abstractmethod
    async def delete_many(self, ids: Sequence[str]) -> None:
        """Delete the records and streams of ``ids``; unknown ids are fine. Waiters are not woken."""

    async def append_many(self, appends: Sequence[Append]) -> Sequence[int | AioResultError]:
        """Append items to streams; return for each, in order, the number of its last item, or why it was refused.

        ``appends`` have distinct ids. Atomic for each of them: the store numbers its items 1, 2, 3, ... without gaps,
        also where several producers append at once; it refuses all of them with ``stream.stream_ended`` where the task
        is final, and with ``stream.stream_full`` where the stream would hold more than ``stream_max_items``, unless
        ``stream_trim`` says to delete the oldest ones instead. These errors are returned and not raised, so that they
        reach their own callers only. A stream lives for ``settings.result_expires`` seconds after its last item.
        Readers are notified in the same step. If an append is ``repeated``, items that are already among the newest
        ``stream.REPEATED_AMONG`` ones are not stored again; the number returned is that of its last item, wherever it
        is stored.
        """
        raise Unsupported(f"{type(self).__name__} keeps no streams; report what happens by update_state() instead")

    async def read_many(self, cursors: Sequence[Cursor]) -> Sequence[Chunk]:
        """Return for each cursor, in order, what its stream holds after it; ``stream.EMPTY`` where there is no stream.

        Ids may be repeated. A chunk may hold fewer items than the limit; if there is an item, it holds at least one,
        unless the limit is 0. Once a cursor with ``final`` has read a stream, the store refuses later appends to it.
        """
        raise Unsupported(f"{type(self).__name__} keeps no streams; watch the task's states by updates() instead")

    async def renew_lease(self, runner: str, seconds: float) -> None:
        """Record that the runner of this id is alive, until ``seconds`` from now by the store's own clock.

        Raises:
            Unsupported: this account may not do so, or there is no place to store leases; says what to do.
        """
        raise Unsupported(f"{type(self).__name__} keeps no leases")

    async def end_lease(self, runner: str) -> None:
        """Delete a lease; an unknown one is fine."""
        raise Unsupported(f"{type(self).__name__} keeps no leases")

    async def ended_leases(self, runners: Sequence[str]) -> Collection[str]:
        """Return those of ``runners`` that have no lease in effect, by the store's own clock."""
        raise Unsupported(f"{type(self).__name__} keeps no leases")

    async def feed(self) -> Feed | None:
        """Open a new feed of events, or return ``None`` where the store cannot push: it is then polled."""
        return None

    async def purge(self) -> int:
        """Delete expired records now and return how many; 0 where the store expires them by itself.

        Called by operators, and every ``purge_interval`` seconds where that is set. Works in short steps, so that other
        calls need not wait long. Does nothing where another process is purging already. May be cancelled between two
        steps, or within one.
        """
        return 0

    async def ping(self) -> None:
        """Make one round trip to the store."""
        await self.get_many(["aioresult-ping"])

    async def capabilities(self) -> Capabilities:
        """Return what is in effect here, after connecting if need be."""
        return Capabilities(push=False, mechanism="polling", reason="this store has no way to notify")

    async def put_group(self, group_id: str, tree: ResultTree) -> None:
        """Save a group (``codec.encode_group``) for ``settings.result_expires`` seconds, in place of one of this id."""
        raise Unsupported(f"{type(self).__name__} keeps no groups; keep the ids of the members yourself")

    async def get_group(self, group_id: str) -> ResultTree | None:
        """Return a saved group's tree, or ``None``.

        Raises:
            DecodeError: it is stored but cannot be read.
        """
        raise Unsupported(f"{type(self).__name__} keeps no groups; keep the ids of the members yourself")

    async def delete_group(self, group_id: str) -> None:
        """Delete a saved group, not its members; an unknown one is fine."""
        raise Unsupported(f"{type(self).__name__} keeps no groups; keep the ids of the members yourself")

    async def aclose(self) -> None:  # noqa: B027  (a store without connections has nothing to close)
        """Close what this store opened, and nothing that was handed to it. Harmless when called twice.

        Where ``loop_bound`` is false, other loops may be using the store now, and it may be used again.
        """
