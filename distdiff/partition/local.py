"""One rank's share of the tape, in local numbers, with the schedule of its supersteps.

A `LocalTape` is what travels to a rank: structure, never values of nodes.  Its blocks and items are those of
`tape`, in local numbers: local node i is the i-th place of the rank's value vector.  Some places are the rank's own
nodes, the others are *ghosts*, copies of nodes that another rank computes.  An array's owned range and its halo lie
side by side in one block, so shifted operands of a stencil remain affine in local numbers.

Execution, the same for values and tangents:

    for step in steps:
        items[start:ready] in order;    start step.exchange forward (owner -> ghosts)
        items[ready:stop];              finish it

and for adjoints the same backwards:

    for step in reversed(steps):
                                        start step.exchange in reverse (ghosts -> added to the owner)
        items[ready:stop] backwards;    finish it
        items[start:ready]

so messages travel while a rank computes what no neighbour waits for.  All ranks have the same number of steps, k* of
them.  A node's superstep counts the cross-rank edges on paths to it (at the granularity the partition was made with).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..channels import Channel, Channels, Messages
from ..kernels.copies import ADD, COPY, MOVE, Copies, Picked
from ..kernels.sequence import Sequence
from ..machine import current
from ..node import Words, node
from ..strided import interval, numbers, progressions, shared
from ..tape import Affine, Block, Guard, Indexed, Item, Joint, Leaf, ScalarRun, Site, Tape

OBJECTS = 320  # bytes of Python objects a statement, block or step, about

# Some nodes of a message: (their places in the message, the array that holds them, their places in the array)
Spot = tuple[slice | np.ndarray, np.ndarray, slice | np.ndarray]
Copy = tuple[Callable[..., Any], tuple[Any, ...]]
UNPACK = -1  # beside the kinds of `Copies`: out of a buffer


@dataclass
class Exchange:
    """Who sends which local nodes to whom after a superstep; receiver's and sender's lists match in order.

        forward    y[ghosts] = y_owner[sent]                            `y` is (n,) or (n, m)
        reverse    lam_owner[sent] += lam[ghosts]; lam[ghosts] = 0      its transpose

    Passes over the tape repeat, so the messages are persistent requests, and `starter` and `finisher` bind all that a
    pass does to the memory it works on.  Neighbours start their exchanges in the same order.  `close` (local) frees the
    messages.
    """

    sends: list[tuple[int, np.ndarray]] = field(default_factory=list)  # (rank, local ids of own nodes)
    recvs: list[tuple[int, np.ndarray]] = field(default_factory=list)  # (rank, local ids of ghosts)
    _channels: Channels | None = field(default=None, repr=False, compare=False)

    def __bool__(self) -> bool:
        """Whether there is anything to exchange."""
        return bool(self.sends or self.recvs)

    def starter(self, comm: MPI.Comm, spots: list[list[Spot]], columns: tuple[int, ...] = (),
                back: bool = False) -> Callable[[], None]:
        """A function that packs what leaves this rank and starts the messages.

        spots: where the nodes of every message lie, those of `sends`, or `back` (in reverse) those of `recvs`.
        """
        channel = self._channel(comm, columns)
        return Starter(lambda: (channel.messages(back), _bound(MOVE if back else COPY, channel.packed(back), spots)))

    def finisher(self, comm: MPI.Comm, spots: list[list[Spot]], columns: tuple[int, ...] = (),
                 back: bool = False) -> Callable[[], None]:
        """A function that waits for the messages and unpacks them: spots of `recvs`, or `back` those of `sends`."""
        channel = self._channel(comm, columns)
        return Finisher(lambda: (channel.messages(back), _bound(ADD if back else UNPACK, channel.arrived(back), spots)))

    def latency(self, comm: MPI.Comm) -> float:
        """Seconds that its messages are on their way, by the machine's rates; 0 in memory of the node."""
        shared = node(comm)
        near = shared is not None and all(rank in shared.numbers for rank, _ in (*self.sends, *self.recvs))
        return 0.0 if near else current().latency

    def forward(self, comm: MPI.Comm, y: np.ndarray) -> None:
        """The exchange at once, on a vector of all local nodes.  Neighbours call together."""
        self._channel(comm, y.shape[1:], repeated=False)
        self.starter(comm, spots_of(self.sends, y), y.shape[1:])()
        self.finisher(comm, spots_of(self.recvs, y), y.shape[1:])()

    def reverse(self, comm: MPI.Comm, lam: np.ndarray) -> None:
        """Its transpose at once.  Neighbours call together."""
        self._channel(comm, lam.shape[1:], repeated=False)
        self.starter(comm, spots_of(self.recvs, lam), lam.shape[1:], back=True)()
        self.finisher(comm, spots_of(self.sends, lam), lam.shape[1:], back=True)()

    @property
    def nbytes(self) -> int:
        """Bytes of the lists of nodes and of the messages."""
        lists = sum(ids.nbytes for _, ids in (*self.sends, *self.recvs))
        return lists + (self._channels.nbytes if self._channels is not None else 0)

    def close(self) -> None:
        """Free the messages; a later pass makes them anew."""
        if self._channels is not None:
            self._channels.close()

    def _channel(self, comm: MPI.Comm, columns: tuple[int, ...], repeated: bool = True) -> Channel:
        if self._channels is None:
            self._channels = Channels(self.sends, self.recvs, _TAG)
        return self._channels.get(comm, columns, repeated)


