"""Bytes of tensors that exist at a time."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tally(TorchDispatchMode):
    """Counts the storages that torch's functions return, until nothing refers to them any more.

    Attributes:
        now: bytes of storages made inside and still alive.
        peak: the most of them at a time.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {self._key(x) for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and (key := self._key(x)) not in before | self._seen:
                size = x.untyped_storage().nbytes()
                self._seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(x.untyped_storage(), self._gone, key, size)
        return out

    @staticmethod
    def _key(x):
        return x.untyped_storage().data_ptr()

    def _gone(self, key, size):
        self._seen.discard(key)
        self.now -= size
