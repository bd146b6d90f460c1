"""What must hold for the adapters of a bank to become what they become alone."""

from __future__ import annotations

from torch import optim
from torch.optim import Optimizer

from lorasub.adapters import AdapterSet
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


def check_scene_groups(adapters: AdapterSet, data: SceneData) -> None:
    """The data must have as many groups of scenes as there are adapters.

    Args:
        adapters: one adapter, or a bank.
        data: what the data module says of itself.

    Raises:
        ConfigError: it does not.
    """
    groups = data.scene_groups
    if groups != adapters.count:
        raise ConfigError(
            f"there are {adapters.count} adapter(s) but batches of {groups} group(s) of scenes: a LoRABank of n needs "
            f"a SceneBank of n members, and nothing else does"
        )


def check_independence(state: set[str], optimizer: Optimizer, precision: str) -> None:
    """Nothing but the frozen base may be common to the adapters.

    Args:
        state: names of what the task trains or keeps beside the adapters.
        optimizer: of the fit.
        precision: Lightning's name of it.

    Raises:
        ConfigError: something else is.
    """
    problem = None
    if state:
        problem = f"this task keeps {', '.join(sorted(state)[:3])} for all of them"
    elif not isinstance(optimizer, ELEMENTWISE):
        names = ", ".join(kind.__name__ for kind in ELEMENTWISE)
        problem = f"{type(optimizer).__name__} looks at whole tensors; take one of {names}"
    elif precision == "16-mixed":
        problem = "16-mixed skips a step of all when one overflows; take bf16-mixed or 32-true"
    if problem:
        raise ConfigError(f"the adapters of a bank must not depend on each other, but {problem}")
