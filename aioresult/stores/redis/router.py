"""Which node of a cluster holds which slot, and sending each command to the node that holds its key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from redis.crc import key_slot

from aioresult.errors import AioResultError, StoreUnavailable
from aioresult.stores.redis.connect import Address
from aioresult.stores.redis.errors import ServerError
from aioresult.stores.redis.link import Link
from aioresult.stores.redis.wire import Meter, Reply, pack

_ROUNDS: Final = 5
"""How often a redirected command is sent again before the redirection is returned as its reply."""
_ASKING: Final = pack("ASKING")
_SLOTS: Final = 16384
Place = tuple[str, int]
"""Host and port of a node."""


class Topology:
    """The primaries and their slots, as one node reported them.

    Attributes:
        primaries: their places; primaries without a slot are left out.
    """

    def __init__(self, ranges: Iterable[tuple[int, int, Place]], location: str) -> None:
        self._location = location
        self._owners: list[Place | None] = [None] * _SLOTS
        for first, last, place in ranges:
            self._owners[first : last + 1] = [place] * (last + 1 - first)
        self.primaries: tuple[Place, ...] = tuple(sorted({place for place in self._owners if place is not None}))

    def owner(self, key: str) -> Place:
        """Return the primary that holds ``key``.

        Raises:
            StoreUnavailable: no primary does.
        """
        slot = key_slot(key.encode(), _SLOTS)
        place = self._owners[slot]
        if place is None:
            raise StoreUnavailable(f"Redis at {self._location} is unavailable: no node holds slot {slot}")
        return place


def _parse_slots(reply: Reply, asked: Place) -> list[tuple[int, int, Place]]:
    """Return the ranges in a reply to ``CLUSTER SLOTS``; an entry without a host means the node that was asked."""
    ranges: list[tuple[int, int, Place]] = []
    if not isinstance(reply, list):
        return ranges
    for entry in reply:
        match entry:
            case [int(first), int(last), [(bytes() | None) as host, int(port), *_], *_]:
                name = host.decode() if host else ""
                ranges.append((first, last, (name if name not in ("", "?") else asked[0], port)))
    return ranges


def _redirected(reply: ServerError, asked: Place) -> Place | None:
    """Return the place in a ``MOVED`` or ``ASK`` reply; without a host, it is that of the node that was asked."""
    place = str(reply).rpartition(" ")[2]
    host, _, port = place.rpartition(":")
    return (host or asked[0], int(port)) if port.isdecimal() else None


class _Request(msgspec.Struct, eq=False):
    """One command, with its reply and the node to send it to.

    Attributes:
        retried: whether it was repeated already after a node could not be reached.
        place: the node that has replied.
        asked: the node to send it to, for the next attempt only.
        moved_to: the node that holds its key now.
    """

    key: str
    command: bytes
    retried: bool
    reply: Reply = None
    place: Place = ("", 0)
    asked: Place | None = None
    moved_to: Place | None = None

    def take(self, reply: Reply, place: Place) -> None:
        """Take the reply of the node at ``place``, or the error of the attempt."""
        self.reply = reply
        self.place = place
        self.asked = self.moved_to = None

    def is_to_be_repeated(self) -> bool:
        """Return whether to send it again: to ``asked``, for one attempt, or by a newer topology."""
        reply = self.reply
        if type(reply) is ServerError:
            if reply.code == "ASK":
                self.asked = _redirected(reply, self.place)
            elif reply.code == "MOVED":
                self.moved_to = _redirected(reply, self.place)
            return reply.code in ("ASK", "MOVED")
        if isinstance(reply, StoreUnavailable) and not self.retried:
            self.retried = True
            return True
        return False


class Router:
    """One link per node in use, and the present topology, which is looked up again when it is out of date."""

    def __init__(
        self, seeds: Sequence[Place], address_of: Callable[[Place], Address], location: str, meter: Meter
    ) -> None:
        self.address_of = address_of
        self.location = location
        self._seeds = tuple(seeds)
        self._meter = meter
        self._links: dict[Place, Link] = {}
        self._topology: Topology | None = None
        self._stale: Topology | None = None
        self._discovering = asyncio.Lock()

    @property
    def resp(self) -> int:
        """The protocol version of the connections so far; 0 before the first."""
        return max((link.resp for link in self._links.values()), default=0)

    # --- the topology ---

    async def topology(self) -> Topology:
        """Return the present topology, after looking it up if need be.

        Raises:
            StoreUnavailable: no node answers.
        """
        topology = self._topology
        if topology is None or topology is self._stale:
            return await self.look_up(topology)
        return topology

    def place_of(self, key: str) -> Place | None:
        """Return the node that holds ``key``, if it is known."""
        return self._topology.owner(key) if self._topology is not None else None

    def outdate(self, topology: Topology) -> None:
        """Note that ``topology`` may be out of date: if it is still the present one, the next use replaces it."""
        self._stale = topology

    async def look_up(self, known: Topology | None, *first: Place | None) -> Topology:
        """Return a topology that is newer than ``known``, asking the nodes in ``first`` before all others."""
        async with self._discovering:
            if self._topology is None or self._topology is known:
                self._topology = await self._discover(first)
            return self._topology

    async def _discover(self, first: Sequence[Place | None]) -> Topology:
        primaries = list(self._topology.primaries) if self._topology is not None else []
        random.shuffle(primaries)  # so that many processes do not all ask the same node
        problems = []
        places = [place for place in (*first, *primaries, *self._seeds) if place is not None]
        for place in dict.fromkeys(places):
            try:
                return await self._ask_for_slots(place)
            except StoreUnavailable as exc:
                problems.append(str(exc))
        raise StoreUnavailable(f"Redis at {self.location} is unavailable: no node can be asked ({'; '.join(problems)})")

    async def _ask_for_slots(self, place: Place) -> Topology:
        link = self._links.get(place) or Link(self.address_of(place), self._meter, waits=False)
        kept = False
        try:
            (reply,) = await link.call((pack("CLUSTER", "SLOTS"),))
            if isinstance(reply, ServerError):
                raise link.address.refused(reply)
            topology = Topology(_parse_slots(reply, place), self.location)
            if not topology.primaries:
                raise StoreUnavailable(
                    f"Redis at {link.address.location} is unavailable: it knows no node that holds a slot"
                )
            if kept := place in topology.primaries:
                self._links.setdefault(place, link)
            return topology
        finally:
            if not kept and self._links.get(place) is not link:
                await link.aclose()

    # --- commands ---

    async def run(self, commands: Sequence[tuple[str, bytes]], *, once: bool = False) -> list[Reply]:
        """Send packed commands, each to the node that holds its key, those for one node in one buffer.

        Redirections are followed. If a node cannot be reached, the topology is looked up again, since another node may
        have replaced it. All commands must therefore be harmless when executed twice, or ``once`` must forbid that. If
        a node still cannot be reached, ``StoreUnavailable`` is returned in place of its replies.

        Raises:
            StoreUnavailable: the topology cannot be read.
        """
        requests = [_Request(key, command, once) for key, command in commands]
        todo = requests
        for _ in range(_ROUNDS):
            topology = await self.topology()
            await self._send_all(self._by_place(todo, topology), once)
            todo = [request for request in todo if request.is_to_be_repeated()]
            if not todo:
                break
            if lost := [request for request in todo if request.asked is None]:
                await self.look_up(topology, *[request.moved_to for request in lost])
        for request in requests:
            if isinstance(request.reply, AioResultError) and not isinstance(request.reply, StoreUnavailable):
                raise request.reply
        return [request.reply for request in requests]

    def _by_place(self, requests: Sequence[_Request], topology: Topology) -> dict[Place, list[_Request]]:
        groups: dict[Place, list[_Request]] = {}
        try:
            for request in requests:
                groups.setdefault(request.asked or topology.owner(request.key), []).append(request)
        except StoreUnavailable:
            self.outdate(topology)
            raise
        return groups

    async def _send_all(self, groups: Mapping[Place, Sequence[_Request]], once: bool) -> None:
        if len(groups) == 1:
            for place, requests in groups.items():
                await self._send(place, requests, once)
        else:
            await asyncio.gather(*(self._send(place, requests, once) for place, requests in groups.items()))

    async def _send(self, place: Place, requests: Sequence[_Request], once: bool) -> None:
        """Send the requests of one node, and assign them their replies, or the error."""
        link = self._links.get(place)
        if link is None:
            link = self._links[place] = Link(self.address_of(place), self._meter, waits=False)
        commands = []
        for request in requests:
            commands += [_ASKING, request.command] if request.asked else [request.command]
        try:
            replies = iter(await link.call(commands, once=once))
        except AioResultError as exc:
            for request in requests:
                request.take(exc, place)
            return
        for request in requests:
            if request.asked:
                next(replies)
            request.take(next(replies), place)

    async def aclose(self) -> None:
        """Close all links; the next call opens new ones."""
        for link in self._links.values():
            await link.aclose()