class _Crossing:
    """One end of an exchange on the memory of a pass.  bind: messages and copies, asked for at the first call, when all
    neighbours have their channels."""

    def __init__(self, bind: Callable[[], tuple[Messages, list[Copy]]]) -> None:
        self._bind = bind

    @cached_property
    def bound(self) -> tuple[Messages, list[Copy]]:
        return self._bind()

    @property
    def _compiled(self) -> tuple[Words, list[Copies | Picked]] | None:
        """Words and copies, where these are all."""
        messages, calls = self.bound
        words = messages.in_memory
        return None if words is None else (words, [function for function, _ in calls])


class Starter(_Crossing):
    """Packs what leaves this rank and starts the messages."""

    def __call__(self) -> None:
        messages, copies = self.bound
        messages.before()
        for function, arguments in copies:
            function(*arguments)
        messages.start()

    def join(self, sequence: Sequence) -> bool:
        """Put it into a sequence of compiled loops (see `Passes`); False: it is more than these do."""
        if self._compiled is None:
            return False
        words, copies = self._compiled
        sent, _ = words.counts
        sequence.until([word.address for word in words.taken], sent)
        if not all(each.join(sequence) for each in copies):
            return False
        sequence.step(sent)
        sequence.tell([word.address for word in words.sent], sent)
        return True


class Finisher(_Crossing):
    """Waits for the messages and unpacks them."""

    def __call__(self) -> None:
        messages, copies = self.bound
        messages.finish()
        for function, arguments in copies:
            function(*arguments)
        messages.after()

    def join(self, sequence: Sequence) -> bool:
        if self._compiled is None:
            return False
        words, copies = self._compiled
        _, taken = words.counts
        sequence.step(taken)
        sequence.until([word.address for word in words.coming], taken)
        if not all(each.join(sequence) for each in copies):
            return False
        sequence.tell([word.address for word in words.took], taken)
        return True


def spots_of(messages: list[tuple[int, np.ndarray]], vector: np.ndarray) -> list[list[Spot]]:
    """Where the nodes of messages lie in one vector whose places are their ids."""
    return [[(where, vector, places) for where, places in progressions(ids)] for _, ids in messages]


def _bound(how: int, buffers: list[np.ndarray], spots: list[list[Spot]]) -> list[Copy]:
    """Calls that pack the buffers (COPY; MOVE: zeros are left behind) or unpack them (ADD: nodes are added to)."""
    together, calls = Copies(), list[Copy]()  # of slices, and of others
    for buffer, part in zip(buffers, spots):
        for where, array, places in part:
            if isinstance(where, slice) and isinstance(places, slice):
                if how in (COPY, MOVE):
                    together.add(how, buffer[where], array[places])
                else:
                    together.add(COPY if how == UNPACK else ADD, array[places], buffer[where])
            elif how in (COPY, MOVE):
                calls.append((Picked(how, buffer, where, array, places), ()))
            else:
                calls.append((Picked(COPY if how == UNPACK else ADD, array, places, buffer, where), ()))
    return [(together, ()), *calls] if together else calls


