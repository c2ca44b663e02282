"""How a transformer is built, as data: where its blocks are and what in them can be cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evoprune.core.costs import Dim, of_site

# The parts of a block.
ATTN, MLP = "attn", "mlp"


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block.

    Attributes:
        name: of its module, within the block.
        reads: the axis of its weight that meets the inputs: 1 in ``nn.Linear`` (out, in), 0 in the
            ``Conv1D`` of transformers (in, out).
    """

    name: str
    reads: int = 1

    @property
    def writes(self) -> int:
        """The axis of its weight that makes the outputs."""
        return 1 - self.reads


@dataclass(frozen=True)
class Attention:
    """The attention of a block.

    Attributes:
        core: the module that computes it, within the block; the output projection may lie outside.
        outer: the outermost module that holds no more than attention, within the block.
        inputs: the projections to queries, keys and values, or one that is all three.
        output: the projection back.
        groups: key–value heads; they go with their queries.
        per_group: query heads of each of them.
        head_dim: entries of a head.
        fused: how one projection holds all three: ``concatenated`` (all queries, all keys, all
            values) or ``interleaved`` (group by group); ``""`` where there are three.
        gives: how many values its core returns as a tuple; 0 where it returns one tensor.
        cut: whether its heads can be cut.
    """

    core: str
    outer: str
    inputs: tuple[Linear, ...]
    output: Linear
    groups: int
    per_group: int
    head_dim: int
    fused: str = ""
    gives: int = 0
    cut: bool = True

    def made(self, site: str, which: int) -> Dim:
        """Returns what the outputs of a projection are made of.

        Args:
            site: of the key–value groups.
            which: 0 queries, 1 keys, 2 values; of a fused one 0.
        """
        queries = of_site(site, self.groups, self.per_group * self.head_dim)
        keys = of_site(site, self.groups, self.head_dim)
        if self.fused == "concatenated":
            return (*queries, *keys, *keys)
        if self.fused == "interleaved":
            return of_site(site, self.groups, (self.per_group + 2) * self.head_dim)
        return queries if which == 0 else keys

    def read(self, site: str) -> Dim:
        """Returns what the inputs of the output projection are made of."""
        return of_site(site, self.groups, self.per_group * self.head_dim)


@dataclass(frozen=True)
class FeedForward:
    """The MLP of a block.

    Attributes:
        inputs: the layers that make its channels: up, or gate and up.
        output: the layer that reads them.
        channels: how many there are.
        fused: whether the one input layer makes gates and channels, all of the former first.
        outer: the module that holds it all and nothing else; empty where it has none of its own.
        cut: whether its channels can be cut.
    """

    inputs: tuple[Linear, ...]
    output: Linear
    channels: int
    fused: bool = False
    outer: str = ""
    cut: bool = True

    def made(self, site: str) -> Dim:
        """Returns what the outputs of an input layer are made of."""
        one = of_site(site, self.channels)
        return (*one, *one) if self.fused else one


@dataclass(frozen=True)
class Attr:
    """A number of a module that follows a site: ``per_unit`` times the units that it keeps."""

    module: str
    name: str
    site: str
    per_unit: int


@dataclass(frozen=True)
class Absent:
    """What stands for a module of a dropped part.

    Attributes:
        how: ``zeros`` in the shape of its input, ``width`` (zeros so wide) or ``same`` (its input).
        gives: how many values it returns as a tuple, the others None; 0 for the tensor alone.
        width: of the zeros, where they are not as wide as the input.
    """

    how: str
    gives: int = 0
    width: int = 0


@dataclass(frozen=True)
class Block:
    """A block.

    Attributes:
        module: its name in the model.
        width: of the hidden states that it reads and gives.
        gives: how many values it returns as a tuple, those first; 0 for them alone.
        attention: None where none was found, or numbers did not confirm it.
        mlp: likewise.
        gates: tensors that nothing needs once a part is dropped, by their names within the block.
        attrs: numbers that follow its sites.
        why_not: why a part, or its units, cannot be cut, by kind of site.
    """

    module: str
    width: int
    gives: int = 0
    attention: Attention | None = None
    mlp: FeedForward | None = None
    gates: Mapping[str, str] = field(default_factory=dict)
    attrs: tuple[Attr, ...] = ()
    why_not: Mapping[str, str] = field(default_factory=dict)

    def absent(self, part: str) -> dict[str, Absent]:
        """Returns what stands for a dropped part's modules, by their names within the block."""
        # Norms and the like that only the part needs are not run either.
        idle = {name.rpartition(".")[0] for name, gate in self.gates.items() if gate == part}
        found = {name: Absent("same") for name in sorted(idle)}
        if part == ATTN:
            one = self.attention
            assert one is not None  # a site that was not found cannot be dropped
            if not one.output.name.startswith(f"{one.core}."):
                found[one.output.name] = Absent("width", width=self.width)
            return _outermost(found | {one.core: Absent("zeros", one.gives)})
        mlp = self.mlp
        assert mlp is not None  # likewise
        if mlp.outer:
            return _outermost(found | {mlp.outer: Absent("zeros")})
        found[mlp.output.name] = Absent("width", width=self.width)
        for linear in mlp.inputs:
            # The module that makes the channels, activation and all, where it does nothing else.
            at = linear.name.split(".")
            holders = (".".join(at[:i]) for i in range(1, len(at) + 1))
            whole = (name for name in holders if not mlp.output.name.startswith(f"{name}."))
            found[next(whole, linear.name)] = Absent("same")
        return _outermost(found)


def _outermost(found: dict[str, Absent]) -> dict[str, Absent]:
    """Returns the modules that lie in no other of them."""
    return {
        name: one
        for name, one in found.items()
        if not any(name.startswith(f"{other}.") for other in found)
    }


@dataclass(frozen=True)
class Outside:
    """A tensor outside the blocks that inputs are multiplied with.

    Attributes:
        per_position: how often for each position of an example.
        per_example: how often for each example beside that.
    """

    per_position: float = 0.0
    per_example: float = 0.0


@dataclass(frozen=True)
class Layout:
    """A transformer.

    Attributes:
        blocks: in the order in which they run.
        rule: how they were found, in words.
        head: the linear layer that makes the logits.
        before: modules that run before the first block.
        outside: how often tensors outside the blocks are multiplied, by name.
        inputs: the arguments of the model's forward that hold what it reads.
        positions: of an example as it was traced: of an image its patches and what stands beside
            them.
        bare_head: whether the logits are what the head says, as it says it.
    """

    blocks: tuple[Block, ...]
    rule: str
    head: str
    before: tuple[str, ...]
    outside: Mapping[str, Outside]
    inputs: tuple[str, ...]
    positions: int
    bare_head: bool = False
