"""Gradients come back from the temporary file as they were written, in whatever slices."""

import pytest
import torch

from taco_probe.dynamics import store


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slice_bytes", [1, 500, 10**6])
def test_gradients_of_several_batches_come_back_in_slices(tmp_path, monkeypatch, dtype, slice_bytes):
    monkeypatch.setattr(store, "SLICE_BYTES", slice_bytes)
    written = {
        key: [torch.randn(e, m, 3).to(dtype) for e in (4, 4, 2)] for key, m in (("q.a", 7), ("q.b", 5))
    }
    with store.Spill(tmp_path) as spill:
        for index in range(3):  # modules take turns, as in a backward pass
            for key, parts in written.items():
                spill.append(key, parts[index].transpose(1, 2).contiguous().transpose(1, 2))
        for key, parts in written.items():
            whole = torch.cat(parts)
            slices = list(spill.slices(key))
            assert torch.equal(torch.cat([grad for _, grad in slices], dim=1), whole)
            for rows, grad in [*slices, *store.in_slices(whole)]:
                assert torch.equal(grad, whole[:, rows])
            assert len(slices) == (1 if slice_bytes == 10**6 else len(list(store.in_slices(whole))))
            assert slice_bytes > 1 or len(slices) == whole.shape[1]
    assert not list(tmp_path.iterdir())
