"""Whatever types weights get, and why: bounds are those of the difference that is there, and a second run is none."""

from collections import Counter

import pytest

from onnxpress.backends.ort import OrtBackend
from onnxpress.specs import check_pass

from ..test_bound import OnSixSamples, excess, models

ASKED = {
    "budget": [{"budget": "30%"}, {"budget": "60%", "symmetric": False}, {"budget": "45%", "form": "dq"}],
    "error": [{"type": "int2", "error": 0.05}, {"type": "int4", "levels": "kmeans", "error": 1e-3}],
}


@pytest.mark.parametrize("asked", ASKED)
def test_bound_holds_with_mixed_types(asked):
    types = Counter()

    def judged(trial):
        rows = [row.cells for row in trial.report.layers if row.by == "quantize-insert, types"]
        types.update(cells["type"].split()[0] for cells in rows)
        return excess(trial)

    for options in ASKED[asked]:
        pass_ = OnSixSamples(min_bytes=0, rounding="nearest", bias_correction="false", **options)
        checked = check_pass(pass_, models=models(opsets=(10, 21)), backend=OrtBackend(), bound=judged)
        assert checked.compared > checked.examples / 10
    assert len(types) > 2
