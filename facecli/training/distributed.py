"""Training on several processes as if on one: embeddings gathered, gradients summed, batch norms joined.

Every process computes the loss of the joint batch from all embeddings, and back-propagates into its own; the sum
of the processes' gradients is the gradient of one process with the joint batch. Works with gloo on CPUs, where
torch's own synchronised batch norm does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from facecli.models.runtime import torch_device

LEAVE_SECONDS = 60.0


def rank() -> int:
    """Return this process's number, 0 when it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that torchrun started for the time of a run. Raises `UsageError` for a device not there."""
    torch_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
        _leave_together()
    finally:
        dist.destroy_process_group()


def _leave_together() -> None:
    """Wait until every process is done, over the store and not over the group.

    A process that closes its connections while another still reads from them takes that one down with it. One that
    died on the way is not waited for longer than `LEAVE_SECONDS`.
    """
    deadline = time.monotonic() + LEAVE_SECONDS
    store = dist.distributed_c10d._get_default_store()
    store.add("facecli/left", 1)
    while store.add("facecli/left", 0) < dist.get_world_size() and time.monotonic() < deadline:
        time.sleep(0.01)


class _Gather(torch.autograd.Function):
    """All processes' rows one below the other; backward gives each its own rows' gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Not summed over the processes: each has computed the whole loss, so the own slice is complete.
        size = len(gradient) // world()
        return gradient[rank() * size : (rank() + 1) * size]


class _Sum(torch.autograd.Function):
    """The sum over all processes; backward sums the gradients in the same way."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all processes in order: [B / world, D] -> [B, D]."""
    return _Gather.apply(rows) if world() > 1 else rows


def gather_objects(value: Any) -> list[Any]:
    """Return each process's `value`, in order."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def sum_gradients(parameters: Iterable[nn.Parameter], *, mean: bool = False) -> None:
    """Replace each gradient by its sum (or mean) over the processes."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    if mean:
        flat /= world()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def wait() -> None:
    """Wait until every process is here."""
    if world() > 1:
        dist.barrier()


class JoinedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the joint batch of all processes, for maps [N, C, H, W] and rows [N, C]."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what the layer that was replaced took."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1 or self.running_mean is None or self.running_var is None:
            return super().forward(input)
        wide = input.float()
        axes = [axis for axis in range(wide.dim()) if axis != 1]
        count = wide.new_tensor([wide.numel() / wide.shape[1]])
        total = _Sum.apply(torch.cat([wide.sum(axes), count]))
        mean = total[:-1] / total[-1]
        shape = [1, -1] + [1] * (wide.dim() - 2)
        centred = wide - mean.view(shape)
        # In two passes: the variance as a difference of large sums would lose its digits.
        variance = _Sum.apply(centred.square().sum(axes)) / total[-1]
        with torch.no_grad():
            momentum = self.momentum if self.momentum is not None else 0.1
            unbiased = variance * (total[-1] / (total[-1] - 1).clamp(min=1))
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        x = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)


def join_batch_norms(module: nn.Module) -> None:
    """Replace every batch norm inside `module` by one over the joint batch, under the same names."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            momentum, affine = child.momentum, child.affine
            joined_norm = JoinedBatchNorm(
                child.num_features, child.eps, momentum, affine, child.track_running_stats
            )
            joined_norm.load_state_dict(child.state_dict())
            joined_norm.weight, joined_norm.bias = child.weight, child.bias
            setattr(module, name, joined_norm.to(next(child.parameters(), torch.empty(0)).device))
        else:
            join_batch_norms(child)