def copies_of(buffer: np.ndarray, where: slice | np.ndarray, array: np.ndarray,
              places: slice | np.ndarray) -> list[Copy]:
    """Calls that bring array[places] into the buffer."""
    if isinstance(places, slice) and isinstance(where, slice):
        return [(np.copyto, (buffer[where], array[places]))]
    return [(Picked(COPY, buffer, where, array, places), ())]


_TAG = 71  # messages between two ranks never overtake each other, so one tag serves all supersteps


class Step(NamedTuple):
    """A superstep: items[start:stop] without communication, and one exchange.

    What is sent is there once items[start:ready] have run; no item reads what is received before the next superstep.
    """

    start: int
    ready: int
    stop: int
    exchange: Exchange


@dataclass(frozen=True)
class Numbers:
    """The whole tape's numbers of a run's nodes, stretch by stretch: from place starts[k] on place + shifts[k]."""

    starts: np.ndarray
    shifts: np.ndarray
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> int:
        return int(place + self.shifts[np.searchsorted(self.starts, place, side="right") - 1])

    def part(self, low: int, high: int) -> Numbers:
        """Those of places low, ..., high - 1."""
        k, end = int(np.searchsorted(self.starts, low, side="right")) - 1, int(np.searchsorted(self.starts, high))
        return Numbers(np.maximum(self.starts[k:end] - low, 0), self.shifts[k:end] + low, high - low)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        found = np.arange(self.length) + np.repeat(self.shifts, np.diff(np.append(self.starts, self.length)))
        return found if dtype is None else found.astype(dtype)


class Portion(NamedTuple):
    """The part of a global vector (all input leaves, or all output leaves, one after another) a rank owns."""

    ids: np.ndarray  # local node ids, int64
    positions: np.ndarray  # places in the global vector, int64; disjoint over the ranks


@dataclass
class LocalTape:
    """One rank's statements, ghosts and supersteps (see the module's text)."""

    blocks: list[Block]
    items: list[Item]
    steps: list[Step]
    inputs: Portion
    outputs: Portion
    guards: list[Guard] = field(default_factory=list)  # of own nodes, refs in local numbers
    sites: list[Site] = field(default_factory=list)
    own_bits: np.ndarray | None = None  # np.packbits of `own`, None: all are own (one rank)
    own_count: int = 0  # ... and how many bits are set
    run_ids: dict[int, np.ndarray | range | Numbers] = field(default_factory=dict)  # local block of a run -> global ids
    stored: dict[int, Any] = field(default_factory=dict)  # by block of the whole tape, runs as `afar.Stored`
    joint: bool = False  # whether any rank has a joint statement, whose rules may raise what others can't know of

    @property
    def n_nodes(self) -> int:
        """Local places: own nodes and ghosts."""
        return self.blocks[-1].first + self.blocks[-1].size if self.blocks else 0

    @property
    def own(self) -> np.ndarray | None:
        """Which local nodes are the rank's own, bool; None: all."""
        return None if self.own_bits is None else np.unpackbits(self.own_bits, count=self.n_nodes).view(bool)

    @property
    def n_own(self) -> int:
        return self.n_nodes if self.own_bits is None else self.own_count

    @property
    def lines(self) -> int:
        """Flattened lines this rank computes."""
        return sum(item.lines for item in self.items)

    def site(self, node: int) -> Site | None:
        """The user's line that computes a local node; None for an input, a ghost or a line of scalar code."""
        for item in self.items:
            if isinstance(item, ScalarRun):
                continue
            block = self.blocks[item.out.block]
            if block.first <= node < block.first + block.size and node in item.out.ids(block.first, item.out_shape):
                return self.sites[item.site] if item.site >= 0 else None
        return None

    def close(self) -> None:
        """Free the messages of the exchanges, and what ranks share.  Collective if they share elementals."""
        for step in self.steps:
            step.exchange.close()
        for item in self.items:
            if type(item) is Joint and item.op.collective:
                item.op.leave()

    @property
    def nbytes(self) -> int:
        """Bytes of the tape: every array once, and about what Python's objects take."""
        arrays: list[Any] = [self.own_bits, *self.inputs, *self.outputs, *self.run_ids.values()]
        arrays += [array for kept in self.stored.values() for array in kept.arrays]
        total = OBJECTS * (len(self.items) + len(self.blocks) + len(self.steps))
        for item in self.items:
            if isinstance(item, ScalarRun):
                total += item.nbytes
            else:
                arrays += [x for ref in item.operands for x in ref]
        for guard in self.guards:
            arrays += [*guard.ref, guard.expected]
        for step in self.steps:
            total += step.exchange.nbytes
        return total + sum({id(a): a.nbytes for a in map(_memory, arrays) if a is not None}.values())

    @property
    def messages(self) -> int:
        return sum(len(step.exchange.sends) for step in self.steps)

    @property
    def halo(self) -> int:
        """Values sent in one forward pass."""
        return sum(len(ids) for step in self.steps for _, ids in step.exchange.sends)


