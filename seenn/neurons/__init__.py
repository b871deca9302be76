"""Kinds of neurons by name, one file each: what a kind may fire, and how its neurons are made.

Importing this package imports neither torch nor any kind, so that the names can be listed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from seenn.errors import UnsupportedError
from seenn.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from seenn.core.ops import Activation, IntegratingNeuron, Neuron


class NeuronKind:
    """How the neurons of one kind are made, in conversion and for direct training.

    Derive, override what differs, and register an instance: ``NEURONS.register("toy")(Toy())``. Γ below is the largest
    number of spikes, of either sign, that a neuron fires in one step.
    """

    name: ClassVar[str]
    least_levels: ClassVar[int] = 1  # of Γ
    most_levels: ClassVar[int] = 127
    default_levels: ClassVar[int] = 4
    other_levels: ClassVar[str] = ""  # which kinds take a Γ that this one does not
    signed: ClassVar[bool] = False  # spikes may be negative, so that they carry values of both signs
    converts: ClassVar[bool] = True  # stands for activations
    rules: ClassVar[tuple[str, ...]] = ()  # keywords that ``train`` takes

    def levels(self, levels: int | None = None) -> int:
        """Γ: ``levels``, or this kind's default.

        Raises:
            ValueError: this kind does not fire so often.
        """
        if levels is None:
            return self.default_levels
        if (
            isinstance(levels, bool)
            or not isinstance(levels, int)
            or not self.least_levels <= levels <= self.most_levels
        ):
            allowed = "1" if self.most_levels == 1 else f"{self.least_levels} to {self.most_levels}"
            other = f": use {self.other_levels} for others" if self.other_levels else ""
            raise ValueError(f"{self.name} neurons take levels of {allowed}, got {levels!r}{other}")
        return levels

    def convert(self, activation: Activation, v_threshold: Tensor, levels: int) -> IntegratingNeuron:
        """The neuron that stands for ``activation``, for values with their channels along axis 1.

        Args:
            activation: of a call site of the ANN.
            v_threshold: θ, scalar or ``[C]``.
            levels: Γ.

        Raises:
            UnsupportedError: this kind cannot stand for it.
        """
        raise UnsupportedError(f"{self.name} neurons stand for no activation: use them with `seenn train-direct`")

    def train(self, levels: int | None = None, **rules: Any) -> Neuron:
        """A new neuron to be trained with surrogate gradients.

        Args:
            levels: Γ; None is the kind's default.
            rules: those of ``self.rules`` that are not left at their defaults.

        Raises:
            ValueError: a value out of range, or a rule that this kind does not have.
        """
        if wrong := sorted(set(rules) - set(self.rules)):
            own = f"give {', '.join(self.rules)} alone" if self.rules else "give none"
            raise ValueError(f"{self.name} neurons have no {' and no '.join(wrong)}: {own}")
        return self.make(self.levels(levels), **rules)

    def make(self, levels: int, **rules: Any) -> Neuron:
        """What ``train`` returns, of checked arguments."""
        raise UnsupportedError(f"{self.name} neurons cannot be trained directly: use them with `seenn convert`")


NEURONS: Registry[NeuronKind] = Registry("neuron", "seenn.neurons")
