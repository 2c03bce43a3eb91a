"""Queue and momentum copy: their content after each step, by hand."""

import torch
from torch import nn

from methods.parts.heads import MomentumCopy
from methods.parts.memory import Queue


def make_rows(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, 2).contiguous()


def test_the_queue_starts_with_unit_vectors() -> None:
    torch.testing.assert_close(Queue(50, 7).rows.norm(dim=1), torch.ones(50))


def test_the_queue_overwrites_the_oldest_across_its_end() -> None:
    queue = Queue(5, 2)
    queue.push(make_rows(1, 2, 3))
    assert queue.rows[:3, 0].tolist() == [1, 2, 3]
    queue.push(make_rows(4, 5, 6, 7))
    assert queue.rows[:, 0].tolist() == [6, 7, 3, 4, 5]
    assert int(queue.pointer) == 2


def test_more_keys_than_the_queue_holds_leave_the_last() -> None:
    queue = Queue(3, 2)
    queue.push(make_rows(9))
    queue.push(make_rows(1, 2, 3, 4, 5))
    assert sorted(queue.rows[:, 0].tolist()) == [3, 4, 5]
    queue.push(make_rows(6))
    assert sorted(queue.rows[:, 0].tolist()) == [4, 5, 6], "the oldest goes first"


def test_the_queue_survives_a_checkpoint() -> None:
    queue, other = Queue(4, 2), Queue(4, 2)
    queue.push(make_rows(1, 2, 3))
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        q.push(make_rows(7, 8))
    assert torch.equal(queue.rows, other.rows)


def test_the_momentum_copy_follows_parameters_and_keeps_its_own_statistics() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    copy = MomentumCopy(network)
    assert not any(p.requires_grad for p in copy.parameters())
    start = [p.clone() for p in network.parameters()]
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
    network[1].running_mean.fill_(5.0)
    copy.update(network, 0.9)
    for own, old, new in zip(copy.parameters(), start, network.parameters(), strict=True):
        torch.testing.assert_close(own, 0.9 * old + 0.1 * new)
    assert copy.network[1].running_mean.eq(0).all()
    assert not copy(torch.randn(4, 3)).requires_grad
