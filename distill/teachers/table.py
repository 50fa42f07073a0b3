"""The exact teacher table: every logit a teacher can be asked for, looked up instead of computed."""

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from distill.data import Batch
from distill.models import Output
from distill.teachers.row_code import decode
from distill.teachers.table_spec import TableSpec

SHARE = 0.5  # of a GPU's free memory that a table may take; a larger one stays on the host


class TableTeacher:
    """A teacher that reads its logits from a table, (N * V, row width) int16, by `Batch.index` and `Batch.view`.

    An approximation within the code's stated error, never bit-identical to the live teacher. It has logits and
    nothing else, and knows the enumerated views only: it cannot answer for a batch with a strong view.

    Args:
        rows: the mapped rows, as `TableFile.open` gives them.
        spec: what they are.
        network: the network behind them, for objectives that read its shapes; it is not run.
        device: where the batches lie. A table that fits there beside its batches is moved there once.
    """

    def __init__(self, rows: Tensor, *, spec: TableSpec, network: nn.Module, device: torch.device) -> None:
        if rows.shape[0] != spec.rows:
            raise ValueError(f"rows must be {spec.rows} (images x views), got {rows.shape[0]}: build the table again")
        self.network = network.eval().requires_grad_(False)
        self.key: Hashable = ("table", spec.key)
        self._rows = rows.to(device) if _fits(rows, device) else rows
        self._views, self._classes = spec.views, spec.classes

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        """`Output` with the logits (B, K) float32.

        Raises ValueError for a batch with a strong view, and for one without numbered views where asking costs nothing
        (on a CPU); elsewhere the logits of a row without a view number are nan, which stops the run that asked.
        """
        if batch.strong is not None:
            raise ValueError("a table cannot answer for a strong view: set teacher.source=live")
        row = batch.index * self._views + batch.view
        if row.device.type == "cpu":
            if (batch.view < 0).any():
                raise ValueError("a table answers for numbered views only, got view -1: set teacher.source=live")
            return Output(decode(self._rows.index_select(0, row), classes=self._classes))
        rows = self._rows.index_select(0, row.clamp(min=0).to(self._rows.device)).to(row.device)
        logits = decode(rows, classes=self._classes)
        return Output(logits.masked_fill((batch.view < 0).unsqueeze(1), torch.nan))


def _fits(rows: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return rows.numel() * rows.element_size() <= SHARE * free