def _memory(array: Any) -> np.ndarray | None:
    """The array whose memory an array looks into; None for what is no array."""
    if not isinstance(array, np.ndarray) or shared(array):
        return None
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def positions(leaves: list[Leaf], tape: Tape) -> tuple[np.ndarray, np.ndarray]:
    """(node ids, places) of all leaves carried by nodes, in the vector of the leaves laid one after another."""
    ids, places, start = Runs(), Runs(), 0
    for leaf in leaves:
        n = prod(leaf.shape)
        ref = leaf.ref
        if isinstance(ref, Affine | Indexed):  # a Const is the same on every rank, carried by no node
            span = interval(ref, leaf.shape) if isinstance(ref, Affine) else None
            if span is not None:
                first = tape.blocks[ref.block].first
                ids.append(range(first + span[0], first + span[1]))
            else:
                ids.append(np.ravel(tape.ids(ref, leaf.shape)))
            places.append(range(start, start + n))
        start += n
    found = ids.joined()
    return found, found if ids == places else places.joined()


class Runs:
    """Whole numbers written down as ranges, as far as they are some, until all are wanted at once."""

    def __init__(self) -> None:
        self._parts: list[range | np.ndarray] = []

    def append(self, part: range | np.ndarray) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(part, range) and isinstance(last, range) and last.stop == part.start:
            self._parts[-1] = range(last.start, part.stop)
        else:
            self._parts.append(part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and len(self._parts) == len(other._parts) <= 1 and all(
            isinstance(a, range) and isinstance(b, range) and a == b for a, b in zip(self._parts, other._parts))

    def joined(self) -> np.ndarray:
        arrays = [numbers(part.start, part.stop) if isinstance(part, range) else part for part in self._parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *arrays])


def nothing(joint: bool = False) -> LocalTape:
    """The share of a rank that has none where another has the whole tape."""
    empty = np.empty(0, dtype=np.int64)
    return LocalTape(blocks=[], items=[], steps=[Step(0, 0, 0, Exchange())], inputs=Portion(empty, empty),
                     outputs=Portion(empty, empty), own_bits=np.empty(0, dtype=np.uint8), joint=joint)


def whole(tape: Tape) -> LocalTape:
    """The whole tape as the share of a single rank: the same items, one superstep, no exchange."""
    n = len(tape.items)
    return LocalTape(
        blocks=tape.blocks, items=tape.items, steps=[Step(0, n, n, Exchange())],
        inputs=Portion(*positions(tape.inputs, tape)), outputs=Portion(*positions(tape.outputs, tape)),
        guards=tape.guards, sites=tape.sites,
        run_ids={}, joint=tape.joint,
    )
