"""Assigns scenes, losses and gradients to adapters: all to one, or group by group to those of a bank.

A task asks its groups and never what kind they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from torch import Tensor, optim
from torch.optim import Optimizer

from lorasub.adapters import AdapterBank, AdapterSet
from lorasub.contracts import SceneData
from lorasub.errors import ConfigError

#: Optimisers that treat each number by itself. Others look at whole tensors, and a bank's hold all adapters.
ELEMENTWISE = (
    optim.Adadelta,
    optim.Adagrad,
    optim.Adam,
    optim.Adamax,
    optim.AdamW,
    optim.ASGD,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Rprop,
    optim.SGD,
)


class OneGroup:
    """One adapter, or one set of them, is trained and evaluated on all scenes."""

    #: Groups of scenes in a training batch.
    count: int = 1

    def __init__(self, adapters: AdapterSet) -> None:
        self.adapters = adapters

    @property
    def starts(self) -> list[dict[str, str]]:
        """Hashes of the adapters' starts, group by group, see :attr:`lorasub.adapters.AdapterSet.starts`."""
        return [self.adapters.starts]

    def set_starts(self, starts: Sequence[Mapping[str, str]]) -> None:
        """Takes over the starts of adapters that were loaded, one entry for each group."""
        for index, own in enumerate(starts):
            with self.chosen(index):
                self.adapters.set_starts(own)

    def draw_starts(self, identities: Sequence[str]) -> None:
        """Lets each group's adapter start from random numbers of its own data, see ``AdapterSet.draw_starts``."""
        if len(identities) == self.count:
            self.adapters.draw_starts(identities)

    def chosen(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Within the block the set stands for the adapters of one group."""
        return contextlib.nullcontext()

    def objective(self, losses: Tensor) -> Tensor:
        """Returns what is descended: the mean over scenes.

        Args:
            losses: ``[B]``.
        """
        return losses.mean()

    def parts(self, losses: Tensor) -> dict[str, Tensor]:
        """Returns what is logged of each group beside the mean over all scenes: name -> ``[B / groups]``."""
        return {}

    def of_loader(self, dataloader_idx: int, data: SceneData) -> contextlib.AbstractContextManager[None]:
        """Within the block the model carries the adapter that an evaluation set of the data belongs to."""
        return contextlib.nullcontext()

    def clip(self, max_norm: float) -> bool:
        """Clips gradients group by group; False where that is left to Lightning, which takes all of them together."""
        return False

    def check_data(self, data: SceneData) -> None:
        """Compares the groups of scenes with those of adapters.

        Raises:
            ConfigError: they differ in number.
        """
        if data.scene_groups != self.count:
            raise ConfigError(
                f"there are {self.count} adapter(s) but batches of {data.scene_groups} group(s) of scenes: a LoRABank "
                f"of n needs a SceneBank of n members, and nothing else does"
            )

    def check_fit(self, shared: set[str], optimizer: Optimizer, precision: str) -> None:
        """Looks for what would make the groups depend on each other; one alone cannot.

        Args:
            shared: names of what the task trains or keeps beside the adapters.
            optimizer: of the fit.
            precision: Lightning's name of it.
        """


class GroupForEachAdapter(OneGroup):
    """The i-th adapter of a bank is trained on the i-th group of a batch, and evaluated on the i-th loader.

    Args:
        bank: the adapters. They share nothing but the frozen base, and each becomes what it becomes alone.
    """

    def __init__(self, bank: AdapterBank) -> None:
        super().__init__(bank)
        self.bank = bank
        self.count = bank.count

    @property
    def starts(self) -> list[dict[str, str]]:
        """Hashes of each adapter's starts."""
        return self.bank.starts_of_all

    def chosen(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Within the block the bank stands for one of its adapters."""
        return self.bank.only(index)

    def objective(self, losses: Tensor) -> Tensor:
        """Returns the sum over adapters of the mean over their own scenes: each sees its own loss only."""
        # the groups are equally large, so n times the mean of all is the sum of the n means
        return losses.mean() * self.count

    def parts(self, losses: Tensor) -> dict[str, Tensor]:
        """Returns each adapter's own losses."""
        return {f"loss_adapter_{index}": own for index, own in enumerate(losses.chunk(self.count))}

    def of_loader(self, dataloader_idx: int, data: SceneData) -> contextlib.AbstractContextManager[None]:
        """Within the block the model carries the adapter of that number alone."""
        self.check_data(data)
        return self.bank.only(dataloader_idx)

    def clip(self, max_norm: float) -> bool:
        """Scales the gradients of each adapter by their own norm."""
        self.bank.clip_gradients(max_norm)
        return True

    def check_fit(self, shared: set[str], optimizer: Optimizer, precision: str) -> None:
        """Refuses a fit in which the adapters have more in common than the frozen base.

        Raises:
            ConfigError: something else is.
        """
        problem = None
        if shared:
            problem = f"this task keeps {', '.join(sorted(shared)[:3])} for all of them"
        elif not isinstance(optimizer, ELEMENTWISE):
            names = ", ".join(kind.__name__ for kind in ELEMENTWISE)
            problem = f"{type(optimizer).__name__} looks at whole tensors; take one of {names}"
        elif precision == "16-mixed":
            problem = "16-mixed skips a step of all when one overflows; take bf16-mixed or 32-true"
        if problem:
            raise ConfigError(f"the adapters of a bank must not depend on each other, but {problem}")


def adapter_groups(adapters: AdapterSet) -> OneGroup:
    """Returns how scenes are shared among these adapters."""
    return GroupForEachAdapter(adapters) if isinstance(adapters, AdapterBank) else OneGroup(adapters)
