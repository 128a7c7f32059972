"""Random tapes: every kind of statement, every kind of operand, drawn from a seed."""

from __future__ import annotations

import numpy as np
from elementals import MatVec, Polar, Products

from distdiff.ops import ADD, BY_NAME, COPY, CUMSUM, MAX, MIN, MULTIPLY, NEGATIVE, OPS, SUBTRACT
from distdiff.tape import Affine, Block, Const, Indexed, Joint, Leaf, ScalarRun, Statement, Tape, c_strides

ELEMENTWISE = [COPY, ADD, SUBTRACT, MULTIPLY, NEGATIVE, ADD, MULTIPLY,
               *(BY_NAME[n] for n in ("divide", "sin", "exp", "tanh", "square", "maximum", "minimum", "where",
                                      "greater", "hypot", "arctan", "absolute", "floor", "arctan2"))]
SCALAR = [BY_NAME[n] for n in ("add", "subtract", "multiply", "divide", "sin", "tanh", "copy", "maximum", "less",
                               "negative", "arctan", "copysign", "hypot", "square", "sign", "arctan2")]


class Maker:
    """Builds one tape; every choice comes from `rng`."""

    def __init__(self, seed: int, scalars: bool = True, indexed: bool = True, size: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self.tape = Tape()
        self.scalars, self.indexed, self.size = scalars, indexed, size
        for _ in range(self.rng.integers(1, 4)):
            shape = self.shape()
            b = self.tape.add_block(shape)
            self.tape.inputs.append(Leaf(shape, Affine(b, 0, c_strides(shape))))

    def shape(self) -> tuple[int, ...]:
        low = 0 if self.rng.random() < 0.05 else 1
        return tuple(int(n) for n in self.rng.integers(low, 5, size=self.rng.integers(0, 4)))

    def affine(self, shape: tuple[int, ...], b: int | None = None) -> Affine | None:
        """Any affine reference over `shape` into block b (or a random one)."""
        rng, blocks = self.rng, self.tape.blocks
        same = [i for i, block in enumerate(blocks) if block.size == int(np.prod(shape))]
        if b is None and same and rng.random() < 0.6:
            b = int(rng.choice(same))
            return Affine(b, 0, c_strides(shape))
        if b is None:
            full = [i for i, block in enumerate(blocks) if block.size]
            if not full:
                return None
            b = int(rng.choice(full))
        n = blocks[b].size
        for _ in range(6):
            strides = tuple(int(s) for s in rng.choice([0, 1, 1, -1, 2, 3, 4], size=len(shape)))
            steps = [(k - 1) * s for k, s in zip(shape, strides) if k]
            low, high = sum(min(s, 0) for s in steps), sum(max(s, 0) for s in steps)
            if high - low < n:
                return Affine(b, int(rng.integers(-low, n - high)), strides)
        return Affine(b, int(rng.integers(n)), (0,) * len(shape))

    def operand(self, shape: tuple[int, ...]):
        u = self.rng.random()
        if u < 0.12:
            return Const(float(self.rng.choice([1.0, -1.0, 0.5, 2.0, 0.0, 1.7])))
        if u < 0.2:
            return Const(np.broadcast_to(self.rng.uniform(0.5, 1.5, size=shape[-1:]), shape))
        n = self.tape.n_nodes
        if u < 0.32 and self.indexed and n:
            return Indexed(self.rng.integers(0, n, size=shape))
        return self.affine(shape) or Const(1.25)

    def emit(self, op, shape, out: Affine, operands) -> None:
        self.tape.items.append(Statement(op, shape, out, tuple(operands)))

    def operands(self, op, shape):
        found = [self.operand(shape) for _ in op.partials]
        if len(found) == 2 and self.rng.random() < 0.2:
            found[1] = found[0]  # x * x
        return found

    def new(self, shape):
        """The block that comes next, not yet on the tape: its operands must be earlier nodes."""
        b = len(self.tape.blocks)
        return b, Block(self.tape.n_nodes, shape)

    def elementwise(self) -> None:
        shape = self.shape()
        op = self.rng.choice(ELEMENTWISE)
        operands = self.operands(op, shape)
        b = self.tape.add_block(shape)
        self.emit(op, shape, Affine(b, 0, c_strides(shape)), operands)

    def boxes(self) -> None:
        """One block by several statements, each a box of it; sometimes a transposed layout."""
        shape = (*self.rng.integers(1, 5, size=self.rng.integers(0, 2)), int(self.rng.integers(2, 7)))
        shape = tuple(int(n) for n in shape)
        strides = c_strides(shape)
        axis = int(self.rng.integers(len(shape)))
        cuts = sorted({0, shape[axis], *self.rng.integers(0, shape[axis] + 1, size=2).tolist()})
        found = []
        same = [i for i, block in enumerate(self.tape.blocks) if block.size == int(np.prod(shape))]
        whole = self.rng.choice([ADD, SUBTRACT, MULTIPLY]) if same and self.rng.random() < 0.6 else None
        sources = self.rng.choice(same, size=2).tolist() if same else []
        for start, stop in zip(cuts, cuts[1:]):
            box = tuple(stop - start if k == axis else n for k, n in enumerate(shape))
            op = self.rng.choice(ELEMENTWISE)
            operands = self.operands(op, box)
            if whole is not None:  # as a statement would be that was cut into boxes
                op = whole
                for k, source in enumerate(sources):
                    operands[k:] = [Affine(source, start * strides[axis], strides)]
            found.append((op, box, start * strides[axis], operands))
        b = self.tape.add_block(shape)
        for j in self.rng.permutation(len(found)):
            op, box, offset, operands = found[j]
            constant = all(type(o) is Const and np.ndim(o.value) == 0 for o in operands)
            order = self.rng.permutation(len(box)) if constant else np.arange(len(box))
            self.emit(op, tuple(box[k] for k in order), Affine(b, offset, tuple(strides[k] for k in order)), operands)

    def reduction(self) -> None:
        shape = self.shape()
        kept = self.rng.random(len(shape)) < 0.5
        op = [COPY, MULTIPLY, MULTIPLY, MAX, MIN, SUBTRACT][self.rng.integers(6)]
        if op.kind == "select" and 0 in shape:
            op = COPY
        out_shape = tuple(n for n, k in zip(shape, kept) if k)
        operands = self.operands(op, shape)
        b = self.tape.add_block(out_shape)
        inner = iter(c_strides(out_shape))
        self.emit(op, shape, Affine(b, 0, tuple(next(inner) if k else 0 for k in kept)), operands)

    def product(self) -> None:
        """A matrix product, possibly batched or with vectors."""
        letters = "bijk"
        n = dict(zip(letters, self.rng.integers(1, 5, size=4).tolist()))
        forms = [("ij", "jk", "ik"), ("ij", "j", "i"), ("i", "ij", "j"), ("i", "i", ""), ("bij", "bjk", "bik"),
                 ("ij", "ij", "i"), ("ij", "jk", "ki"), ("bij", "jk", "bik")]
        x, y, z = forms[self.rng.integers(len(forms))]
        axes = "".join(sorted(set(x + y)))
        shape = tuple(n[a] for a in axes)

        def ref(block, names):
            inner = dict(zip(names, c_strides(tuple(n[a] for a in names))))
            return Affine(block, 0, tuple(inner.get(a, 0) for a in axes))

        blocks = []
        for names in (x, y):
            factor = tuple(n[a] for a in names)
            operand = self.operand(factor)
            blocks.append(self.tape.add_block(factor))
            self.emit(COPY, factor, Affine(blocks[-1], 0, c_strides(factor)), [operand])
        out = self.tape.add_block(tuple(n[a] for a in z))
        self.emit(MULTIPLY, shape, ref(out, z), [ref(blocks[0], x), ref(blocks[1], y)])

    def scan(self) -> None:
        shape = (*self.shape(), int(self.rng.integers(1, 5)))
        operand = self.operand(shape)
        b = self.tape.add_block(shape)
        self.emit(CUMSUM, shape, Affine(b, 0, c_strides(shape)), [operand])

    def joint(self) -> None:
        n = int(self.rng.integers(2, 4))
        op = [MatVec(2, n), Polar(n), Products(n)][self.rng.integers(3)]
        loop = self.shape()
        operands = tuple(self.operand((*loop, *core)) for core in op.core_in)
        b = self.tape.add_block((*loop, op.size))
        self.tape.items.append(Joint(op, loop, Affine(b, 0, c_strides((*loop, op.size))), operands))

    def run(self) -> None:
        n, first = int(self.rng.integers(1, 12)), self.tape.n_nodes
        b = self.tape.add_block((n,))
        op = np.array([self.rng.choice(SCALAR).code for _ in range(n)], dtype=np.uint8)
        const = self.rng.uniform(0.5, 1.5, size=2)
        top = first + np.arange(n)
        a = np.where((self.rng.random(n) < 0.1) | (top == 0), -1 - self.rng.integers(2, size=n),
                     self.rng.integers(0, np.maximum(top, 1)))
        c = np.where((self.rng.random(n) < 0.3) | (top == 0), -1 - self.rng.integers(2, size=n),
                     self.rng.integers(0, np.maximum(top, 1)))
        c[[OPS[k].arity == 1 for k in op]] = -1
        self.tape.items.append(ScalarRun(b, op, a, c, const))

    def build(self) -> Tape:
        makers = [self.elementwise, self.elementwise, self.boxes, self.reduction, self.product, self.scan,
                  self.joint]
        if self.scalars:
            makers.append(self.run)
        for _ in range(self.rng.integers(1, self.size)):
            makers[self.rng.integers(len(makers))]()
        for _ in range(self.rng.integers(1, 4)):
            shape = self.shape()
            ref = self.operand(shape)
            self.tape.outputs.append(Leaf(shape, ref))
        last = self.tape.blocks[-1]
        self.tape.outputs.append(Leaf(last.shape, Affine(len(self.tape.blocks) - 1, 0, c_strides(last.shape))))
        return self.tape


def random_tape(seed: int, **options) -> tuple[Tape, np.ndarray]:
    """A tape and a point for its inputs."""
    tape = Maker(seed, **options).build()
    return tape, np.random.default_rng(seed + 1).uniform(0.3, 1.7, size=tape.n_inputs)
