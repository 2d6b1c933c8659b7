"""Runs the real torchvision behind two operators that its CUDA library would have declared.

The wheel's library does not load beside a CPU build of torch, and its Python part then stops at the first
operator that is not known. Here they are declared and never defined: nothing that we serve calls them.
"""

import sys
from pathlib import Path

import torch

_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

_HERE = Path(__file__).parent
_places = (Path(folder or ".") / "torchvision" for folder in sys.path)
_real = next(place for place in _places if place.resolve() != _HERE and (place / "__init__.py").is_file())
__path__ = [str(_real)]
__file__ = str(_real / "__init__.py")
exec(compile(Path(__file__).read_text(encoding="utf-8"), __file__, "exec"))  # noqa: S102 - the real package's own first file, run under its own name
