"""Stands in for SGLang's kernels, which exist as CUDA builds only, so that SGLang 0.5.23 imports on a CPU.

The names below are what it imports there by name; without AMX it calls none of them. Any other name is
refused, so that SGLang takes its own way round it.
"""

from typing import NoReturn

_NAMES = (
    "assign_draft_cache_locs_contiguous_cpu",
    "assign_extend_cache_locs_cpu",
    "assign_req_to_token_pool_cpu",
    "build_tree_kernel_efficient_cpu",
    "copy_all_layer_kv_cache_cpu",
    "fill_accept_out_cache_loc_cpu",
    "fill_bonus_tokens_cpu",
    "rotate_input_ids_cpu",
    "verify_tree_greedy_cpu",
)


def _missing(*_: object, **__: object) -> NoReturn:
    raise NotImplementedError("sgl_kernel has no build for this CPU: LatencyPrism put a stand-in there")


globals().update(dict.fromkeys(_NAMES, _missing))
