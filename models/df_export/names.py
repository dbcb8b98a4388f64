"""What a pickle of torch.save may name, and what becomes of it: descriptions of tensors.

Nothing else is known. Every checkpoint of the official code carries OmegaConf objects in the state of
its optimiser; their names are known too, and all of them become an Inert: it takes arguments, items
and state, and does nothing with them.
"""

from dataclasses import dataclass
from typing import Callable

import torch

from .errors import ExportError

STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
# Python 2 spells the names of protocol 2.
INERT = {
    "omegaconf.listconfig.ListConfig",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "typing.Any",
    "collections.defaultdict",
    "__builtin__.dict",
    "__builtin__.list",
    "__builtin__.long",
}


class Inert:
    """Stands where an object would be that nobody needs."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file; where it once lay (cpu, cuda:0) does not matter."""

    key: str
    dtype: torch.dtype
    count: int
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Tensor:
    """A tensor in the file. Its entries lie inside its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        return self.storage.dtype

    def read(self) -> torch.Tensor:
        """A copy of its own, contiguous."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        flat = torch.frombuffer(bytearray(self.storage.read(self.storage.key)), dtype=self.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset).clone(
            memory_format=torch.contiguous_format
        )


@dataclass(frozen=True)
class Name:
    """A name of the table, as it stands in the pickle: calling it makes an object."""

    text: str
    make: Callable[[tuple], object]


def whole(value: object) -> bool:
    return type(value) is int and value >= 0


def rebuild_tensor(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    storage, offset, shape, stride = arguments[:4]
    sizes = [offset, *shape, *stride]
    right = isinstance(storage, Storage) and len(shape) == len(stride) <= 64
    if not right or not all(map(whole, sizes)):
        raise ExportError("the pickle describes a tensor by what is not a storage and sizes")
    count = last = 1
    for n in shape:
        count *= n
    if count:
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride)) + 1
        if last > storage.count:
            raise ExportError(
                f"a tensor of shape {list(shape)} reaches entry {last} of storage {storage.key}, "
                f"which has {storage.count}"
            )
    if count > max(storage.count, 1):
        raise ExportError(
            f"a tensor of shape {list(shape)} lies over itself: storage {storage.key} has only "
            f"{storage.count} entries"
        )
    return Tensor(storage, offset, tuple(shape), tuple(stride))


def rebuild_parameter(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks)."""
    if not isinstance(arguments[0], Tensor):
        raise ExportError("the pickle makes a parameter of what is not a tensor")
    return arguments[0]


def empty_dict(arguments: tuple) -> dict:
    if arguments:
        raise ExportError("the pickle makes an OrderedDict with arguments, expected none")
    return {}


def storage_class(arguments: tuple) -> object:
    raise ExportError("the pickle calls a class of storages")


NAMES: dict[str, Callable[[tuple], object]] = {
    "collections.OrderedDict": empty_dict,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": rebuild_parameter,
    **dict.fromkeys(STORAGES, storage_class),
    **dict.fromkeys(INERT, lambda arguments: Inert()),
}
